"""`python -m serving.server`: reads flags, starts everything, stops on SIGTERM."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import sys
import threading
import time

from serving import quiet
from serving.server import flags as command_line
from serving.server import log_lines, signals

# What stopping may take beyond the grace of calls in flight.
_SECONDS_TO_STOP = 15.0
# Shells give 1,024 files by default, and a connection takes one.
_MOST_FILES = 65_536

_log = logging.getLogger("serving.server")


def main(arguments: list[str]) -> int:
    """Serves until a signal comes; returns the exit status."""
    try:
        flags, warnings = command_line.parse(arguments)
    except command_line.FlagError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if flags.version:
        sys.stdout.write(command_line.versions())
        return 0
    log_lines.to_stderr()
    for warning in warnings:
        _log.warning(warning)
    stop = signals.stop_event()
    loaded = threading.Event()
    threading.Thread(
        target=_end_for_sure,
        args=(stop, loaded, flags.shutdown_grace_seconds + _SECONDS_TO_STOP),
        daemon=True,
    ).start()
    _raise_files_limit()
    # A thread that is woken up waits for the interpreter's lock this long at most.
    sys.setswitchinterval(0.0005)
    try:
        with quiet.loading_tensorflow():
            from serving.server import application
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"Failed to start server. Error: {sys.executable} lacks a package ({error}); "
            "use .venv/bin/python, or `make serve`\n"
        )
        return 1
    loaded.set()

    # TensorFlow's modules stay. Left out of collections, these stop all requests for
    # some milliseconds instead of a quarter of a second, which a change of version is
    # sure to cause.
    gc.collect()
    gc.freeze()
    try:
        server = application.start(flags, stop)
    except application.StartError as error:
        sys.stderr.write(f"Failed to start server. Error: {error}\n")
        return 1
    if not stop.is_set():
        sys.stderr.write(f"{server.ready_line()}\n")
        sys.stderr.flush()
    stop.wait()
    _log.info("stopping: calls in flight get %g s", flags.shutdown_grace_seconds)
    server.stop(flags.shutdown_grace_seconds)
    return 0


def _raise_files_limit() -> None:
    """To what the operator lets the process open, if it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end_for_sure(
    stop: threading.Event, loaded: threading.Event, seconds: float
) -> None:
    """At once while TensorFlow is loaded, which takes long; later when stopping hangs."""
    stop.wait()
    if not loaded.is_set():
        os._exit(0)
    time.sleep(seconds)
    _log.error("the server did not stop in time, and is ended")
    os._exit(1)


if __name__ == "__main__":
    sys.stderr.flush()
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stderr.flush()
    sys.stdout.flush()
    # TensorFlow's and gRPC's threads may still run; nothing of ours needs their end.
    os._exit(status)
