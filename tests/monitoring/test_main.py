"""The command: what it ends with, whatever happens."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
from monitoring import monitor  # noqa: E402
from monitoring.__main__ import main  # noqa: E402
from monitoring.monitor import Report  # noqa: E402
from serving.server import request_log  # noqa: E402
from tests.monitoring.logs import (  # noqa: E402
    images,
    predict_log,
    same_as_training,
    write,
    write_log,
)

pytestmark = pytest.mark.tf

PROJECT = Path(__file__).parents[2]


def test_too_little_to_compare(runs, tmp_path, run):
    log = tmp_path / "log"
    assert "no such request log" in run(log, runs.output)[1].err
    log.mkdir()
    status, printed = run(log, runs.output)
    assert (status, printed.out) == (2, "")
    assert "no logged request with images" in printed.err
    write_log(log, images(10, 1), ["cat"] * 10, runs.first)
    status, printed = run(log, runs.output)
    assert status == 2
    assert printed.err == (
        f"There are 10 live images of cifar, version {runs.first}, but a comparison "
        "needs 100: wait for more, or pass --fewest.\n"
    )


def test_failure_never_says_alarm(runs, tmp_path, run, monkeypatch):
    write(tmp_path, same_as_training(300, 77, version=runs.first))
    with monkeypatch.context() as patch:
        patch.setattr(monitor, "compare", lambda *_: 1 / 0)
        status, printed = run(tmp_path, runs.output)
    assert (status, printed.out) == (2, "")
    assert "ZeroDivisionError" in printed.err
    with monkeypatch.context() as patch:
        patch.setattr(
            request_log, "read_file", lambda *_: os.listdir("/nowhere/at/all")
        )
        status, printed = run(tmp_path, runs.output)
    assert (status, printed.out) == (2, "")
    assert printed.err == ("[Errno 2] No such file or directory: '/nowhere/at/all'\n")


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("--window=0", "'0': must be a whole number from 1 on"),
        ("--fewest=-5", "'-5': must be a whole number from 1 on"),
        ("--fewest=many", "'many': must be a whole number from 1 on"),
        ("--chance=1.5", "'1.5': must be a number between 0 and 1"),
        ("--chance=nan", "'nan': must be a number between 0 and 1"),
        ("--cool_down=5", "'5': must be like 30s, 5m, 1h or 2d"),
        ("--cool_down=0s", "'0s': must be like 30s, 5m, 1h or 2d"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(tmp_path, capsys, option, rule):
    with pytest.raises(SystemExit) as ended:
        main(["once", "--requests", str(tmp_path), option])
    assert ended.value.code == 2
    name = option.partition("=")[0]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"python -m monitoring once: error: argument {name}: {rule}"


def test_it_starts_alone_and_light():
    """It knows no pipeline, and who asks for its options does not wait for TensorFlow."""
    code = (
        "import sys; from monitoring.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'tfx', 'pandas', 'ml_metadata', 'pipeline'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.startswith("usage: python -m monitoring ")
    assert result.stdout.splitlines()[-1] == "loaded []"


def test_the_command_ends_with_its_status(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "monitoring", "once", f"--requests={tmp_path}/none"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{tmp_path}/none: there is no such request log.\n"


def test_a_command_on_alarm_needs_a_place_for_its_record(tmp_path, capsys):
    asked = ["once", f"--requests={tmp_path}", "--retrain=true"]
    assert main(asked) == 2
    assert capsys.readouterr().err.startswith("--retrain needs --output DIR")


def test_an_alarm_is_written_down_and_starts_the_command_once(runs, tmp_path, run):
    log, output = tmp_path / "log", tmp_path / "out"
    bright = {"images": images(300, 5, brightness=200)}
    write(log, predict_log(bright, ["cat"] * 300, version=runs.first))
    options = (f"--output={output}", "--retrain=true", "--no_pictures")
    status, printed = run(log, runs.output, *options)
    assert status == 1
    assert "started: true\n" in printed.out
    found = Report.from_json((output / "monitoring.json").read_text(), "it")
    assert found.versions[str(runs.first)].alarm
    assert "<img" not in (output / "monitoring.html").read_text()
    assert b"monitoring_alarm{" in (output / "monitoring.prom").read_bytes()
    assert {path.stat().st_mode & 0o777 for path in output.glob("monitoring.*")} == {
        0o600
    }
    status, printed = run(log, runs.output, *options)
    assert "nothing is started: the last start is too recent" in printed.out
    assert len((output / "retrain.jsonl").read_text().splitlines()) == 1


def test_watching_goes_on_until_it_is_told_to_stop(runs, tmp_path):
    """It reads what comes in, serves its metrics, and ends by SIGTERM with 0."""
    log, output = tmp_path / "log", tmp_path / "out"
    write(log, same_as_training(300, 77, version=runs.first))
    command = [
        *(sys.executable, "-m", "monitoring", "watch", f"--requests={log}"),
        *(f"--pipeline_output={runs.output}", f"--output={output}", "--window=100"),
        *("--every=1s", "--prometheus_port=0"),
    ]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        place = process.stdout.readline().removeprefix("metrics on ").strip()
        assert process.stdout.readline() == "watching\n"
        bright = {"images": images(200, 5, brightness=200)}
        write(log, predict_log(bright, ["cat"] * 200, version=runs.first))
        assert process.stdout.readline().startswith(
            f"ALARM cifar, version {runs.first}: "
        )
        with urllib.request.urlopen(place, timeout=30) as answer:
            shown = answer.read().decode()
        own = f'{{model_name="cifar",version="{runs.first}"}}'
        # The loop may be about to tell of the alarm.
        assert f"monitoring_windows_total{own}" in shown
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    found = Report.from_json((output / "monitoring.json").read_text(), "it")
    assert found.versions[str(runs.first)].judged == 5
