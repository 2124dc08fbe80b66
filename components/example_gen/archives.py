"""Archives as streams of members: nothing is ever extracted, and sizes are bounded.

Standard library only.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterator
from typing import Any

from components.example_gen import storage
from components.example_gen.errors import DataError, one_line

# The official archives hold 185 MB; the limits only stop decompression bombs.
MAX_FILE_BYTES = 256 * 1024**2
MAX_ARCHIVE_BYTES = 2 * MAX_FILE_BYTES
MAX_MEMBERS = 10_000  # of an archive


@contextlib.contextmanager
def nearby(path: str) -> Iterator[str]:
    """The path itself, or a temporary copy of an archive in an object store.

    An archive is read several times, in small pieces. What is wrong with the copy is said
    of the original.

    Raises:
        DataError: It cannot be read, or is larger than any archive of CIFAR.
    """
    if not storage.is_remote(path) or storage.is_folder(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cifar-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        size = storage.size(path)
        if size > MAX_ARCHIVE_BYTES:
            raise DataError(
                f"{path}: has {size:,} bytes, more than the limit of "
                f"{MAX_ARCHIVE_BYTES:,}; take the official archive"
            )
        storage.copy(path, copy)
        try:
            yield copy
        except DataError as error:
            raise DataError(str(error).replace(copy, path)) from None


def member_names(path: str) -> list[str]:
    """Names of an archive's members, without folders.

    Raises:
        DataError: It is damaged, or claims more than an archive of CIFAR has.
    """
    with _tar(path) as (archive, _):
        return [os.path.basename(member.name) for member in _entries(archive, path)]


def members(path: str, files: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Streams the wanted members of an archive, found by their last name.

    Args:
        path: A .tar or .tar.gz file.
        files: Names without folders.

    Yields:
        (name, content), in the archive's order.

    Raises:
        DataError: One is missing, there twice, a link or too large, or the archive is
            damaged.
    """
    seen: set[str] = set()
    with _tar(path) as (archive, stream):
        for member in _entries(archive, path):
            name = os.path.basename(member.name)
            if name not in files or not _wanted(member, path):
                continue
            if name in seen:
                raise DataError(
                    f"{path}: holds {name} twice; take the official archive"
                )
            seen.add(name)
            reader = archive.extractfile(member)
            payload = reader.read() if reader else b""
            if len(payload) != member.size:
                raise DataError(f"{path}: {name} is cut off; copy the archive again")
            yield name, payload
        while stream.read(1024**2):  # to the end, where gzip's checksum stands
            pass
    if missing := [name for name in files if name not in seen]:
        raise DataError(
            f"{path}: {', '.join(missing)} missing; take the official archive"
        )


def _entries(archive: tarfile.TarFile, path: str) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, as far as what they claim can be there.

    tarfile reads over a member in steps, for as long as its header says, also when the
    stream has ended: a claim of 2^62 bytes would keep it busy for ever.
    """
    claimed = 0
    for number, member in enumerate(archive):
        claimed += max(member.size, 0)
        if claimed > MAX_ARCHIVE_BYTES:
            raise DataError(
                f"{path}: its members claim more than {MAX_ARCHIVE_BYTES:,} bytes; take "
                "the official archive"
            )
        if number >= MAX_MEMBERS:
            raise DataError(
                f"{path}: more than {MAX_MEMBERS:,} members; no CIFAR archive"
            )
        yield member


def _wanted(member: tarfile.TarInfo, path: str) -> bool:
    """Whether a member with a known name is a file; refuses links and giants."""
    if member.isdir():
        return False
    if not member.isreg():
        raise DataError(
            f"{path}: {member.name} is a link or device, not a file; take the "
            "official archive"
        )
    if member.size > MAX_FILE_BYTES:
        raise DataError(
            f"{path}: {member.name} claims {member.size:,} bytes, more than the limit "
            f"of {MAX_FILE_BYTES:,}; take the official archive"
        )
    return True


@contextlib.contextmanager
def _tar(path: str) -> Iterator[tuple[tarfile.TarFile, Any]]:
    """Opens a tar stream, compressed or not; damage of any kind becomes a DataError."""
    with storage.opened(path) as file:
        head = file.read(2)
        file.seek(0)
        source = gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file
        stream: Any = _Bounded(source, MAX_ARCHIVE_BYTES, path)
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=1024**2) as archive:
                yield archive, stream
        except DataError:
            raise
        except (
            tarfile.TarError,
            gzip.BadGzipFile,
            zlib.error,
            EOFError,
            ValueError,  # numbers and text of a header
            RecursionError,  # a chain of headers that only describe the next one
            OverflowError,
            MemoryError,
        ) as error:
            raise DataError(
                f"{path}: not a readable .tar or .tar.gz archive, or damaged "
                f"({one_line(error)}); copy it again"
            ) from None


class _Bounded:
    """A stream of at most `limit` bytes, then an error: against decompression bombs."""

    def __init__(self, source: Any, limit: int, path: str):
        self._source, self._left, self._path = source, limit, path
        self._limit = limit

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes."""
        data = self._source.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._path}: unpacks to more than {self._limit:,} bytes; take the "
                "official archive"
            )
        return data
