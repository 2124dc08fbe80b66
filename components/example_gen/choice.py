"""What the command line asks before a run: which data set, and has it changed.

Standard library only, so that a wrong path is refused in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from components.example_gen import layout as layouts
from components.example_gen.layout import DataError
from contract import paths
from contract.config.data import DataConfig
from contract.datasets import DATASETS

DOWNLOAD_URL = "https://www.cs.toronto.edu/~kriz/{archive}"
_TFDS_DEFAULT = "~/tensorflow_datasets"
# Of prepared folders; tensorflow-datasets, core/naming.py and core/file_adapters.py.
_FILE_FORMAT = "tfrecord"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_MOST_DESCRIPTION_BYTES = 4 << 20
_MOST_SHARDS, _MOST_RECORDS = 10_000, 10**9  # of a split
_LONGEST_NAME = 200  # characters of a record file's


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set that tensorflow-datasets has prepared on a local disk."""

    folder: str  # <tfds_dir>/<name>/<version>
    counts: dict[str, int]  # split -> records
    files: tuple[str, ...]  # record files and dataset_info.json


def resolve_auto(
    tfds_dir: str | None, timeout_seconds: float = 5, *, path: str | None = None
) -> tuple[str, str]:
    """Decides what data.name=auto stands for.

    Args:
        tfds_dir: Folder of tensorflow-datasets; None: its default in the home folder.
        timeout_seconds: Longest wait for an answer from the network.
        path: data.path, if given: it decides alone.

    Returns:
        Name of the data set, and one sentence with the reason.

    Raises:
        DataError: `path` holds neither CIFAR-10 nor CIFAR-100.
    """
    if path is not None:
        return _dataset_at(path)
    root = tfds_root(tfds_dir)
    if layouts.is_remote(root):
        return "cifar10", f"data.tfds_dir={root} is given"
    try:
        prepared = find_prepared("cifar10", root)
    except DataError as error:
        return "digits", f"CIFAR-10 on disk is damaged: {error}"
    if prepared:
        return "cifar10", f"CIFAR-10 is prepared in {prepared.folder}"
    trouble = download_trouble("cifar10", timeout_seconds)
    if trouble is None:
        return "cifar10", "CIFAR-10 can be downloaded"
    return (
        "digits",
        f"CIFAR-10 is not in {root} and cannot be downloaded ({trouble}); the digits "
        "need no download",
    )


def fingerprint(data: DataConfig) -> str:
    """A digest of what the source holds, so that caches notice every change of it.

    Of files, names and contents: another time or place of the same bytes is no change,
    and other bytes of the same size and time are one. Data in an object store are
    represented by their address alone.

    Args:
        data: With `name` resolved (not "auto").

    Returns:
        32 hexadecimal digits.

    Raises:
        DataError: As `check`; also if a file cannot be read.
    """
    kind, files = _source(data)
    contents = [(os.path.basename(file), _digest(file)) for file in files]
    return hashlib.sha256(json.dumps([*kind, *contents]).encode()).hexdigest()[:32]


def check(data: DataConfig) -> None:
    """Refuses what cannot be the source, without reading it.

    Args:
        data: With `name` resolved (not "auto").

    Raises:
        DataError: There is no such path, it is not the data set named, or a prepared
            folder is damaged.
    """
    _source(data)


def tfds_root(tfds_dir: str | None) -> str:
    """The folder of tensorflow-datasets, with its own default."""
    root = tfds_dir or _TFDS_DEFAULT
    return root if layouts.is_remote(root) else os.path.expanduser(root)


