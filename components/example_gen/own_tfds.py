"""Any set of tensorflow-datasets as images of one's own: what data.tfds names.

In: a folder that tensorflow-datasets has prepared. Out: what `own_files` makes of a folder
of pictures, so that all behind it is the same. The files in the records are taken as they
are (tensorflow-datasets' SkipDecoding): each is a stretch of a record file, as in an
archive. Nothing but the folder is read: no code of a data set runs, nothing is downloaded.
Standard library only, until the records are read.

Forms: tensorflow-datasets 4.9.10 (core/features/*.py, dataset_info.json); TFRecord as in
TensorFlow's core/lib/io/record_writer.h.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from components.example_gen import own_files, prepared, storage
from components.example_gen.errors import DataError, one_line
from components.example_gen.own_files import Found, Image, Records
from contract.features import TRAIN

# name[/configuration][:version], as tensorflow-datasets writes it.
_NAME = re.compile(r"(\w[\w.-]*(?:/\w[\w.-]*)?)(?::(\d+\.\d+\.\d+))?", re.ASCII)
_FEATURE = re.compile(r"\w[\w.-]*", re.ASCII)  # it names a file
_MOST_BYTES = 8 << 20  # of a description
_MOST_CLASSES = 1_000_000
_NO_LABEL = -1  # of splits whose labels are not published
# A record: length, checksum of that, content, checksum of that.
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_REMEDY = "remove that folder and let tensorflow-datasets prepare it again"


def find(name: str, root: str) -> Found:
    """Finds a prepared set, and checks that it can be a data set, by its descriptions.

    Args:
        name: name[/configuration][:version]; without a version the newest.
        root: The folder of tensorflow-datasets.

    Returns:
        Without images, which `listed` adds; counts as its description tells.

    Raises:
        DataError: It is not there, damaged, or no set of images with a label each.
    """
    where = f"data.tfds={name}"
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise DataError(
            f"{where}: must be name, name:version or name/configuration:version, such as "
            "oxford_flowers102:2.1.1"
        )
    if storage.is_remote(root):
        raise DataError(
            f"data.tfds_dir={root}: a set that data.tfds names is read from this machine's "
            "disks only; copy its folder here (data.tfds does not run on Vertex AI)"
        )
    found = prepared.find(parts[1], root, parts[2], own_files.SPLITS)
    if found is None:
        raise DataError(f"{where}: {_missing(parts[1], root)}")
    try:
        features = _features(found.folder)
        image, label = _pair(features, found.info, where)
        names, names_file = _class_names(found.folder, label, features[label])
        others = sorted(s["name"] for s in found.info["splits"])
    except DataError:
        raise
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        raise DataError(
            f"{where}: the description in {found.folder} is missing or damaged "
            f"({type(error).__name__}: {one_line(error):.100}); {_REMEDY}"
        ) from None
    own_files.check_labels(names, where)
    counts: dict[str | None, int] = {}
    for split, count in found.counts.items():
        meant = own_files.SPLITS[split.casefold()]
        if meant in counts:
            raise DataError(f"{where}: has two splits for {meant}; choose another set")
        counts[meant] = count
    if not counts.get(TRAIN):
        raise DataError(
            f"{where}: has no split train, only {own_files.some(others)}; choose another set"
        )
    means = own_files.meanings(counts)
    files = (os.path.join(found.folder, "features.json"), *names_file)
    return Found(
        path=f"{parts[1]}:{os.path.basename(found.folder)}",
        kind="tensorflow-datasets",
        root=found.folder,
        counts={means[split]: count for split, count in counts.items()},
        class_names=names,
        passed_over=tuple(split for split in others if split not in found.records),
        records=Records(found.records, image, label, found.files + files),
    )


def listed(found: Found) -> Found:
    """Reads all records: the same set with its images.

    Raises:
        DataError: A record is damaged, or has no picture or no label.
    """
    assert found.records is not None
    images: list[Image] = []
    unlabelled = []
    read = 0
    for split, names in found.records.splits.items():
        these = [image for name in names for image in _images(found, split, name)]
        read += len(these)
        if all(not image.label for image in these):
            unlabelled.append(split)
            continue
        for image in these:
            if not image.label:
                raise DataError(
                    f"{found.where}: {image.name} has no label, and others of {split} have "
                    "one; choose another set"
                )
        images += these
    if read != (told := sum(found.counts.values())):
        raise DataError(
            f"{found.where}: {read:,} records in {found.root} instead of {told:,}; {_REMEDY}"
        )
    if not images:
        raise DataError(f"{found.where}: its images have no labels; choose another set")
    passed_over = tuple(sorted((*found.passed_over, *unlabelled)))
    return own_files.checked(
        replace(found, images=tuple(images), passed_over=passed_over)
    )


def _missing(name: str, root: str) -> str:
    """Why nothing is found, and the remedy."""
    try:
        inside = sorted(entry.name for entry in os.scandir(os.path.join(root, name)))
    except OSError:
        inside = []
    there = [
        each
        for each in inside
        if os.path.isdir(os.path.join(root, name, each)) and _NAME.fullmatch(each)
    ]
    if there:
        return (
            f"is not in {root}, where {name} has {own_files.some(there)}; give one of these, "
            f"{name}/CONFIGURATION or {name}:VERSION"
        )
    return (
        f"is not prepared in {root}, and nothing is downloaded for it; prepare it with "
        f"`.venv/bin/python -c \"import tensorflow_datasets as tfds; tfds.load('{name}', "
        f"data_dir='{root}')\"`, or set data.tfds_dir to the folder where it is"
    )


def _features(folder: str) -> Mapping[str, Any]:
    """The features of an example, as features.json describes them."""
    content = json.loads(_text(os.path.join(folder, "features.json")))
    features = content["featuresDict"]["features"]
    for name in features:
        if not _FEATURE.fullmatch(name):
            raise ValueError(f"a feature named {name!r:.60}")
    return features


def _pair(
    features: Mapping[str, Any], info: Mapping[str, Any], where: str
) -> tuple[str, str]:
    """The features with the picture and its label: those for supervised learning, if told.

    Raises:
        DataError: There are none, or several.
    """
    kinds = {
        name: str(entry["pythonClassName"]).rpartition(".")[2]
        for name, entry in features.items()
    }
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    told = info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
    told = [item.get("featureKey") for item in told]
    if len(told) == 2 and told[0] in images and told[1] in labels:
        images, labels = [told[0]], [told[1]]
    if len(images) != 1 or len(labels) != 1:
        each = [f"{name} ({kind})" for name, kind in sorted(kinds.items())]
        raise DataError(
            f"{where}: must be a set of images with one class each, a feature Image and a "
            f"feature ClassLabel, and its features are {own_files.some(each)}; choose another "
            "set"
        )
    kind = features[images[0]].get("image", {}).get("dtype", "uint8")
    if kind != "uint8":
        raise DataError(
            f"{where}: the pixels of its {images[0]} are {kind!s:.20}, and only uint8 is read; "
            "choose another set"
        )
    return images[0], labels[0]


def _class_names(
    folder: str, label: str, entry: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names in label order, numbers where it has none; and the file that they stand in."""
    count = int(entry["classLabel"]["numClasses"])
    if not 0 <= count <= _MOST_CLASSES:
        raise ValueError(f"{count:,} classes")
    path = os.path.join(folder, f"{label}.labels.txt")
    if not os.path.exists(path):
        return tuple(map(str, range(count))), ()
    names = tuple(line.strip() for line in _text(path).split("\n") if line.strip())
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"{path} has not {count:,} names of their own")
    return names, (path,)


