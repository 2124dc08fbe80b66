"""What an alarm starts, and that it is not started again too soon."""

import json
import shlex
import sys

import pytest

from monitoring import NothingToCompare, retrain
from monitoring.comparison import Window
from monitoring.monitor import Change, Report

WINDOW = Window(images=500, first=1, last=2, tests=())
CHANGE = Change(1_800_000_000, "raised", ("sharpness", "classes"), WINDOW)
REPORT = Report(made=3, model="cifar", versions={}, pairs=(), unused=0, problems=())
PRINTING = shlex.join(
    [
        sys.executable,
        "-c",
        "import os; print(*(os.environ['MONITORING_' + n] for n in "
        "('MODEL', 'VERSION', 'WHY', 'REPORT')), sep='|')",
    ]
)


def test_the_command_is_told_why_and_a_record_is_kept(tmp_path):
    started = retrain.start(PRINTING, tmp_path, 3600, REPORT, CHANGE)
    assert started is not None and started.wait(60) == 0
    (line,) = (tmp_path / retrain.RECORD).read_text().splitlines()
    record = json.loads(line)
    assert (record["version"], record["why"]) == (CHANGE.version, [*CHANGE.why])
    assert (record["command"], record["window"]["images"]) == (PRINTING, 500)
    assert (tmp_path / record["output"]).read_text().strip() == (
        f"cifar|1800000000|sharpness,classes|{tmp_path}/monitoring.json"
    )


def test_it_is_not_started_again_within_the_cool_down(tmp_path, monkeypatch):
    now = 1.9e9
    monkeypatch.setattr(retrain.time, "time", lambda: now)
    record = tmp_path / retrain.RECORD
    for seconds, lines in ((0, 1), (3599, 1), (1, 2), (10, 2)):
        now += seconds
        started = retrain.start(PRINTING, tmp_path, 3600, REPORT, CHANGE)
        if started is not None:
            assert started.wait(60) == 0
        assert len(record.read_text().splitlines()) == lines


def test_what_cannot_be_started_is_said_and_counts_as_a_start(tmp_path):
    with pytest.raises(NothingToCompare, match="--retrain=/no/such: it cannot be st"):
        retrain.start("/no/such", tmp_path, 3600, REPORT, CHANGE)
    assert retrain.start(PRINTING, tmp_path, 3600, REPORT, CHANGE) is None


def test_a_damaged_record_starts_nothing(tmp_path):
    (tmp_path / retrain.RECORD).write_text('{"time": 5}\n{"ti')
    with pytest.raises(NothingToCompare, match="remove that line"):
        retrain.start(PRINTING, tmp_path, 3600, REPORT, CHANGE)
    assert not list(tmp_path.glob("*.log"))
