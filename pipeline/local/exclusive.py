"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import IO

from contract.fields import ConfigError

# Who only asks (`holder`) has the lock for microseconds.
_TRIES, _PAUSE_SECONDS = 5, 0.02


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


def holder(output_root: str) -> str | None:
    """Who runs in a folder now, in words; None: nobody. Makes nothing."""
    try:
        lock = open(  # noqa: SIM115
            os.path.join(output_root, ".lock"), errors="replace", opener=_own
        )
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _named(lock)
        except OSError:  # a file system without locks
            pass
    return None


def _named(lock: IO[str]) -> str:
    lock.seek(0)
    number = lock.read(20).strip()
    return f"another run{f' (process {number})' if number else ''}"


def _own(path: str, flags: int) -> int:
    """Opens no link: what it leads to, in a folder from elsewhere, would be emptied."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _acquire(lock: IO[str], output_root: str) -> None:
    try:
        # The kernel drops the lock when the process dies, however it dies.
        for _ in range(_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_PAUSE_SECONDS)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    except BlockingIOError:
        raise FolderInUse(
            f"output_root={output_root}: {_named(lock)} is writing there; wait for it, "
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