def _text(path: str) -> str:
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES:,} bytes")
    return content.decode()


def _images(found: Found, split: str, name: str) -> Iterator[Image]:
    """The images of a file of records; with an empty label where that is not told."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    assert found.records is not None
    number = 0
    try:
        for place, record in _records(os.path.join(found.root, name)):
            values = tf.train.Example.FromString(record).features.feature
            (content,) = values[found.records.image].bytes_list.value
            (label,) = values[found.records.label].int64_list.value
            if not _NO_LABEL <= label < len(found.class_names):
                raise ValueError(f"label {label} of {len(found.class_names):,} classes")
            yield Image(
                f"{name}:{number}",
                found.class_names[label] if label != _NO_LABEL else "",
                own_files.SPLITS[split.casefold()],
                place + record.index(content),
                len(content),
                name,
            )
            number += 1
    except (OSError, ValueError, struct.error, DecodeError) as error:
        raise DataError(
            f"{found.where}: record {number} of {os.path.join(found.root, name)} is damaged or "
            f"has no picture and label ({one_line(error):.200}); {_REMEDY}"
        ) from None


def _records(path: str) -> Iterator[tuple[int, bytes]]:
    """Where the content of each record begins, and the content."""
    import google_crc32c

    size = os.path.getsize(path)
    place = 0
    with open(path, "rb") as file:
        while place < size:
            head = file.read(_LENGTH.size + _CHECKSUM.size)
            (length,) = _LENGTH.unpack_from(head)
            start = place + len(head)
            if start + length + _CHECKSUM.size > size:
                raise ValueError("it is cut short")
            content = file.read(length)
            checksums = head[_LENGTH.size :], file.read(_CHECKSUM.size)
            for part, told in zip(
                (head[: _LENGTH.size], content), checksums, strict=True
            ):
                crc = google_crc32c.value(part)
                masked = (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF
                if told != _CHECKSUM.pack(masked):
                    raise ValueError("its checksum is another one")
            yield start, content
            place = start + length + _CHECKSUM.size
