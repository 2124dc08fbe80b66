"""Files and folders here or in an object store (gs://...): read, listed, hashed.

What cannot be read becomes a DataError with the path. Object stores are TensorFlow's to
reach, which is loaded for them alone; else the standard library.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from collections.abc import Iterator
from typing import IO, Any

from components.example_gen.errors import DataError, one_line

_OTHER_PATH = "set data.path to a folder or archive that can"


def is_remote(path: str) -> bool:
    """Whether a path is of an object store (gs://...), not of this machine."""
    return "://" in path


def is_folder(path: str) -> bool:
    """Whether there is a folder of this name."""
    return _gfile().isdir(path) if is_remote(path) else os.path.isdir(path)


def file_names(folder: str) -> list[str]:
    """Names of the files in a folder, sorted; in an object store, of folders too."""
    if is_remote(folder):
        return sorted(_gfile().listdir(folder))
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())


@contextlib.contextmanager
def opened(path: str, *, remedy: str = _OTHER_PATH) -> Iterator[IO[bytes]]:
    """Opens a file.

    Args:
        path: Here or in an object store.
        remedy: What to do where that fails, for the message.

    Raises:
        DataError: It cannot be opened, or not be read to its end.
    """
    with (
        _readable(path, remedy),
        _gfile().GFile(path, "rb") if is_remote(path) else open(path, "rb") as file,
    ):
        yield file


def sha256(path: str, *, remedy: str = _OTHER_PATH) -> str:
    """SHA-256 of a file in hexadecimal: a quarter of a second for all of CIFAR-10.

    Raises:
        DataError: As `opened`.
    """
    digest = hashlib.sha256()
    with opened(path, remedy=remedy) as file:
        while block := file.read(1024**2):
            digest.update(block)
    return digest.hexdigest()


def size(path: str) -> int:
    """Bytes of an object in an object store.

    Raises:
        DataError: There is nothing.
    """
    with _readable(path):
        return _gfile().stat(path).length


def copy(path: str, target: str) -> None:
    """Copies an object of an object store to a file.

    Raises:
        DataError: It cannot be read.
    """
    with _readable(path):
        _gfile().copy(path, target)


def objects(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time (ns) of an object, or of all in a folder of an object store.

    Raises:
        DataError: There is nothing.
    """
    names = [path]
    with _readable(path):
        if is_folder(path):
            names = [
                os.path.join(folder, name)
                for folder, _, files in _gfile().walk(path)
                for name in sorted(files)
            ]
        facts = [(name, _gfile().stat(name)) for name in names]
    return [(name, fact.length, fact.mtime_nsec) for name, fact in facts]


@contextlib.contextmanager
def _readable(path: str, remedy: str = _OTHER_PATH) -> Iterator[None]:
    """Names the path in errors of the file system, whichever it is."""
    try:
        yield
    except Exception as error:
        if isinstance(error, gzip.BadGzipFile) or not isinstance(
            error, OSError | _remote_errors(path)
        ):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from None


def _remote_errors(path: str) -> Any:
    if not is_remote(path):
        return OSError
    import tensorflow as tf

    return tf.errors.OpError


def _gfile() -> Any:
    import tensorflow as tf  # object stores only: it costs seconds

    return tf.io.gfile
