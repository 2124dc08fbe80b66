"""Official CIFAR files to validated records: folders, archives, both encodings.

Nothing here trusts its input: archives are read as streams of members (nothing is ever
extracted), sizes are bounded, pickles may hold plain containers and arrays only, and
each record is checked. NumPy and the standard library only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np

from components.example_gen import layout as layouts
from components.example_gen import safe_pickle
from components.example_gen.layout import DataError, Layout
from contract.datasets import DATASETS
from contract.features import IMAGE_BYTES, TEST, TRAIN

CHUNK_RECORDS = 2_000  # 6 MB of pixels: small beside the workers' memory
# The official archives hold 185 MB; the limits only stop decompression bombs.
MAX_FILE_BYTES = 256 * 1024**2
MAX_ARCHIVE_BYTES = 2 * MAX_FILE_BYTES
MAX_MEMBERS = 10_000  # of an archive
_PLANES = (3, 32, 32)  # channel, row, column: the order inside a record


class Records(NamedTuple):
    """A chunk of validated images."""

    pixels: np.ndarray  # uint8 [n, 3072], row-major [32, 32, 3], RGB
    labels: np.ndarray  # int64 [n]
    coarse_labels: np.ndarray | None  # int64 [n], cifar100 only


@dataclass(frozen=True, kw_only=True)
class Located:
    """Official files that have been found and checked."""

    path: str  # the folder that holds the files, or the archive
    is_archive: bool
    layout: Layout
    counts: dict[str, int]  # file name -> records
    verified: bool
    verification: str  # a sentence for reports
    sha256: str = ""  # of an archive


def inspect(path: str, dataset: str, *, allow_unverified: bool) -> Located:
    """Finds and verifies official files; whatever cannot be verified is read whole.

    Args:
        path: Folder, its parent, or .tar/.tar.gz archive; local or gs://. An archive
            in an object store is copied to a temporary file, and the copy is checked.
        dataset: "cifar10" or "cifar100".
        allow_unverified: Accept files whose checksum is not the published one.

    Raises:
        DataError: Nothing is there, it is not the data set, it is damaged, or it is
            unverified and that is not allowed.
    """
    with _nearby(path) as near:
        located = _inspect(near, dataset, allow_unverified=allow_unverified)
    if near == path:
        return located
    words = located.verification.replace(near, path)
    return dataclasses.replace(located, path=path, verification=words)


def _inspect(path: str, dataset: str, *, allow_unverified: bool) -> Located:
    is_archive = not _is_folder(path)
    if not is_archive:
        folder, layout = layouts.find_folder(path, dataset, _list_folders(path))
        path, actual = folder, ""
    else:
        actual = _sha256(path)
        layout = _layout_of_archive(path, dataset, actual)
    if is_archive and actual == layout.sha256:
        return Located(
            path=path,
            is_archive=True,
            layout=layout,
            counts=_official_counts(layout),
            verified=True,
            verification=f"SHA-256 of {os.path.basename(path)} is the published one",
            sha256=actual,
        )
    wrong = _first_unverified(path, is_archive, layout)
    if wrong is None:
        verified = True
        verification = f"MD5 of each file of {layout.folder} is the published one"
    elif allow_unverified:
        verified, verification = False, _unverified(layout, path, actual, wrong)
    else:
        raise DataError(
            f"{_unverified(layout, path, actual, wrong)}; take the official archive, "
            "or accept the data as they are with data.allow_unverified=true"
        )
    counts: dict[str, int] = dict.fromkeys(layout.files, 0)
    for name, records in _read(path, is_archive, layout):
        counts[name] += len(records.labels)
    found, official = sum(counts.values()), sum(_official_counts(layout).values())
    if not verified and found != official:
        verification += f"; {found:,} records instead of the official {official:,}"
    return Located(
        path=path,
        is_archive=is_archive,
        layout=layout,
        counts=counts,
        verified=verified,
        verification=verification,
        sha256=actual,
    )


def read(located: Located, files: Collection[str]) -> Iterator[tuple[str, Records]]:
    """Yields (file name, chunk of records), validated, in the order of the source.

    An archive in an object store is copied to a temporary file first, and must still be
    the one that was inspected.

    Raises:
        DataError: A file is damaged; the message names it and the record.
    """
    with _nearby(located.path) as path:
        if path != located.path and _sha256(path) != located.sha256:
            raise DataError(f"{located.path}: was changed while it was read; run again")
        yield from _read(path, located.is_archive, located.layout, files)


def remote_objects(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time (ns) of an object, or of all in a folder of an object store.

    Raises:
        DataError: There is nothing.
    """
    names = [path]
    with _readable(path):
        if _is_folder(path):
            names = [
                os.path.join(folder, name)
                for folder, _, files in _gfile().walk(path)
                for name in sorted(files)
            ]
        facts = [(name, _gfile().stat(name)) for name in names]
    return [(name, fact.length, fact.mtime_nsec) for name, fact in facts]


