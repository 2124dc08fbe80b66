"""The records of a folder that tensorflow-datasets has prepared, validated.

The folder alone is read: neither the data set's code nor the network.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from components.example_gen import storage
from components.example_gen.errors import DataError, one_line
from components.example_gen.formats import (
    CHUNK_RECORDS,
    PUBLISHED_BYTES,
    Records,
    check_labels,
)
from contract.datasets import DATASETS, PUBLISHED_SHAPE

# What a prepared folder's features.json may name: tensorflow-datasets imports whatever
# module stands there (core/features/feature.py, cls_from_name, 4.9.10).
_FEATURES = {
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "class_label_feature.ClassLabel",
        "text_feature.Text",
    )
}
_DECODERS = 4
_MOST_FEATURES_BYTES = 100_000
_MOST_RECORD_BYTES = 1 << 20  # an image of 32 x 32 pixels as PNG has 4 kB at most
# The first 24 bytes of a PNG file of 32 x 32 pixels (PNG specification, 5.2 and 11.2.1).
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 32, 32)


def read(folder: str, dataset: str, split: str) -> Iterator[Records]:
    """Yields chunks of a split, in the order of its files.

    Args:
        folder: As `prepared.find` gives it.
        dataset: "cifar10" or "cifar100".
        split: "train" or "test".

    Raises:
        DataError: The folder is damaged, or holds something else.
    """
    import tensorflow_datasets as tfds

    from trainer.examples import untuned

    where = f"{folder}, {split}"
    entry = DATASETS[dataset]
    start = 0
    try:
        _check_features(folder)
        builder: Any = tfds.builder_from_directory(folder)
        expected = builder.info.splits[split].num_examples
        options = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        for file in builder.info.splits[split].filepaths:
            check_frames(str(file))
        examples = builder.as_dataset(
            split=split,
            shuffle_files=False,
            read_config=options,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        batches = (
            examples.map(_decode_image, num_parallel_calls=_DECODERS)
            .batch(CHUNK_RECORDS)
            .prefetch(1)
        )
        for batch in tfds.as_numpy(untuned(batches)):
            records = _from_tfds(batch, entry, where, start)
            start += len(records.labels)
            yield records
    except DataError:
        raise
    except Exception as error:  # TensorFlow's and tensorflow-datasets' own types
        raise DataError(
            f"{where}: cannot be read after record {start} ({one_line(error):.600}); remove "
            "that folder and let it be prepared again"
        ) from None
    if start != expected:
        raise DataError(
            f"{where}: {start:,} records instead of {expected:,}; remove that folder "
            "and let it be prepared again"
        )


def _check_features(folder: str) -> None:
    """Refuses a features.json that names other classes than CIFAR's features have."""
    path = f"{folder}/features.json"
    with storage.opened(path) as file:
        text = file.read(_MOST_FEATURES_BYTES + 1)
    if len(text) > _MOST_FEATURES_BYTES:
        raise ValueError(f"features.json has more than {_MOST_FEATURES_BYTES:,} bytes")
    pending = [json.loads(text)]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        if not isinstance(value, dict):
            continue
        pending += value.values()
        for key in ("pythonClassName", "python_class_name", "type"):
            if key in value and value[key] not in _FEATURES:
                raise ValueError(
                    f"features.json names {value[key]!r:.100}, no feature of CIFAR"
                )
        # Features can stand there as text, too; CIFAR's never do.
        if isinstance(value.get("content"), str) or (
            {"jsonFeature", "json_feature"} & value.keys()
        ):
            raise ValueError("features.json holds features as text, which are not read")


def check_frames(path: str) -> None:
    """Refuses a TFRecord file whose records claim more bytes than an image has.

    TensorFlow makes room for what a record claims before it reads: a claim of 2^40 bytes
    ends the process (lib/io/record_reader.cc of 2.21). Format: lib/io/record_writer.h.

    Raises:
        ValueError: A record claims too much.
        DataError: The file cannot be read.
    """
    with storage.opened(path) as file:
        while len(head := file.read(12)) == 12:  # a length, and a checksum of it
            (length,) = struct.unpack_from("<Q", head)
            if length > _MOST_RECORD_BYTES:
                raise ValueError(
                    f"{path}: a record claims {length:,} bytes, more than "
                    f"{_MOST_RECORD_BYTES:,}"
                )
            file.read(length + 4)


def _decode_image(example: Any) -> Any:
    """Decodes the image of an example, once its head promises 32 x 32 pixels."""
    import tensorflow as tf

    head = tf.strings.substr(example["image"], 0, len(_PNG_HEAD))
    # Its data is what the error shows: the text, and not the bytes of the image.
    promised = tf.debugging.Assert(
        tf.equal(head, _PNG_HEAD), ["an image is no PNG file of 32 x 32 pixels"]
    )
    with tf.control_dependencies([promised]):
        return example | {"image": tf.io.decode_png(example["image"], channels=3)}


def _from_tfds(batch: Any, entry: Any, where: str, first: int) -> Records:
    missing = {"image", "label"} - set(batch)
    if entry.coarse_class_names and "coarse_label" not in batch:
        missing.add("coarse_label")
    if missing:
        raise DataError(
            f"{where}: no feature {', '.join(sorted(missing))} in the records"
        )
    image = batch["image"]
    if image.dtype != np.uint8 or image.shape[1:] != PUBLISHED_SHAPE:
        raise DataError(
            f"{where}: record {first}: image is {image.dtype}{list(image.shape[1:])}, "
            f"must be uint8{list(PUBLISHED_SHAPE)}; remove that folder and let it be "
            "prepared again"
        )
    labels = batch["label"].astype(np.int64)
    check_labels(labels, len(entry.class_names), where, first=first)
    coarse = None
    if entry.coarse_class_names:
        coarse = batch["coarse_label"].astype(np.int64)
        classes = len(entry.coarse_class_names)
        check_labels(coarse, classes, where, first=first, kind="coarse label")
    return Records(image.reshape(-1, PUBLISHED_BYTES), labels, coarse)
