"""What an alarm starts, and that it is not started again too soon."""

import contextlib
import json
import shlex
import sys

import pytest

from monitoring import NothingToCompare, retrain
from monitoring.comparison import Window
from monitoring.labelled import Gathered
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


def start(command, folder, gather=lambda _: pytest.fail("nobody asked for images")):
    return retrain.start(command, folder, 3600, REPORT, CHANGE, gather)


def test_the_command_is_told_why_and_a_record_is_kept(tmp_path):
    started = start(PRINTING, tmp_path)
    assert started.wait(60) == 0
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
    # At last the clock is set back, far and for good.
    for seconds, lines in ((0, 1), (3599, 1), (1, 2), (10, 2), (-3700, 3), (-10, 3)):
        now += seconds
        with contextlib.suppress(retrain.NotNow):
            assert start(PRINTING, tmp_path).wait(60) == 0
        assert len(record.read_text().splitlines()) == lines


def test_labelled_images_are_handed_over(tmp_path):
    gathered = []

    def gather(folder):
        gathered.append(folder)
        return Gathered(images=3, new=1, contradictory=0, unknown=0, oldest=0)

    command = shlex.join([sys.executable, "-c", "import sys; print(sys.argv[1:])"])
    started = start(f"{command} data.extra={{labelled}}", tmp_path, gather)
    assert started.wait(60) == 0
    assert gathered == [tmp_path / "labelled"]
    record = json.loads((tmp_path / retrain.RECORD).read_text())
    assert record["labelled_images"] == 3
    said = (tmp_path / record["output"]).read_text()
    assert said == f"['data.extra={tmp_path}/labelled']\n"


def test_without_labelled_images_nothing_is_started(tmp_path):
    nothing = Gathered(images=0, new=0, contradictory=1, unknown=0, oldest=0)
    for found in (None, nothing):
        with pytest.raises(retrain.NotNow, match="no logged image has a label yet"):
            start("train {labelled}", tmp_path, lambda _, found=found: found)
    assert not (tmp_path / retrain.RECORD).exists()


def test_what_cannot_be_started_is_said_and_counts_as_a_start(tmp_path):
    with pytest.raises(NothingToCompare, match="--retrain=/no/such: it cannot be st"):
        start("/no/such", tmp_path)
    with pytest.raises(retrain.NotNow, match="too recent"):
        start(PRINTING, tmp_path)


def test_a_damaged_record_starts_nothing(tmp_path):
    (tmp_path / retrain.RECORD).write_text('{"time": 5}\n{"ti')
    with pytest.raises(NothingToCompare, match="remove that line"):
        start(PRINTING, tmp_path)
    assert not list(tmp_path.glob("*.log"))
