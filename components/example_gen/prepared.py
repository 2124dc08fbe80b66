"""Folders that tensorflow-datasets has prepared: where they are, whether they are whole.

Standard library only (object stores: tensorflow-datasets). What the records hold:
`prepared_records`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from components.example_gen import storage
from components.example_gen.errors import DataError, one_line
from contract import paths
from contract.features import TEST, TRAIN

_DEFAULT_ROOT = "~/tensorflow_datasets"
# tensorflow-datasets, core/naming.py and core/file_adapters.py.
_FILE_FORMAT = "tfrecord"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_MOST_DESCRIPTION_BYTES = 4 << 20
_MOST_SHARDS, _MOST_RECORDS = 10_000, 10**9  # of a split
_LONGEST_NAME = 200  # characters of a record file's


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set that tensorflow-datasets has prepared."""

    folder: str  # <tfds_dir>/<name>[/<config>]/<version>
    counts: dict[str, int]  # split -> records
    files: tuple[str, ...]  # record files and dataset_info.json; none of object stores
    # Split -> names of its record files, and the description; neither of object stores.
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


def root_of(tfds_dir: str | None) -> str:
    """The folder of tensorflow-datasets, with its own default."""
    root = tfds_dir or _DEFAULT_ROOT
    return root if storage.is_remote(root) else os.path.expanduser(root)


def find(
    dataset: str,
    root: str,
    version: str | None = None,
    splits: Collection[str] | None = None,
) -> Prepared | None:
    """Finds the newest version that tensorflow-datasets has prepared under `root`.

    Args:
        dataset: Its name, or name/config.
        root: As of `root_of`.
        version: The only one that is looked for.
        splits: Those that are looked at if they are there, in small letters; None: train
            and test, which must be.

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
        and version in (None, entry.name)
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
        info = json.loads(content)
        found = _splits(info, splits)
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError,
        OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise DataError(
            f"{description} is missing or damaged ({type(error).__name__}: "
            f"{paths.shown(one_line(error)[:100])}); {remedy}"
        ) from None
    files = [description]
    for name, split in found.items():
        files += _record_files(folder, name, split, remedy)
    return Prepared(
        folder=str(folder),
        counts={name: split.records for name, split in found.items()},
        files=tuple(str(file) for file in files),
        records={name: tuple(split.files) for name, split in found.items()},
        info=info,
    )


def find_remote(dataset: str, root: str) -> Prepared:
    """Finds what tensorflow-datasets has prepared in an object store.

    Raises:
        DataError: Nothing is there, or it cannot be read.
    """
    import tensorflow_datasets as tfds

    remedy = "prepare it there with tensorflow-datasets, or set data.path"
    try:
        builder = tfds.builder(dataset, data_dir=root)
        if not builder.is_prepared():
            raise DataError(f"data.tfds_dir={root}: {dataset} is not there; {remedy}")
        splits = builder.info.splits
        counts = {split: splits[split].num_examples for split in (TRAIN, TEST)}
        return Prepared(folder=str(builder.data_dir), counts=counts, files=())
    except DataError:
        raise
    except Exception as error:  # TensorFlow's and tensorflow-datasets' own types
        raise DataError(
            f"data.tfds_dir={root}: cannot be read ({one_line(error):.600}); {remedy}"
        ) from None


class _Split(NamedTuple):
    """What dataset_info.json says of one split."""

    records: int
    files: list[str]  # names in the folder
    size: int  # bytes that the files have at least


def _splits(info: Any, splits: Collection[str] | None) -> dict[str, _Split]:
    """Splits of a description, which may be anybody's; which: see `find`.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError: It is not of the
            form that tensorflow-datasets writes.
    """
    file_format = info.get("fileFormat", _FILE_FORMAT)
    if file_format != _FILE_FORMAT:
        raise ValueError(f"records as {file_format!r:.50}, only {_FILE_FORMAT} is read")
    described = {split["name"]: split for split in info["splits"]}
    found = {}
    for split in (
        (TRAIN, TEST)
        if splits is None
        else [name for name in described if name.casefold() in splits]
    ):
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
