"""Servers as their users start them: `python -m serving.server` in a process."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[3]
START_SECONDS = 120  # a loaded machine takes long to import TensorFlow


def start(
    *arguments: str, wait: bool = True, most_files: int | None = None
) -> SimpleNamespace:
    """Starts `python -m serving.server`; returns when it says that it serves."""

    def limit_files() -> None:
        if most_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))

    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for name in (
        "TF_CPP_MIN_LOG_LEVEL",  # JAX, imported here, has set it
        "TF_ENABLE_ONEDNN_OPTS",  # of trainings (tests/conftest.py)
    ):
        environment.pop(name, None)
    popen = subprocess.Popen(
        [sys.executable, "-m", "serving.server", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=limit_files,
    )
    child = SimpleNamespace(popen=popen, lines=[], address="")
    said = threading.Condition()

    def read() -> None:
        assert popen.stderr is not None
        for line in popen.stderr:
            with said:
                child.lines.append(line)
                said.notify_all()
        with said:
            child.lines.append("")  # its end
            said.notify_all()

    child.reader = threading.Thread(target=read, daemon=True)
    child.reader.start()

    def ready() -> str | None:
        return next(
            (line for line in child.lines if not line or line.startswith("serving ")),
            None,
        )

    if wait:
        with said:
            assert said.wait_for(lambda: ready() is not None, START_SECONDS), (
                child.lines
            )
        child.ready = ready()
        assert child.ready, "".join(child.lines)
        found = re.search(r"(127\.0\.0\.1:\d+) \(gRPC", child.ready)
        child.address = found[1] if found else ""
    return child


def resident_bytes(pid: int) -> int:
    """Memory of a process now."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def end(child: SimpleNamespace, seconds: float = 60) -> int:
    """Asks a server to stop, twice as GNU timeout does; returns its exit status."""
    for _ in range(2):
        child.popen.send_signal(signal.SIGTERM)
    status = child.popen.wait(seconds)
    child.reader.join(seconds)
    return status


def wait_for(condition: Any, seconds: float = 60) -> None:
    """Polls until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