def find_prepared(dataset: str, root: str) -> Prepared | None:
    """Finds the newest version that tensorflow-datasets has prepared under `root`.

    Raises:
        DataError: It is there, but its description or a record file is damaged.
    """
    base = Path(root) / dataset
    if not base.is_dir():
        return None
    versions = [
        (tuple(map(int, numbers)), entry)
        for entry in base.iterdir()
        if entry.is_dir()
        and len(numbers := entry.name.split(".")) == 3
        and all(n.isdecimal() for n in numbers)
    ]
    if not versions:
        return None
    folder = max(versions)[1]
    remedy = "remove that folder and let it be prepared again"
    description = folder / "dataset_info.json"
    try:
        if not description.is_file():
            raise ValueError("there is no such file")
        for entry in folder.iterdir():  # a pipe would be waited for without end
            if entry.exists() and not entry.is_file() and not entry.is_dir():
                raise ValueError(f"{entry.name!r:.60} is no file")
        with description.open("rb") as file:
            content = file.read(_MOST_DESCRIPTION_BYTES + 1)
        if len(content) > _MOST_DESCRIPTION_BYTES:
            raise ValueError(f"more than {_MOST_DESCRIPTION_BYTES:,} bytes")
        splits = _splits(json.loads(content))
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError,
        OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise DataError(
            f"{description} is missing or damaged ({type(error).__name__}: "
            f"{paths.shown(' '.join(str(error).split())[:100])}); {remedy}"
        ) from None
    counts = {name: split.count for name, split in splits.items()}
    files = [description]
    for name, split in splits.items():
        files += _record_files(folder, name, split, remedy)
    return Prepared(
        folder=str(folder), counts=counts, files=tuple(str(file) for file in files)
    )


def download_trouble(dataset: str, timeout_seconds: float) -> str | None:
    """Why the official archive cannot be downloaded now, or None if it answers.

    The deadline holds for name look-up, connection and answer together.
    """
    (archive,) = [
        layout.archive
        for layout in layouts.layouts_of(dataset)
        if layout.encoding == "binary"
    ]
    url = DOWNLOAD_URL.format(archive=archive)
    host = url.split("/")[2]
    outcome: list[str | None] = []
    # A look-up of a name cannot be interrupted: the thread is left behind instead.
    thread = threading.Thread(
        target=lambda: outcome.append(_head(url, timeout_seconds)), daemon=True
    )
    thread.start()
    thread.join(timeout_seconds)
    if not outcome:
        return f"no answer from {host} in {timeout_seconds:g} s"
    return outcome[0] and f"{host}: {outcome[0]}"


def _head(url: str, timeout_seconds: float) -> str | None:
    import urllib.request  # 40 ms, needed only here

    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds):
            return None
    except Exception as error:  # any failure means: not now
        cause = error.args[0] if type(error).__name__ == "URLError" else error
        text = getattr(cause, "strerror", None) or str(cause)
        return " ".join(text.split()) or type(error).__name__


def _dataset_at(path: str) -> tuple[str, str]:
    for layout in layouts.LAYOUTS:
        stem = layout.archive.removesuffix(".tar.gz")
        if os.path.basename(path.rstrip("/")).startswith((stem, layout.folder)):
            return layout.dataset, f"data.path={path} is named like it"
    if not layouts.is_remote(path) and os.path.isdir(path):
        return _dataset_in(path)
    if not layouts.is_remote(path) and not os.path.exists(path):
        raise DataError(_no_such_path(path))
    raise DataError(
        f"data.path={path}: cannot tell which data set this is; set data.name=cifar10 "
        "or data.name=cifar100"
    )


def _dataset_in(path: str) -> tuple[str, str]:
    """The data set of a local folder, or the one refusal that no data.name would change."""
    listing = layouts.list_folders(path)
    refusals: dict[str, DataError] = {}
    for dataset in ("cifar10", "cifar100"):
        try:
            folder, _ = layouts.find_folder(path, dataset, listing)
        except DataError as refusal:
            refusals[dataset] = refusal
        else:
            return dataset, f"its files are in {folder}"
    present = {name for names in listing.values() for name in names}
    for layout in layouts.LAYOUTS:
        if present.intersection(layout.files):  # some are missing; it says which
            raise refusals[layout.dataset]
    firsts = ", ".join(layout.files[0] for layout in layouts.LAYOUTS)
    raise DataError(
        f"data.path={path}: cannot tell which data set this is: no file of CIFAR-10 or "
        f"CIFAR-100 ({firsts}, ...) lies there, and other images are not read; set "
        "data.path to the published archive or its folder, or leave it out"
    )


def _source(data: DataConfig) -> tuple[list[str], Sequence[str]]:
    """What kind of source it is, in words, and its files on this machine."""
    if data.name == "auto":
        raise DataError("data.name=auto must be resolved before the data are looked at")
    if data.path is not None:
        return _source_at(data.name, data.path)
    if data.name == "digits":
        from importlib import metadata  # 20 ms, needed only here

        return ["digits", metadata.version("scikit-learn")], ()
    root = tfds_root(data.tfds_dir)
    if layouts.is_remote(root):
        return ["remote", data.name, root], ()
    prepared = find_prepared(data.name, root)
    if prepared is None:
        return ["to be downloaded", data.name], ()
    return ["prepared", data.name], prepared.files


