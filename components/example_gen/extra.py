"""Labelled images of live requests, added to the train split: what `data.extra` names.

A folder that `python -m monitoring labelled` wrote, here or in an object store:

    dataset.json        what its images are (contract.datasets.Dataset)
    labelled.tfrecord   tf.Examples, not compressed: image, label, and as example_id the id
                        under which the image was logged and labelled

Its images have the shape in which a model saw them, and the run that takes them must have
the same. None of them gets into eval or test, whatever its pixels' hash says: those two
stay samples of the data set. An image that stands there already, or in train, is left out,
by its pixels: users also send what is published.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from components.example_gen import prepared_records, storage
from components.example_gen.errors import DataError, one_line
from components.example_gen.formats import CHUNK_RECORDS, check_labels
from contract import features
from contract.config.data import DataConfig
from contract.datasets import Dataset
from contract.features import EVAL, TEST, TRAIN
from contract.records import DATASET_FILE
from contract.typed_json import RecordError

IMAGES_FILE = "labelled.tfrecord"
MOST_IMAGES = 100_000  # 300 MB in the published shape
# Why an image is left out, besides the split that it stands in.
CONTRADICTORY, REPEATED = "contradictory", "repeated"
_REMEDY = "let `python -m monitoring labelled` write it anew, or leave data.extra out"


class Labelled(NamedTuple):
    """Some of the images."""

    pixels: np.ndarray  # uint8 [n, bytes of an image], row-major
    labels: np.ndarray  # int64 [n]
    ids: list[bytes]  # as logged
    digests: list[bytes]  # SHA-256 of the pixels


def files(folder: str) -> tuple[str, ...]:
    """The files of a folder on this machine.

    Raises:
        DataError: One is not there.
    """
    found = []
    for name in (DATASET_FILE, IMAGES_FILE):
        found.append(os.path.join(folder, name))
        if not os.path.isfile(found[-1]):
            raise DataError(f"data.extra={folder}: has no file {name}; {_REMEDY}")
    return tuple(found)


def described(folder: str) -> Dataset:
    """What the images of a folder are.

    Raises:
        DataError: It does not say.
    """
    path = os.path.join(folder, DATASET_FILE)
    try:
        with storage.opened(path, remedy=_REMEDY) as file:
            return Dataset.read(file, path)
    except RecordError as problem:
        raise DataError(str(problem)) from None


def check(data: DataConfig, expected: Dataset) -> Dataset | None:
    """What data.extra names; None: it is not given.

    Args:
        data: What to ingest.
        expected: As what it will be ingested.

    Raises:
        DataError: Such images cannot be added to this data set; one sentence.
    """
    if data.extra is None:
        return None
    where = f"data.extra={data.extra}"
    found = described(data.extra)
    if found.image_shape != expected.image_shape:
        raise DataError(
            f"{where}: its images are {_shape(found)}, and those of this run "
            f"{_shape(expected)}; set data.image_size and data.channels as in the run that "
            "trained the model, or leave data.extra out"
        )
    names = expected.labels[features.LABEL]
    if found.labels.get(features.LABEL) != names:
        raise DataError(
            f"{where}: its classes are not the {len(names)} of {expected.title}; take images "
            "about which a model of the same classes was asked, or leave data.extra out"
        )
    count = found.counts.get(TRAIN, 0)
    if not 1 <= count <= MOST_IMAGES:
        raise DataError(
            f"{where}: holds {count:,} images, and must hold 1 to {MOST_IMAGES:,}; {_REMEDY}"
        )
    return found


def read(folder: str, dataset: Dataset) -> Iterator[Labelled]:
    """Yields the images of a folder in chunks, each image checked.

    Args:
        folder: As of `described`.
        dataset: What that returned.

    Raises:
        DataError: The images are not what the description says.
    """
    from trainer.examples import parse, records  # loads TensorFlow

    path = os.path.join(folder, IMAGES_FILE)
    keys = (features.IMAGE, features.LABEL, features.EXAMPLE_ID)
    classes = len(dataset.labels[features.LABEL])
    start = 0
    try:
        prepared_records.check_frames(path)
        for batch in records([path]).batch(CHUNK_RECORDS):
            found = {key: column.numpy() for key, column in parse(batch, keys).items()}
            images, labels = found[features.IMAGE].tolist(), found[features.LABEL]
            for index, image in enumerate(images):
                if len(image) != dataset.image_bytes:
                    raise DataError(
                        f"{path}: image {start + index} has {len(image):,} bytes instead of "
                        f"{dataset.image_bytes:,}; {_REMEDY}"
                    )
            check_labels(labels, classes, path, first=start)
            start += len(images)
            yield Labelled(
                np.frombuffer(b"".join(images), np.uint8).reshape(len(images), -1),
                labels,
                found[features.EXAMPLE_ID].tolist(),
                [hashlib.sha256(image).digest() for image in images],
            )
    except DataError:
        raise
    except Exception as error:  # TensorFlow's own types
        raise DataError(
            f"{path}: cannot be read after image {start} ({one_line(error):.300}); {_REMEDY}"
        ) from None
    if start != (told := dataset.counts.get(TRAIN, 0)):
        raise DataError(
            f"{path}: holds {start:,} images, and {DATASET_FILE} tells of {told:,}; {_REMEDY}"
        )


def survey(
    folder: str, dataset: Dataset, there: Mapping[str, set[bytes]]
) -> tuple[set[bytes], Counter[str]]:
    """Looks through a folder for the images that are to be added.

    Args:
        folder: As of `read`.
        dataset: The same.
        there: Split -> SHA-256 of the pixels of each of its images, as ingested.

    Returns:
        SHA-256 of the pixels of those to be added; and how many are left out, by the split
        in which they stand, `CONTRADICTORY` (equal images have several labels) or
        `REPEATED` (an equal one is added).

    Raises:
        DataError: As `read`.
    """
    labels: dict[bytes, set[int]] = {}
    times: Counter[bytes] = Counter()
    for part in read(folder, dataset):
        for digest, label in zip(part.digests, part.labels.tolist(), strict=True):
            labels.setdefault(digest, set()).add(label)
            times[digest] += 1
    added: set[bytes] = set()
    left_out: Counter[str] = Counter()
    for digest, found in labels.items():
        places = [split for split in (TEST, EVAL, TRAIN) if digest in there[split]]
        if places:
            left_out[places[0]] += times[digest]
        elif len(found) > 1:
            left_out[CONTRADICTORY] += times[digest]
        else:
            added.add(digest)
            left_out[REPEATED] += times[digest] - 1
    return added, +left_out


def _shape(dataset: Dataset) -> str:
    return " x ".join("any" if n is None else f"{n}" for n in dataset.image_shape)
