"""A person's own images as files in tf.Examples: a shard at a time, a picture in memory.

Upright grey and RGB files stay as they are; all else becomes PNG, by the client's rule
(serving/client/pictures.py). Each is decoded once, as training will: a picture that cannot
be is found here, and not after a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf

from components.example_gen import identity, own_records, progress, shard_files
from components.example_gen.own_records import Item
from components.example_gen.pieces import Piece
from contract import features
from serving.client import pictures
from serving.client.errors import InvalidInput
from trainer import crops

_REPORTED = 100  # pictures between two reports of progress
_UNREADABLE = "unreadable"


class WriteEncoded(beam.DoFn):
    """A piece of the source, which is a shard of a split, to its file."""

    def __init__(self, folder: str, total: int):
        self._folder, self._total = folder, total
        self._done = 0

    def process(self, element: Piece) -> Iterator[Any]:
        """Writes the file.

        Yields:
            (split, examples), and with the tag "unreadable" split, label and what is wrong
            with a picture.
        """
        (split,) = element.splits
        problems: list[tuple[int, str]] = []
        assert element.shard is not None
        number, shards = element.shard
        examples = self._examples(element, problems)
        written = shard_files.write(
            self._folder, (split, number), shards, "none", examples
        )
        yield split, written
        for label, problem in problems:
            yield beam.pvalue.TaggedOutput(_UNREADABLE, (split, label, problem))

    def _examples(
        self, piece: Piece, problems: list[tuple[int, str]]
    ) -> Iterator[bytes]:
        """In order of content; of what is unreadable, a problem."""
        ids = identity.example_ids([item.digest for item in piece.own])
        for item, example_id in zip(piece.own, ids, strict=True):
            try:
                content = encoded(piece.root or "", item)
            except InvalidInput as error:
                problems.append((item.label, str(error)))
            else:
                yield _example(content, item.label, example_id)
            self._done += 1
            if self._done % _REPORTED == 0:
                progress.report(self._done, self._total, "images", "read")


def encoded(root: str, item: Item) -> bytes:
    """A picture's file, as examples hold it.

    Raises:
        InvalidInput: It is no picture, or a damaged one; the message begins with its name.
    """
    name = item.image.name
    content = own_records.content_of(root, item)
    given = pictures.encoded(content, name=name)
    if _decodes(given):
        return given
    picture = pictures.upright(content, name=name)  # if Pillow cannot, it says why
    if _decodes(given := pictures.png(picture)):
        return given
    raise InvalidInput(
        f"{name}: TensorFlow cannot decode a picture of {picture.width} x "
        f"{picture.height} pixels; make it smaller"
    )


def _decodes(file: bytes) -> bool:
    try:
        crops.decode(tf.constant(file))
    except tf.errors.OpError:
        return False
    return True


def _example(content: bytes, label: int, example_id: bytes) -> bytes:
    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        features.IMAGE: text(content),
        features.LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        features.EXAMPLE_ID: text(example_id),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)