def _source_at(dataset: str, path: str) -> tuple[list[str], Sequence[str]]:
    if dataset == "digits":
        raise DataError(
            f"data.path={path}: data.name=digits is bundled with scikit-learn and has "
            "no path; leave data.path out, or set data.name=cifar10 or cifar100"
        )
    if layouts.is_remote(path):
        return ["remote", dataset, path], ()
    if not os.path.exists(path):
        raise DataError(_no_such_path(path))
    if os.path.isfile(path):
        return ["archive", dataset], [path]
    if not os.path.isdir(path):
        raise DataError(
            f"data.path={path}: is neither a file nor a folder; give the folder or the "
            "archive itself"
        )
    try:
        listing = layouts.list_folders(path)
    except OSError as error:
        raise DataError(
            f"data.path={path}: cannot be read ({error.strerror}); change its "
            "permissions or take another folder"
        ) from None
    folder, layout = layouts.find_folder(path, dataset, listing)
    return ["folder", dataset], [os.path.join(folder, name) for name in layout.files]


class _Split(NamedTuple):
    """What dataset_info.json says of one split."""

    count: int  # records
    files: list[str]  # names in the folder
    size: int  # bytes that the files have at least


def _splits(info: Any) -> dict[str, _Split]:
    """The splits of a description, which may be anybody's.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError: It is not of the
            form that tensorflow-datasets writes.
    """
    file_format = info.get("fileFormat", _FILE_FORMAT)
    if file_format != _FILE_FORMAT:
        raise ValueError(f"records as {file_format!r:.50}, only {_FILE_FORMAT} is read")
    described = {split["name"]: split for split in info["splits"]}
    found = {}
    for split in ("train", "test"):
        lengths = [int(length) for length in described[split]["shardLengths"]]
        if len(lengths) > _MOST_SHARDS or not 0 <= sum(lengths) <= _MOST_RECORDS:
            raise ValueError(f"{len(lengths):,} files of impossible length")
        if min(lengths, default=0) < 0:
            raise ValueError("a file of less than no records")
        files = [
            _file_name(info, described[split], index, len(lengths))
            for index in range(len(lengths))
        ]
        if len(set(files)) != len(files):
            raise ValueError(f"one file is named twice for {split}")
        size = int(described[split].get("numBytes", 0))
        found[split] = _Split(sum(lengths), files, size)
    return found


def _file_name(info: Any, split: Any, index: int, count: int) -> str:
    name = split.get("filepathTemplate") or _TEMPLATE
    values = {
        "DATASET": info["name"],
        "SPLIT": split["name"],
        "FILEFORMAT": _FILE_FORMAT,
        "SHARD_INDEX": f"{index:05d}",
        "NUM_SHARDS": f"{count:05d}",
        "SHARD_X_OF_Y": f"{index:05d}-of-{count:05d}",
    }
    for key, value in values.items():
        if max(len(name), len(value)) > _LONGEST_NAME:  # before they are multiplied
            raise ValueError("a file's name is too long")
        name = name.replace("{" + key + "}", value)
    plain = name not in ("", ".", "..") and "/" not in name
    if not plain or len(name) > _LONGEST_NAME or paths.text_problem(name):
        raise ValueError(f"{name!r:.60} is no file's name")
    return name


def _record_files(folder: Path, name: str, split: _Split, remedy: str) -> list[Path]:
    """The record files of a split, which must be there in their full size."""
    files = [folder / each for each in split.files]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing; {remedy}")
    size = sum(file.stat().st_size for file in files)
    if size < split.size:
        raise DataError(
            f"{folder}: the {name} records have {size:,} bytes, at least "
            f"{split.size:,} belong there; {remedy}"
        )
    return files


def _digest(path: str) -> str:
    """SHA-256 of a file: a quarter of a second for all of CIFAR-10."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); change its permissions, or take "
            "other data"
        ) from None


def _no_such_path(path: str) -> str:
    titles = " or ".join(DATASETS[name].title for name in ("cifar10", "cifar100"))
    return (
        f"data.path={path}: there is no such file or folder; give the folder or "
        f"archive of {titles}, or leave data.path out"
    )
