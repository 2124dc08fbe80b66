"""How far ingestion is, for the console (pipeline/console.py). Standard library only."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

from contract.progress import PROGRESS_LOGGER

_progress = logging.getLogger(PROGRESS_LOGGER)


def report(done: int, total: int, unit: str, task: str) -> None:
    """Tells the console how far a task is."""
    state = {"done": done, "total": total, "unit": unit, "task": task}
    _progress.info(
        "%s: %s of %s %s",
        task,
        f"{done:,}",
        f"{total:,}",
        unit,
        extra={"progress": state},
    )


@contextlib.contextmanager
def growth(folder: str, total: int, task: str) -> Iterator[None]:
    """Reports how a download in a folder grows towards `total` bytes, during the body."""
    finished = threading.Event()

    def watch() -> None:
        while not finished.wait(0.5):
            size = 0
            for parent, _, names in os.walk(folder):
                if "extracted" in parent:
                    continue
                for name in names:
                    with contextlib.suppress(OSError):  # renamed meanwhile
                        size += os.path.getsize(os.path.join(parent, name))
            report(min(size, total) // 10**6, total // 10**6, "MB", task)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
