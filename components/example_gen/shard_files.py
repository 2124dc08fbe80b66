"""The TFRecord files of a split: their names, and how one is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal

import tensorflow as tf
from absl import logging

from components.example_gen.storage import is_remote

# Natural images hardly compress: level 1 gives the same size as 9 in 0.8 of the time.
GZIP_LEVEL = 1


def write(
    folder: str,
    place: tuple[str, int],
    shards: int,
    compression: Literal["gzip", "none"],
    examples: Iterable[bytes],
) -> int:
    """Writes a file, which appears whole, below the folder of its split.

    Args:
        folder: With the splits.
        place: Split and number of the file.
        shards: Files of the split.
        compression: Of the file.
        examples: Serialized tf.Examples, taken one by one.

    Returns:
        How many they were.
    """
    split, shard = place
    folder = os.path.join(folder, f"Split-{split}")
    tf.io.gfile.makedirs(folder)
    name = f"data_tfrecord-{shard:05d}-of-{shards:05d}"
    options = None
    if compression == "gzip":
        name += ".gz"
        options = tf.io.TFRecordOptions("GZIP", compression_level=GZIP_LEVEL)
    path = os.path.join(folder, name)
    # A worker may be stopped here and the shard be written again by another one. In
    # an object store nothing appears before it is complete.
    temporary = path if is_remote(path) else f"{path}.{os.urandom(4).hex()}"
    count = 0
    with tf.io.TFRecordWriter(temporary, options) as writer:
        for example in examples:
            writer.write(example)
            count += 1
    if temporary != path:
        tf.io.gfile.rename(temporary, path, overwrite=True)
    logging.info("Wrote %d examples to %s", count, name)
    return count
