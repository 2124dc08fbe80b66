"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


class FolderInUse(Exception):
    """Another process holds the output folder; the message is one line for a person."""


@contextlib.contextmanager
def exclusive(output_root: str) -> Iterator[None]:
    """Holds the output folder for one run at a time.

    Raises:
        FolderInUse: Another run holds it; the message names its process.
    """
    os.makedirs(output_root, exist_ok=True)
    path = os.path.join(output_root, ".lock")
    with open(path, "a+", encoding="utf-8") as lock:
        try:
            # The kernel drops the lock when the process dies, however it dies.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise FolderInUse(
                f"output_root={output_root}: another run (process {lock.read().strip()}) "
                "is writing there; wait for it, or give this run another output_root"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
