"""The command: what it ends with, whatever happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
from monitoring import statistics  # noqa: E402
from monitoring.__main__ import main  # noqa: E402
from serving.server import request_log  # noqa: E402
from tests.monitoring.logs import images, same_as_training, write, write_log  # noqa: E402

pytestmark = pytest.mark.tf

PROJECT = Path(__file__).parents[2]


def test_too_little_to_compare(runs, tmp_path, run):
    log = tmp_path / "log"
    assert "no such request log" in run(log, runs.output)[1].err
    log.mkdir()
    status, printed = run(log, runs.output)
    assert (status, printed.out) == (2, "")
    assert "holds no logged request with images" in printed.err
    write_log(log, images(10, 1), ["cat"] * 10, runs.first)
    status, printed = run(log, runs.output)
    assert status == 2
    assert printed.err == (
        f"There are 10 live images of cifar, version {runs.first}, but a comparison "
        "needs 200: wait for more, or pass --fewest.\n"
    )


def test_failure_never_says_drift(runs, tmp_path, run, monkeypatch):
    write(tmp_path, same_as_training(300, 77, version=runs.first))
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "compare", lambda *_: 1 / 0)
        status, printed = run(tmp_path, runs.output)
    assert (status, printed.out) == (2, "")
    assert "ZeroDivisionError" in printed.err
    with monkeypatch.context() as patch:
        patch.setattr(request_log, "read", lambda _: os.listdir("/nowhere/at/all"))
        status, printed = run(tmp_path, runs.output)
    assert (status, printed.out) == (2, "")
    assert printed.err == ("[Errno 2] No such file or directory: '/nowhere/at/all'\n")


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("--most=0", "'0': must be a whole number from 1 on"),
        ("--most=-5", "'-5': must be a whole number from 1 on"),
        ("--fewest=many", "'many': must be a whole number from 1 on"),
        ("--most_divergence=1.5", "'1.5': must be a number from 0 to 1"),
        ("--most_class_change=nan", "'nan': must be a number from 0 to 1"),
        ("--most_class_change=x", "'x': must be a number from 0 to 1"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(tmp_path, capsys, option, rule):
    with pytest.raises(SystemExit) as ended:
        main(["--request_log_dir", str(tmp_path), option])
    assert ended.value.code == 2
    name = option.partition("=")[0]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"python -m monitoring: error: argument {name}: {rule}"


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
        [sys.executable, "-m", "monitoring", f"--request_log_dir={tmp_path}/none"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{tmp_path}/none: there is no such request log.\n"
