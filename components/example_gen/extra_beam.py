"""Beam's part of data.extra: its images as chunks of the train split; see `extra`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from components.example_gen import extra, identity
from contract.datasets import Dataset
from contract.features import SPLITS, TRAIN

Place = tuple[str, int]  # split, shard
# Pixels, labels, coarse labels (or nothing), digests and, for each image, whether data.extra
# has added it (1 or 0) of a chunk, as bytes: Beam's coders pass them through.
Chunk = tuple[bytes, bytes, bytes, bytes, bytes]
NOTHING: Chunk = (b"", b"", b"", b"", b"")
_LEFT_OUT = "left_out"


class ReadExtra(beam.DoFn):
    """A folder of data.extra to chunks, and to what is left out of it.

    Args:
        dataset: What its images are.
        superclasses: Label -> coarse label; empty if the data set has none.
        shards: Files of train.
    """

    def __init__(self, dataset: Dataset, superclasses: tuple[int, ...], shards: int):
        self._dataset, self._shards = dataset, shards
        self._superclasses = np.array(superclasses, np.int64)

    def process(
        self, element: str, there: Iterable[tuple[str, bytes]]
    ) -> Iterator[Any]:
        """Reads twice: only when all labels are known, what contradicts itself is."""
        contents: dict[str, set[bytes]] = {split: set() for split in SPLITS}
        for split, joined in there:
            contents[split].update(identity.cut(joined))
        wanted, left_out = extra.survey(element, self._dataset, contents)
        yield beam.pvalue.TaggedOutput(_LEFT_OUT, dict(left_out))
        for part in extra.read(element, self._dataset):
            chosen = []
            for index, digest in enumerate(part.digests):
                if digest in wanted:  # of equal ones the first
                    wanted.remove(digest)
                    chosen.append(index)
            yield from self._chunks(part, np.array(chosen, np.int64))

    def _chunks(
        self, part: extra.Labelled, chosen: np.ndarray
    ) -> Iterator[tuple[Place, Chunk]]:
        digests = identity.stacked(part.digests)[chosen]
        shards = identity.shard_of(digests, self._shards)
        for shard in np.unique(shards):
            index = chosen[shards == shard]
            labels = part.labels[index]
            coarse = (
                self._superclasses[labels] if len(self._superclasses) else labels[:0]
            )
            yield (
                (TRAIN, int(shard)),
                (
                    part.pixels[index].tobytes(),
                    labels.tobytes(),
                    coarse.tobytes(),
                    digests[shards == shard].tobytes(),
                    b"\x01" * len(index),
                ),
            )


def add(read: ReadExtra, folder: str, image_bytes: int, chunks: Any) -> tuple[Any, Any]:
    """Reads a folder of data.extra.

    Args:
        read: What reads it.
        folder: As of `extra.check`.
        image_bytes: Of one image as ingested.
        chunks: Of all other images; nothing is added that stands there.

    Returns:
        Its chunks, and how many images are left out, by the reason.
    """
    there = chunks | "Contents" >> beam.Map(_contents, image_bytes)
    found = (
        chunks.pipeline
        | "Extra" >> beam.Create([folder])
        | "ReadExtra"
        >> beam.ParDo(read, there=beam.pvalue.AsList(there)).with_outputs(
            _LEFT_OUT, main="added"
        )
    )
    return found["added"], found[_LEFT_OUT]


def _contents(element: tuple[Place, Chunk], image_bytes: int) -> tuple[str, bytes]:
    """Split, and SHA-256 of each image of a chunk as ingested."""
    (split, _), (pixels, *_) = element
    images = (pixels[i : i + image_bytes] for i in range(0, len(pixels), image_bytes))
    return split, b"".join(hashlib.sha256(image).digest() for image in images)