def split_of(layout: Layout, name: str) -> str:
    """TRAIN or TEST, before the eval split is carved out."""
    return TEST if name in layout.test else TRAIN


def parse_binary(payload: bytes, dataset: str, where: str) -> Iterator[Records]:
    """Parses official binary records: label byte(s), then 3,072 bytes by channel.

    Args:
        payload: A whole file.
        dataset: "cifar10" (one label byte) or "cifar100" (coarse, then fine).
        where: The file's name for messages.

    Raises:
        DataError: Empty, not a whole number of records, or a label is out of range.
    """
    label_bytes = 2 if dataset == "cifar100" else 1
    size = label_bytes + IMAGE_BYTES
    whole, rest = divmod(len(payload), size)
    if not payload:
        raise DataError(f"{where}: the file is empty; copy it again")
    if rest:
        raise DataError(
            f"{where}: {len(payload):,} bytes are {whole:,} records of {size:,} bytes "
            f"and {rest:,} bytes more, record {whole} is cut off or this is no "
            f"{DATASETS[dataset].title} file; copy it again"
        )
    table = np.frombuffer(payload, np.uint8).reshape(whole, size)
    for start in range(0, whole, CHUNK_RECORDS):
        part = table[start : start + CHUNK_RECORDS]
        yield _records(
            dataset,
            part[:, label_bytes:],
            part[:, label_bytes - 1].astype(np.int64),
            part[:, 0].astype(np.int64) if label_bytes == 2 else None,
            where=where,
            first=start,
        )


def parse_python(payload: bytes, dataset: str, where: str) -> Iterator[Records]:
    """Parses one official python file: a pickled dictionary of `data` and labels.

    Args:
        payload: A whole file, pickled by Python 2 or 3.
        dataset: "cifar10" or "cifar100".
        where: The file's name for messages.

    Raises:
        DataError: Not such a pickle, other shapes or types, or a label out of range.
    """
    if not payload:
        raise DataError(f"{where}: the file is empty; copy it again")
    try:
        content = safe_pickle.loads(payload)
    except safe_pickle.Refused as error:
        raise DataError(
            f"{where}: {error}; only arrays and plain containers are read, take the "
            "official file"
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            f"{where}: holds a {type(content).__name__}, not a dictionary; take the "
            "official file"
        )
    entries = {
        k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in content.items()
    }
    label_key = "fine_labels" if dataset == "cifar100" else "labels"
    data = _array(entries, "data", where)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != IMAGE_BYTES:
        raise DataError(
            f"{where}: data is {data.dtype}{list(data.shape)}, must be uint8[records, "
            f"{IMAGE_BYTES}]; take the official file"
        )
    count = len(data)
    if not count:
        raise DataError(f"{where}: holds no records; take the official file")
    labels = _label_list(entries, label_key, count, where)
    coarse = None
    if dataset == "cifar100":
        coarse = _label_list(entries, "coarse_labels", count, where)
    for start in range(0, count, CHUNK_RECORDS):
        part = slice(start, start + CHUNK_RECORDS)
        yield _records(
            dataset,
            data[part],
            labels[part],
            None if coarse is None else coarse[part],
            where=where,
            first=start,
        )


