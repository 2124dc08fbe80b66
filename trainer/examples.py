"""Reading ingested tf.Examples: a split's records, and the whole of it in memory as uint8."""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import tensorflow as tf

from contract import datasets, features
from contract.datasets import Dataset
from contract.records import DATASET_FILE


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split in memory, ordered by example id."""

    images: tf.Tensor  # string [n], 3,072 raw bytes each
    labels: tf.Tensor  # int64 [n]

    def __len__(self) -> int:
        """Number of images."""
        return int(self.labels.shape[0])


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


def records(files: Sequence[str], parallel: int | None = None) -> tf.data.Dataset:
    """The serialized tf.Examples of a split, string scalars.

    Args:
        files: TFRecord files, all of one ExampleGen; `.gz` ones are compressed.
        parallel: So many files are read at once, their records mixed; None: one after
            the other, in order of their names.
    """
    compressed = bool(files) and all(name.endswith(".gz") for name in files)
    return tf.data.TFRecordDataset(
        sorted(files),
        compression_type="GZIP" if compressed else "",
        num_parallel_reads=parallel,
    )


def load_examples(files: Sequence[str], label_key: str) -> Examples:
    """Reads a whole split.

    Args:
        files: TFRecord files; `.gz` ones are compressed.
        label_key: Feature to learn, `features.LABEL` or `features.COARSE_LABEL`.

    Raises:
        ValueError: There is no file or no example.
    """
    specification = {
        features.IMAGE: tf.io.FixedLenFeature([], tf.string),
        features.EXAMPLE_ID: tf.io.FixedLenFeature([], tf.string),
        label_key: tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = [
        batch
        for batch in records(files, parallel=2)
        .batch(1000)
        .map(
            lambda serialized: tf.io.parse_example(serialized, specification),
            num_parallel_calls=2,
        )
    ]
    if not parsed:
        raise ValueError(f"no example in {len(files)} files, first: {files[:1]}")
    columns = {
        key: tf.concat([batch[key] for batch in parsed], axis=0)
        for key in specification
    }
    ids = columns[features.EXAMPLE_ID].numpy()
    # Files and shard counts must not change the order that the seed stands for.
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Examples(
        images=tf.gather(columns[features.IMAGE], order),
        labels=tf.gather(columns[label_key], order),
    )
