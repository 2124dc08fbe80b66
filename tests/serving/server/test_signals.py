"""Signals in quick succession end a process, and once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAIRS = 200

# Forks, because an interpreter takes longer to start than all pairs take together.
PARENT = """
import os, select, signal, sys, time

def wait(pid, seconds=10.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"

for pair in range({pairs}):
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ready)
        child(pair, lambda: os.write(tell, b"."))
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    os.kill(pid, signal.{signal})
    end = time.perf_counter() + pair / {pairs} * 100e-6
    while time.perf_counter() < end:
        pass
    try:
        os.kill(pid, signal.{signal})
    except ProcessLookupError:
        pass
    outcome = wait(pid)
    if outcome != {expected}:
        sys.exit(f"pair {{pair}}: {{outcome}}")
"""


def run(child: str, signal: str, expected: int) -> str:
    parent = PARENT.format(pairs=PAIRS, signal=signal, expected=expected)
    code = textwrap.dedent(child) + parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stderr


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_two_signals_set_the_servers_event(signal):
    child = """
    from serving.server import signals

    def child(pair, ready):
        stop = signals.stop_event()
        ready()
        stop.wait()
        os._exit(7)
    """
    assert run(child, signal, 7) == ""


@pytest.mark.parametrize(("signal", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_two_signals_end_the_client_after_it_has_tidied_up(signal, status, tmp_path):
    child = f"""
    from serving.client.__main__ import end_on_signals

    def child(pair, ready):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = 1
        try:
            end_on_signals()
            file = open({str(tmp_path)!r} + f"/{{pair}}", "w")
            try:
                ready()
                while True:
                    time.sleep(0.01)
            finally:
                time.sleep(0.001)
                os.remove(file.name)
        except SystemExit as error:
            status = error.code
        except KeyboardInterrupt:
            status = 130
        os._exit(status)
    """
    assert run(child, signal, status) == ""
    assert not list(tmp_path.iterdir())