def check_labels(
    labels: np.ndarray, classes: int, where: str, *, first: int = 0, kind: str = "label"
) -> None:
    """Refuses labels outside [0, classes), naming the first such record."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: record {first + int(wrong[0])} has {kind} {labels[wrong[0]]}, "
            f"must be 0 to {classes - 1}; the file is damaged or another data set, "
            "copy it again"
        )


def _records(
    dataset: str,
    planes: np.ndarray,
    labels: np.ndarray,
    coarse: np.ndarray | None,
    *,
    where: str,
    first: int,
) -> Records:
    """Checks labels and brings pixels from channel-major to row-major order."""
    entry = DATASETS[dataset]
    check_labels(labels, len(entry.class_names), where, first=first)
    if coarse is not None:
        classes = len(entry.coarse_class_names)
        check_labels(coarse, classes, where, first=first, kind="coarse label")
    rows = planes.reshape(-1, *_PLANES).transpose(0, 2, 3, 1)
    return Records(np.ascontiguousarray(rows).reshape(-1, IMAGE_BYTES), labels, coarse)


def _array(entries: dict[Any, Any], key: str, where: str) -> np.ndarray:
    if key not in entries:
        known = ", ".join(sorted(map(safe_pickle.brief, entries))[:10]) or "nothing"
        raise DataError(
            f"{where}: has no {key!r} (has {known}); take the official file"
        )
    if not isinstance(entries[key], np.ndarray):
        raise DataError(
            f"{where}: {key!r} is a {type(entries[key]).__name__}, not an array; take "
            "the official file"
        )
    return entries[key]


def _label_list(
    entries: dict[Any, Any], key: str, count: int, where: str
) -> np.ndarray:
    """Labels as int64 [count]; they may be a list or an array, whole numbers only."""
    if key not in entries:
        _array(entries, key, where)  # raises
    values = entries[key]
    if isinstance(values, np.ndarray):
        whole = values.dtype.kind in "iu" and values.ndim == 1
    else:
        whole = isinstance(values, list | tuple)
        for index, value in enumerate(values if whole else ()):
            if type(value) is not int or not -(2**63) <= value < 2**63:
                raise DataError(
                    f"{where}: record {index} has {key} "
                    f"{safe_pickle.brief(value)}, must be a "
                    "whole number; take the official file"
                )
    if not whole or len(values) != count:
        raise DataError(
            f"{where}: {key!r} must be {count} whole numbers, one per image; take the "
            "official file"
        )
    return np.asarray(values, np.int64)


_PARSERS = {"binary": parse_binary, "python": parse_python}


def _read(
    path: str, is_archive: bool, layout: Layout, files: Collection[str] | None = None
) -> Iterator[tuple[str, Records]]:
    parse = _PARSERS[layout.encoding]
    for name, payload in _payloads(path, is_archive, files or layout.files):
        for records in parse(payload, layout.dataset, os.path.join(path, name)):
            yield name, records


def _payloads(
    path: str, is_archive: bool, files: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Whole files by name; an archive in one pass, in its own order."""
    if is_archive:
        yield from _members(path, files)
        return
    for name in files:
        where = os.path.join(path, name)
        with opened(where) as file:
            payload = file.read(MAX_FILE_BYTES + 1)
        if len(payload) > MAX_FILE_BYTES:
            raise DataError(
                f"{where}: larger than {MAX_FILE_BYTES:,} bytes, no such file"
            )
        yield name, payload


