"""CIFAR's record formats: the bytes of a file to chunks of validated images.

Nothing here trusts its input: pickles may hold plain containers and arrays only, and each
record is checked. NumPy and the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from components.example_gen import safe_pickle
from components.example_gen.errors import DataError
from contract.datasets import DATASETS, PUBLISHED_SHAPE

# Ids and splits come of images in the published form.
PUBLISHED_BYTES = math.prod(PUBLISHED_SHAPE)
CHUNK_RECORDS = 2_000  # 6 MB of pixels: small beside the workers' memory
_PLANES = (3, 32, 32)  # channel, row, column: the order inside a record


class Records(NamedTuple):
    """A chunk of validated images."""

    pixels: np.ndarray  # uint8 [n, 32 * 32 * 3], row-major [32, 32, 3], RGB
    labels: np.ndarray  # int64 [n]
    coarse_labels: np.ndarray | None  # int64 [n], cifar100 only


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
    size = label_bytes + PUBLISHED_BYTES
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
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PUBLISHED_BYTES:
        raise DataError(
            f"{where}: data is {data.dtype}{list(data.shape)}, must be uint8[records, "
            f"{PUBLISHED_BYTES}]; take the official file"
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
    return Records(
        np.ascontiguousarray(rows).reshape(-1, PUBLISHED_BYTES), labels, coarse
    )


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


# By `encoding` of a layout.
PARSERS = {"binary": parse_binary, "python": parse_python}
