"""Ingested tf.Examples: what they are, and the one way to read them.

Every stage that looks into an example comes here: Transform excepted, which TFX gives the
same features by the schema.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from contract import datasets, features
from contract.datasets import Dataset
from contract.records import DATASET_FILE
from trainer import crops

PART = 1000  # examples that are in memory at a time, where they are looked at in parts
_KINDS = {
    features.IMAGE: tf.string,
    features.LABEL: tf.int64,
    features.COARSE_LABEL: tf.int64,
    features.EXAMPLE_ID: tf.string,
}


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split in memory, ordered by example id."""

    images: tf.Tensor  # string [n], raw bytes
    labels: tf.Tensor  # int64 [n]

    def __len__(self) -> int:
        """Number of images."""
        return int(self.labels.shape[0])

    @property
    def identity(self) -> bytes:
        """All that a training depends on."""
        return b"".join(self.images.numpy()) + self.labels.numpy().tobytes()

    def first(self, count: int) -> tf.Tensor:
        """The first images, string [count] or fewer."""
        return self.images[:count]


def dataset_of(uri: str, name: str = "", granularity: str = "fine") -> Dataset:
    """What a data set is, as the ExampleGen wrote it beside the examples.

    Args:
        uri: Of the Examples artifact; the folder that holds `Split-*`.
        name: Key of `contract.datasets.DATASETS`, for examples that an earlier version
            ingested without dataset.json.
        granularity: Of that set's labels.

    Raises:
        contract.typed_json.RecordError: dataset.json cannot be used.
        FileNotFoundError: There is none, and the set is not known either.
    """
    path = os.path.join(uri, DATASET_FILE)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path, "rb") as file:
            return Dataset.read(file, path)
    if name not in datasets.DATASETS:
        raise FileNotFoundError(
            f"{path} is missing: it is not known what these examples are; ingest them again"
        )
    return datasets.known(name, granularity)


def dataset_in(examples: Any) -> Dataset:
    """The same of TFX's Examples, which say their data set's name; errors as there."""
    return dataset_of(examples.uri, examples.get_string_custom_property("name"))


def artifact_of(patterns: Sequence[str]) -> str:
    """Address of the Examples artifact that files of a split belong to.

    A Trainer is told of patterns like `.../Split-train/*`, and of no artifact.

    Raises:
        ValueError: They are not of one artifact.
    """
    found = {pattern.rpartition("/Split-")[0] for pattern in patterns}
    if len(found) != 1 or "" in found:
        raise ValueError(
            f"{', '.join(patterns) or 'no files'}: must be files of one Examples artifact, "
            "below Split-*"
        )
    return found.pop()


def parse(serialized: Any, keys: Iterable[str]) -> dict[str, Any]:
    """Named features of serialized tf.Examples, string [n] -> each [n].

    Args:
        serialized: As ingested.
        keys: Of `contract.features`.
    """
    wanted = {key: tf.io.FixedLenFeature([], _KINDS[key]) for key in keys}
    return tf.io.parse_example(serialized, wanted)


def example_of(image: bytes) -> tf.train.Example:
    """An example with an image alone, as examples hold it."""
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
    return tf.train.Example(features=tf.train.Features(feature={features.IMAGE: value}))


def pixels_of(images: Iterable[bytes], dataset: Dataset) -> np.ndarray:
    """Images of examples as uint8 [n, height, width, channels], as a network is shown them.

    Raises:
        ValueError: They have another number of bytes than the data set's.
    """
    if dataset.crop is not None:
        return _centers(dataset.crop)(tf.constant(list(images), tf.string)).numpy()
    return np.frombuffer(b"".join(images), np.uint8).reshape(-1, *dataset.pixels)


@functools.cache
def _centers(crop: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """`crops.center` as a graph, which decodes pictures side by side; eager code does not."""
    return tf.function(
        lambda files: crops.center(files, crop),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def part_of(dataset: Dataset) -> int:
    """Examples that are in memory at a time; of files, which may be large, fewer."""
    return PART if dataset.crop is None else PART // 10


def batches(
    files: Sequence[str],
    keys: Sequence[str],
    *,
    parallel: int | None = None,
    most: int = PART,
) -> tf.data.Dataset:
    """Named features of a split, part by part.

    Args:
        files: As of `records`.
        keys: As of `parse`.
        parallel: As of `records`.
        most: Examples at a time; see `part_of`.
    """
    return (
        records(files, parallel)
        .batch(most)
        .map(
            tf.autograph.experimental.do_not_convert(
                lambda serialized: parse(serialized, keys)
            ),
            num_parallel_calls=2,
        )
    )


def records(files: Sequence[str], parallel: int | None = None) -> tf.data.Dataset:
    """The serialized tf.Examples of a split, string scalars.

    Args:
        files: TFRecord files, all of one ExampleGen; `.gz` ones are compressed.
        parallel: So many files are read at once, their records mixed; None: one after
            the other, in order of their names.
    """
    compressed = bool(files) and all(name.endswith(".gz") for name in files)
    return untuned(
        tf.data.TFRecordDataset(
            sorted(files),
            compression_type="GZIP" if compressed else "",
            num_parallel_reads=parallel,
        )
    )


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, without TensorFlow's tuning of parallelism and buffers.

    Every number that it would choose is given here. Its thread sleeps for twice as long each
    time, up to a minute, and the end of an iterator waits for it (measured with TensorFlow
    2.21: 39 to 41 idle seconds after the last of 43 s of training, in two of four trainings).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def load_examples(files: Sequence[str], label_key: str) -> Examples:
    """Reads a whole split.

    Args:
        files: TFRecord files; `.gz` ones are compressed.
        label_key: Feature to learn, `features.LABEL` or `features.COARSE_LABEL`.

    Raises:
        ValueError: There is no file or no example.
    """
    keys = (features.IMAGE, features.EXAMPLE_ID, label_key)
    parsed: list[Mapping[str, tf.Tensor]] = list(batches(files, keys, parallel=2))
    if not parsed:
        raise ValueError(f"no example in {len(files)} files, first: {files[:1]}")
    columns = {key: tf.concat([batch[key] for batch in parsed], axis=0) for key in keys}
    ids = columns[features.EXAMPLE_ID].numpy()
    # Files and shard counts must not change the order that the seed stands for.
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Examples(
        images=tf.gather(columns[features.IMAGE], order),
        labels=tf.gather(columns[label_key], order),
    )