def _members(path: str, files: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Streams the wanted members of an archive, found by their last name."""
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
    with opened(path) as file:
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
                f"({_line(error)}); copy it again"
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


def _layout_of_archive(path: str, dataset: str, sha256: str) -> Layout:
    for layout in layouts.LAYOUTS:
        if layout.sha256 == sha256 and layout.dataset == dataset:
            return layout
    with _tar(path) as (archive, _):
        names = [os.path.basename(each.name) for each in _entries(archive, path)]
    return layouts.choose_layout(names, dataset, path)


def _first_unverified(path: str, is_archive: bool, layout: Layout) -> str | None:
    """Name, actual and expected MD5 of the first file that is not as published."""
    if not layout.md5:
        return ""
    for name, payload in _payloads(path, is_archive, layout.files):
        actual = hashlib.md5(payload, usedforsecurity=False).hexdigest()
        if actual != layout.md5[name]:
            return f"{name} has MD5 {actual}, published is {layout.md5[name]}"
    return None


def _unverified(layout: Layout, path: str, actual: str, wrong: str) -> str:
    """Why a source counts as unverified, with actual and expected checksums."""
    published = f"{layout.archive} has SHA-256 {layout.sha256}"
    if actual:
        return f"{path}: SHA-256 is {actual}, but the published {published}"
    if wrong:
        return f"{path}: {wrong}"
    return (
        f"{path}: no checksum is published for extracted {layout.encoding} files "
        f"(only: {published})"
    )


def _official_counts(layout: Layout) -> dict[str, int]:
    entry = DATASETS[layout.dataset]
    train = dict.fromkeys(layout.train, entry.train_examples // len(layout.train))
    return train | dict.fromkeys(layout.test, entry.test_examples // len(layout.test))


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1024**2):
            digest.update(block)
    return digest.hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _nearby(path: str) -> Iterator[str]:
    """The path itself, or a temporary copy of an archive in an object store.

    An archive is read several times, in small pieces. What is wrong with the copy is said
    of the original.
    """
    if not layouts.is_remote(path) or _is_folder(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cifar-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        with _readable(path):
            size = _gfile().stat(path).length
            if size > MAX_ARCHIVE_BYTES:
                raise DataError(
                    f"{path}: has {size:,} bytes, more than the limit of "
                    f"{MAX_ARCHIVE_BYTES:,}; take the official archive"
                )
            _gfile().copy(path, copy)
        try:
            yield copy
        except DataError as error:
            raise DataError(str(error).replace(copy, path)) from None


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Opens a file here or in an object store; what fails becomes a DataError."""
    remote = layouts.is_remote(path)
    with (
        _readable(path),
        _gfile().GFile(path, "rb") if remote else open(path, "rb") as file,
    ):
        yield file


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Names the path in errors of the file system, whichever it is."""
    try:
        yield
    except Exception as error:
        if isinstance(error, gzip.BadGzipFile) or not isinstance(
            error, OSError | _remote_errors(path)
        ):
            raise
        reason = getattr(error, "strerror", None) or _line(error)
        raise DataError(
            f"{path}: cannot be read ({reason}); set data.path to a folder or archive "
            "that can"
        ) from None


def _remote_errors(path: str) -> Any:
    if not layouts.is_remote(path):
        return OSError
    import tensorflow as tf

    return tf.errors.OpError


def _is_folder(path: str) -> bool:
    return _gfile().isdir(path) if layouts.is_remote(path) else os.path.isdir(path)


def _list_folders(path: str) -> dict[str, list[str]]:
    if not layouts.is_remote(path):
        return layouts.list_folders(path)
    subfolders = [f"{path.rstrip('/')}/{each.folder}" for each in layouts.LAYOUTS]
    folders = [path] + [f for f in subfolders if _gfile().isdir(f)]
    return {folder: sorted(_gfile().listdir(folder)) for folder in folders}


def _gfile() -> Any:
    import tensorflow as tf  # object stores only: it costs seconds

    return tf.io.gfile
