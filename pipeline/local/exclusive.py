"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import IO

from contract.fields import ConfigError


class FolderInUse(Exception):
    """Another process holds the output folder; the message is one line for a person."""


@contextlib.contextmanager
def exclusive(output_root: str) -> Iterator[None]:
    """Holds the output folder, which is made if absent, for one run at a time.

    Raises:
        ConfigError: It cannot be made or written.
        FolderInUse: Another run holds it; the message names its process.
    """
    try:
        os.makedirs(output_root, exist_ok=True)
        lock = open(  # noqa: SIM115
            os.path.join(output_root, ".lock"), "a+", encoding="utf-8", opener=_own
        )
    except OSError as error:
        raise _unusable(output_root, error) from None
    with lock:
        _acquire(lock, output_root)
        yield


def _own(path: str, flags: int) -> int:
    """Opens no link: what it leads to, in a folder from elsewhere, would be emptied."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _acquire(lock: IO[str], output_root: str) -> None:
    try:
        # The kernel drops the lock when the process dies, however it dies.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read(20).strip()
        raise FolderInUse(
            f"output_root={output_root}: another run"
            f"{f' (process {holder})' if holder else ''} is writing there; wait for it, "
            "or give this run another output_root"
        ) from None
    except OSError as error:  # no space, or a file system without locks
        raise _unusable(output_root, error) from None


def _unusable(output_root: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"output_root={output_root}: must be a folder that can be made and written "
        f"({error.strerror}: {error.filename or '.lock'}); choose another folder, or "
        "change this one"
    )
