"""The benchmark of hostile clients: what it prints, and that all of it runs."""

import json
import subprocess
import sys

import pytest

from benchmarks import serve_hostile, serve_hostile_load


def test_table_has_every_target():
    times = {"alone": 10.0, "attacks 1 s apart": 25.0, "attacks 0 s apart": 50.0}
    result = {
        "plan": {"pauses": [None, 1.0, 0.0]},
        "failed": 2,
        "requests": 30_000,
        "tracebacks": 0,
        "attacks": {"long_names": {"400": 600, "INVALID_ARGUMENT": 601}},
        "unexpected": ["long_names: 500"],
        "grpc": {"p50": times, "p99": times},
        "rest": {"p50": times, "p99": times},
        "phases": [{"megabytes": 1000.0}, {"megabytes": 1010.0}],
        "growth_second_half": 10.0,
    }
    table = serve_hostile.markdown(result)
    assert "| honest requests that failed | 2 of 30,000 | 0 |" in table
    assert "otherwise than they should be | 1 of 1,201 | 0 |" in table
    assert (
        "| gRPC, p99, attacks 1 s apart | 2.5 x (25.0 against 10.0 ms) | < 3 x |"
        in table
    )
    assert (
        "| REST, p99, attacks 0 s apart | 5.0 x (50.0 against 10.0 ms) | < 3 x |"
        in table
    )
    assert "| memory, second half | +10.0 MB; at most 1010 | no growth |" in table
    assert {line.count("|") for line in table.splitlines()} == {4}


def test_a_reload_is_written_as_protobuf_has_it():
    entry = serve_hostile_load.field(1, b"m") + serve_hostile_load.field(2, b"/etc")
    assert entry == b"\x0a\x01m\x12\x04/etc"


@pytest.mark.bench
@pytest.mark.tf
@pytest.mark.timeout(300)
def test_quick_run_measures_everything(tmp_path):
    output = tmp_path / "serve_hostile.json"
    run = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.serve_hostile", "--quick",
            "--output", str(output),
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    result = json.loads(output.read_text())
    assert result["failed"] == 0 and result["requests"] > 100
    assert result["unexpected"] == [] and result["tracebacks"] == 0
    made = {attack.__name__ for attack, _ in serve_hostile_load.ATTACKS}
    assert set(result["attacks"]) == made
    assert "| what | measured | target |" in run.stdout
