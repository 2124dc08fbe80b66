"""Puts a SavedModel into the folder that TensorFlow Serving watches, all or nothing.

The last step of the flow: a folder in, `<base>/<version>/` out. TensorFlow Serving polls
the base folder and takes every child whose name is an integer, also a half-written
one; so the copy grows under a hidden name on the same file system and gets its number
by one rename, after every byte of it is on disk. Whatever kills this process, at any
moment, a version is either absent or complete.

Standard library only. Sources: rename(2), renameat2(2), flock(2), fsync(2); for names
tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import filecmp
import logging
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from contract.records import BASELINE_FILE, MODEL_FILE

LOCK_NAME = ".publish.lock"
TEMPORARY_PREFIX = ".tmp-publish-"

# TensorFlow Serving's versions are int64.
_HIGHEST_VERSION = 2**63 - 1
_COPY_CHUNK_BYTES = 1 << 20
_LOCK_POLL_SECONDS = 0.05

_log = logging.getLogger(__name__)


class PublishError(RuntimeError):
    """Nothing was published; the message says what, where and why."""


def publish(
    source_dir: str | os.PathLike[str],
    base_dir: str | os.PathLike[str],
    *,
    deadline_seconds: float = 600.0,
) -> int:
    """Publishes a SavedModel as the next version and returns that version.

    One publisher at a time works in a base folder; others wait for it. The lock is the
    kernel's and goes with the process that held it, so an unfinished copy that the next
    publisher finds belongs to nobody alive, and is removed.

    Args:
        source_dir: Local SavedModel folder (with `saved_model.pb`); only read.
        base_dir: Local folder of version folders; made if absent. Everything in it that
            is not this module's is left alone.
        deadline_seconds: How long to wait for another publisher.

    Returns:
        The version: Unix seconds, or one more than the highest version there.

    Raises:
        PublishError: The source is no SavedModel or cannot be read, the destination
            cannot be written or is not local, or another publisher did not finish in
            time.
    """
    source, base = _local(source_dir, "source"), _local(base_dir, "destination")
    _check_saved_model(source)
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _lock(base, deadline_seconds):
            _remove_leftovers(base)
            temporary = base / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
            try:
                _copy_folder(source, temporary)
                version = _rename_to_version(temporary, base)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            _sync_folder(base)
    except OSError as error:
        raise PublishError(
            f"{source} was not published to {base}: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else "")
        ) from error
    return version


def next_version(names: Iterable[str], now_seconds: float) -> int:
    """The version after those in a base folder.

    Args:
        names: All names in the folder; those that are no version are ignored.
        now_seconds: Unix time. A clock that went back does not make versions go back.

    Raises:
        PublishError: The highest possible version is taken.
    """
    highest = max(versions(names), default=0)
    if highest == _HIGHEST_VERSION:
        raise PublishError(
            f"version {highest} exists, the highest that TensorFlow Serving knows; "
            "remove or rename it"
        )
    return max(int(now_seconds), highest + 1)


def versions(names: Iterable[str]) -> list[int]:
    """Those names that TensorFlow Serving reads as versions, ascending."""
    found = (int(name) for name in names if name.isascii() and name.isdigit())
    return sorted(version for version in found if version <= _HIGHEST_VERSION)


def newest(base_dir: str | os.PathLike[str]) -> Path | None:
    """Folder of the highest version in a local base folder; None if there is none."""
    base = Path(base_dir).absolute()
    there = versions(
        entry.name
        for entry in (base.iterdir() if base.is_dir() else ())
        if (entry / MODEL_FILE).is_file()
    )
    return base / str(there[-1]) if there else None


def same_files(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two local folders hold the same model: its files are equal, byte for byte.

    What the push adds (BASELINE_FILE) does not count: it makes no other model.
    """
    names = _files(one)
    return names == _files(other) and all(
        filecmp.cmp(Path(one, name), Path(other, name), shallow=False) for name in names
    )


def _files(folder: str | os.PathLike[str]) -> set[Path]:
    found = {
        path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()
    }
    return found - {Path(BASELINE_FILE)}


def _local(path: str | os.PathLike[str], role: str) -> Path:
    text = os.fspath(path)
    if "://" in text:
        raise PublishError(
            f"{role} {text}: only local folders can be published from and to, because "
            "object stores cannot rename a folder in one step"
        )
    return Path(text).absolute()


def _check_saved_model(source: Path) -> None:
    if not source.is_dir():
        raise PublishError(f"{source}: there is no such folder, so nothing to publish")
    if not (source / MODEL_FILE).is_file():
        raise PublishError(
            f"{source}: not a SavedModel, it has no saved_model.pb; "
            "nothing was published"
        )


@contextlib.contextmanager
def _lock(base: Path, deadline_seconds: float) -> Iterator[None]:
    """Holds the base folder's lock; its file stays, for removing it would be a race."""
    # For writing, because NFS makes flock a byte-range lock, which asks for that.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(base / LOCK_NAME, flags, 0o666)
    try:
        _acquire(descriptor, base, deadline_seconds)
        try:
            yield
        finally:
            # Not left to close(): a child forked meanwhile would keep the lock alive.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, base: Path, deadline_seconds: float) -> None:
    deadline = time.monotonic() + deadline_seconds
    waiting = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise PublishError(
                    f"{base}: another publisher has held {LOCK_NAME} for "
                    f"{deadline_seconds:g} s; nothing was published"
                ) from None
        if not waiting:
            _log.info("another publisher works in %s; waiting for it", base)
            waiting = True
        time.sleep(_LOCK_POLL_SECONDS)


def _remove_leftovers(base: Path) -> None:
    """Removes unfinished copies; under the lock, none of them has a living owner."""
    for entry in base.iterdir():
        if entry.name.startswith(TEMPORARY_PREFIX):
            _log.info("removing %s, left by a publisher that was stopped", entry)
            try:
                shutil.rmtree(entry)
            except OSError as error:
                # It costs space, no correctness; somebody else may own it.
                _log.warning("%s cannot be removed: %s", entry, error)


def _copy_folder(source: Path, target: Path) -> None:
    """Copies a tree to stable storage; the umask makes modes, links are followed."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        mode = entry.stat().st_mode
        if stat.S_ISDIR(mode):
            _copy_folder(entry, target / entry.name)
        elif stat.S_ISREG(mode):
            _copy_file(entry, target / entry.name)
        else:
            raise PublishError(
                f"{entry}: neither file nor folder; nothing was published"
            )
    _sync_folder(target)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, _COPY_CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_to_version(temporary: Path, base: Path) -> int:
    while True:
        version = next_version(os.listdir(base), time.time())
        try:
            _rename_without_replacing(temporary, base / str(version))
        except FileExistsError:
            continue  # somebody who knows nothing of the lock was faster; take the next
        return version


def _rename_without_replacing(source: Path, target: Path) -> None:
    """rename(2), but an existing target is an error even if it is an empty folder.

    Raises:
        FileExistsError: `target` exists.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(source), os.fsencode(target)
    if sys.platform == "darwin":
        failed = libc.renamex_np(old, new, ctypes.c_uint(4))  # RENAME_EXCL
    else:
        here = -100  # AT_FDCWD; the paths are absolute
        no_replace = ctypes.c_uint(1)  # RENAME_NOREPLACE
        failed = libc.renameat2(here, old, here, new, no_replace)
    if not failed:
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        # A file system without the flag (NFS, FUSE). Among publishers the lock suffices.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "exists already", str(target))
        source.rename(target)
        return
    raise OSError(code, os.strerror(code), str(target))
