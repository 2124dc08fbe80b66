"""The work of CifarExampleGen: a Beam pipeline from pieces of a source to TFRecords.

    pieces -> read, validate, hash -> group by (split, shard) -> sort, write -> counts
    data.extra -> what stands in no split   ^

(Pictures that stay files: own_encoded.py, a shard at a time.) Elements are chunks of
images, not images. Grouping is a barrier: nothing is written before every record has been
read and found valid. Shards are written beside the splits and moved into place when all
are complete (on a disk; see `_write`). Equal configurations give equal bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples
from tfx.utils import io_utils

from components.declaration import Beam, Output, executor_of
from components.example_gen import (
    extra,
    extra_beam,
    identity,
    own_encoded,
    own_records,
    pieces,
    progress,
    shard_files,
    sources,
)
from components.example_gen.errors import DataError
from components.example_gen.extra_beam import NOTHING, Chunk, Place
from components.example_gen.storage import is_remote
from contract import features
from contract.config.data import DataConfig
from contract.datasets import DATASETS, Dataset, Extra
from contract.progress import PROGRESS_LOGGER
from contract.records import DATASET_FILE

_PARTIAL = ".partial"  # beside Split-*, so that no reader sees it
_COUNTS, _UNREADABLE, _LEFT_OUT = "counts.json", "unreadable.json", "left_out.json"
_progress = logging.getLogger(PROGRESS_LOGGER)


def ingest(
    *,
    data: DataConfig,
    fingerprint: str,
    examples: Output[Examples],
    make_pipeline: Beam,
) -> None:
    """Ingests a data set into the splits train, eval and test.

    Args:
        data: Whose name is resolved.
        fingerprint: `components.example_gen.sources.fingerprint` of the same, under which
            the cache will keep the result.
        examples: Gets the splits, dataset.json (contract.datasets.Dataset) and the custom
            properties `name`, `source`, `verified` (0 or 1), `verification` (a
            sentence), `counts` (JSON: split -> examples), `remarks` (JSON: sentences
            about what was left out) and, with data.extra, `extra` (JSON of
            contract.datasets.Extra). Features of an example: see contract.features. Ids and
            splits depend on the published pixels alone (of own images, on the files), see
            components.example_gen.identity: not on the size they are ingested in.
        make_pipeline: For Beam.

    Raises:
        DataError: The source cannot be used; one line says why.
    """
    plan = pieces.plan(data)
    labelled = extra.check(data, plan.dataset)
    counts, remarks, added = _write(plan, data, labelled, examples.uri, make_pipeline)
    if not plan.downloaded:
        _check_unchanged(data, plan, fingerprint)
    examples.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
    examples_utils.set_payload_format(
        examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    # TFX's only name for TFRecords; readers take the compression from the suffix.
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    examples.set_string_custom_property("name", data.name)
    examples.set_string_custom_property("source", plan.source)
    examples.set_int_custom_property("verified", int(plan.verified))
    examples.set_string_custom_property("verification", plan.verification)
    examples.set_string_custom_property("counts", json.dumps(counts))
    examples.set_string_custom_property("remarks", json.dumps(remarks))
    if added is not None:
        examples.set_string_custom_property("extra", added.to_json())
        logging.info("%s", added.sentence)
    dataset = dataclasses.replace(plan.dataset, counts=counts, extra=added)
    io_utils.write_string_file(
        os.path.join(examples.uri, DATASET_FILE), dataset.to_json(indent=2) + "\n"
    )
    logging.info("Ingested %s from %s: %s", data.name, plan.source, counts)


Executor = executor_of(ingest)


def _check_unchanged(data: DataConfig, plan: pieces.Plan, fingerprint: str) -> None:
    """Refuses what was read if it is not what the cache will take it for."""
    if sources.fingerprint(data) != fingerprint:
        raise DataError(
            f"{plan.source}: was changed between this run's start and the end of its "
            "ingestion; run again when it is complete"
        )


class ReadPiece(beam.DoFn):
    """A piece of the source to chunks by split and shard."""

    def __init__(self, plan: pieces.Plan, data: DataConfig):
        # Of own images the splits are decided.
        self._eval_fraction = 0.0 if plan.own else data.eval_fraction
        self._shards, self._total = data.shards, plan.count
        self._shape = plan.dataset.pixels
        self._done = 0

    def process(self, element: pieces.Piece) -> Iterator[Any]:
        """Reads, validates, hashes, splits and reduces, in this order.

        Yields:
            Chunks by split and shard, and with the tag "unreadable" split, label and what is
            wrong with a picture.
        """
        for split, images in pieces.read(element, self._shape):
            chosen = identity.groups(
                images.digests,
                split,
                eval_fraction=self._eval_fraction,
                shards=self._shards,
            )
            for key, index in chosen.items():
                coarse = images.coarse_labels
                yield (
                    key,
                    (
                        images.pixels[index].tobytes(),
                        images.labels[index].tobytes(),
                        b"" if coarse is None else coarse[index].tobytes(),
                        images.digests[index].tobytes(),
                        bytes(len(index)),
                    ),
                )
            for label, problem in images.unreadable:
                yield beam.pvalue.TaggedOutput("unreadable", (split, label, problem))
            # Pieces come in any order; one worker reads them, but on clusters.
            self._done += len(images.labels) + len(images.unreadable)
            progress.report(self._done, self._total, "images", "read")


class WriteShard(beam.DoFn):
    """The chunks of one split and shard to one sorted TFRecord file."""

    def __init__(self, folder: str, shards: int, compression: str):
        self._folder, self._shards = folder, shards
        self._compression: Any = compression

    def process(
        self, element: tuple[Place, Iterable[Chunk]]
    ) -> Iterator[tuple[str, int]]:
        """Writes the file, which appears whole, and yields (split, count)."""
        (split, shard), chunks = element
        examples = serialise(chunks)
        count = shard_files.write(
            self._folder, (split, shard), self._shards, self._compression, examples
        )
        yield split, count


def serialise(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """The tf.Examples of one split and shard, sorted by digest, then labels."""
    columns = list(zip(NOTHING, *chunks, strict=True))
    pixels, labels, coarse, digest, added = map(b"".join, columns)
    keys = identity.cut(digest)
    size = len(pixels) // max(1, len(keys))
    labels = np.frombuffer(labels, np.int64).tolist()
    coarse = np.frombuffer(coarse, np.int64).tolist()
    order = sorted(
        range(len(keys)), key=lambda i: (keys[i], labels[i], coarse[i] if coarse else 0)
    )
    ids = identity.example_ids([keys[i] for i in order])
    for i, example_id in zip(order, ids, strict=True):
        own = identity.extra_id(keys[i]) if added[i] else example_id
        feature = {
            features.IMAGE: _bytes(pixels[i * size : (i + 1) * size]),
            features.LABEL: _integer(labels[i]),
            features.EXAMPLE_ID: _bytes(own),
        }
        if coarse:
            feature[features.COARSE_LABEL] = _integer(coarse[i])
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        yield example.SerializeToString(deterministic=True)


def _write(
    plan: pieces.Plan,
    data: DataConfig,
    labelled: Dataset | None,
    uri: str,
    make_pipeline: Beam,
) -> tuple[dict[str, int], list[str], Extra | None]:
    """Runs the pipeline, checks its result and moves the splits into place.

    In an object store the splits are written where they belong: there, moving a folder
    would be copying every object, one after the other, and no single step.

    Returns:
        Examples by split, sentences about what was left out, and what data.extra, whose
        images `labelled` describes, has added.
    """
    partial = os.path.join(uri, _PARTIAL)
    splits = [os.path.join(uri, f"Split-{split}") for split in features.SPLITS]
    working = uri if is_remote(uri) else partial
    for folder in (partial, *(splits if working == uri else ())):
        if tf.io.gfile.exists(folder):  # of a run that was killed
            tf.io.gfile.rmtree(folder)
    tf.io.gfile.makedirs(partial)
    try:
        _run(plan, data, labelled, (working, partial), make_pipeline)
        unreadable = [tuple(each) for each in _read_json(partial, _UNREADABLE)]
        remarks = []
        if plan.own:
            remarks = own_records.judged(*plan.own, unreadable, data.unreadable_limit)
        added, expected = None, plan.count - len(unreadable)
        if labelled is not None and data.extra is not None:
            left_out = _read_json(partial, _LEFT_OUT)
            number = labelled.counts[features.TRAIN] - sum(left_out.values())
            added = Extra(path=data.extra, added=number, left_out=left_out)
            expected += number
        counts = _checked_counts(plan, data, _read_json(partial, _COUNTS), expected)
        for target in splits if working == partial else ():
            if tf.io.gfile.exists(target):
                tf.io.gfile.rmtree(target)
            name = os.path.basename(target)
            tf.io.gfile.rename(os.path.join(partial, name), target)
    finally:
        with contextlib.suppress(tf.errors.OpError):  # not in place of what happened
            tf.io.gfile.rmtree(partial)
    for sentence in remarks:
        _progress.warning("warning: %s", sentence)
    return counts, remarks, added


def _run(
    plan: pieces.Plan,
    data: DataConfig,
    labelled: Dataset | None,
    folders: tuple[str, str],
    make_pipeline: Beam,
) -> None:
    """Writes the splits below the first of the folders; to the second what they hold."""
    folder, partial = folders
    try:
        with make_pipeline() as pipeline:
            source = (
                pipeline
                | "Pieces" >> beam.Create(list(plan.pieces))
                # Else the runner would read all pieces on one worker.
                | "Spread" >> beam.Reshuffle()
            )
            if plan.dataset.crop is None:
                written, unreadable = _grouped(
                    source, plan, data, labelled, (folder, partial)
                )
            else:
                write = own_encoded.WriteEncoded(folder, plan.count)
                found = source | "Write" >> beam.ParDo(write).with_outputs(
                    "unreadable", main="written"
                )
                written, unreadable = found.written, found.unreadable
            _ = (
                written
                | "Count" >> beam.CombinePerKey(sum)
                | "Counts" >> beam.combiners.ToDict()
                | "Record" >> beam.Map(_write_json, partial, _COUNTS)
            )
            _ = (
                unreadable
                | "Unreadable" >> beam.combiners.ToList()
                | "Name" >> beam.Map(_write_json, partial, _UNREADABLE)
            )
    except Exception as error:
        # Runners hand an exception of a worker on as text, with its traceback.
        if found := re.search(r"DataError: (.+?)(?: \[while running|\n|$)", str(error)):
            raise DataError(found[1]) from None
        raise


def _grouped(
    source: Any,
    plan: pieces.Plan,
    data: DataConfig,
    labelled: Dataset | None,
    folders: tuple[str, str],
) -> tuple[Any, Any]:
    """Images as pixels, which come in any order: read, grouped by shard, sorted, written.

    Returns:
        The examples of each shard as (split, count), and what is unreadable.
    """
    folder, partial = folders
    keys = [(s, shard) for s in features.SPLITS for shard in range(data.shards)]
    read = source | "Read" >> beam.ParDo(ReadPiece(plan, data)).with_outputs(
        "unreadable", main="chunks"
    )
    chunks = (read.chunks,)
    if labelled is not None and data.extra is not None:
        known = DATASETS.get(data.name)
        superclasses = known.superclasses if known else ()
        reader = extra_beam.ReadExtra(labelled, superclasses, data.shards)
        size = plan.dataset.image_bytes
        added, left_out = extra_beam.add(reader, data.extra, size, read.chunks)
        chunks += (added,)
        _ = left_out | "LeftOut" >> beam.Map(_write_json, partial, _LEFT_OUT)
    # Each file exists, also when no image falls into it.
    empty = (
        source.pipeline
        | "Shards" >> beam.Create(keys)
        | "Empty" >> beam.Map(lambda key: (key, NOTHING))
    )
    written = (
        (*chunks, empty)
        | "Merge" >> beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(WriteShard(folder, data.shards, data.compression))
    )
    return written, read.unreadable


def _write_json(value: Any, folder: str, name: str) -> None:
    with tf.io.gfile.GFile(os.path.join(folder, name), "w") as file:
        file.write(json.dumps(value))


def _read_json(folder: str, name: str) -> Any:
    with tf.io.gfile.GFile(os.path.join(folder, name)) as file:
        return json.loads(file.read())


def _checked_counts(
    plan: pieces.Plan, data: DataConfig, written: Mapping[str, int], expected: int
) -> dict[str, int]:
    counts = {split: int(written.get(split, 0)) for split in features.SPLITS}
    if sum(counts.values()) != expected:
        raise DataError(
            f"{plan.source}: {sum(counts.values()):,} examples written of "
            f"{expected:,}; did the source change meanwhile? run again"
        )
    for split, count in counts.items():
        if not count:
            raise DataError(
                f"{plan.source}: the {split} split would be empty "
                f"(data.eval_fraction={data.eval_fraction:g}, {plan.count:,} "
                "records); change data.eval_fraction or take more records"
            )
    return counts


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _integer(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
