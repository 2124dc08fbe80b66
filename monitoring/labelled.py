"""Logged images with the labels that came in for them: training data that are like requests.

In: a request log, and labels by example id. Out: a folder that a run takes as data.extra
(components/example_gen/extra.py has its form). What the folder holds already stays in it,
so that images outlive the log's rotation; of an image that comes again the newest label
counts. Like the log it holds what users sent, and is for its owner only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from components.example_gen import extra
from components.example_gen.errors import DataError
from contract import features, whole_file
from contract.datasets import Dataset
from contract.records import DATASET_FILE
from monitoring import NothingToCompare
from monitoring.baselines import Baselines
from monitoring.traffic import Log, Shape


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What a folder holds now, and what was left out."""

    images: int
    new: int  # of them, that it did not hold
    contradictory: int  # images that came in with several labels
    unknown: int  # answers whose label is no class of the model's
    oldest: int  # images beyond extra.MOST_IMAGES

    @property
    def sentence(self) -> str:
        """For people."""
        reasons = {
            "with several labels": self.contradictory,
            "with a label that is no class of the model's": self.unknown,
            f"older than the newest {extra.MOST_IMAGES:,}": self.oldest,
        }
        rest = [f"{number:,} {why}" for why, number in reasons.items() if number]
        left_out = f"; left out: {', '.join(rest)}" if rest else ""
        return f"{self.images:,} labelled images, {self.new:,} of them new{left_out}"


class _Image(NamedTuple):
    pixels: bytes
    label: int
    id: bytes


@dataclass
class _Kind:
    """What the images of a model's versions are, which must be the same of all."""

    baselines: Baselines
    problems: list[str] = field(default_factory=list)
    of: str = ""  # the model and version that told first
    dataset: Dataset | None = None

    def shape(self, model: str, version: int) -> Shape | None:
        """As traffic.Log asks for it.

        Raises:
            NothingToCompare: This version's images or classes are others.
        """
        try:
            found = self.baselines.of(model, version)
        except NothingToCompare as problem:
            self.problems.append(str(problem))
            return None
        if found.image_shape is None or None in found.image_shape:
            raise NothingToCompare(
                f"{model}, version {version}: its images have no common size, and such are "
                "not gathered."
            )
        dataset = Dataset(
            name="labelled",
            title=f"Labelled requests to {model}",
            image_shape=found.image_shape,
            labels={features.LABEL: found.class_names},
        )
        if self.dataset not in (None, dataset):
            raise NothingToCompare(
                f"{model}: version {version} has other images or classes than {self.of}: "
                "choose one with --version."
            )
        self.of, self.dataset = f"version {version}", dataset
        return found.image_shape


def gather(
    folder: Path,
    places: Sequence[str],
    baselines: Baselines,
    labels: Mapping[str, str],
    model: str | None = None,
    version: int | None = None,
) -> Gathered | None:
    """Adds the labelled images of a log to a folder.

    Args:
        folder: Made if it is not there.
        places: As of traffic.Log, read from their beginning.
        baselines: Of the model's versions, which say what images and classes are.
        labels: Of feedback.read_labels.
        model: As of traffic.Log.
        version: The same.

    Returns:
        What it holds now; None: no logged image has a label, and nothing is written.

    Raises:
        NothingToCompare: The versions have other images or classes than each other or than
            the folder, or the folder is damaged.
        OSError: It cannot be written.
    """
    kind = _Kind(baselines)
    found: dict[bytes, _Image] = {}  # by digest of the pixels, newest last
    contradictory: set[bytes] = set()
    unknown = 0
    for answer in Log(places, kind.shape, model, version).new():
        name = labels.get(answer.id)
        if name is None or answer.image is None or kind.dataset is None:
            continue
        if name not in kind.dataset.class_names:
            unknown += 1
            continue
        pixels = answer.image.tobytes()
        image = _Image(pixels, kind.dataset.class_names.index(name), answer.id.encode())
        before = _put(found, image)
        if before is not None and before.label != image.label:
            contradictory.add(hashlib.sha256(pixels).digest())
        _drop_oldest(found)
    for digest in contradictory:
        found.pop(digest, None)
    if kind.dataset is None or not (found or unknown or contradictory):
        return None
    held = _held(folder, kind.dataset)
    earlier = held.keys() - contradictory
    for digest in contradictory:
        held.pop(digest, None)
    for image in found.values():
        _put(held, image)
    oldest = _drop_oldest(held)
    if held:
        _write(folder, kind.dataset, held)
    return Gathered(
        images=len(held),
        new=len(held.keys() - earlier),
        contradictory=len(contradictory),
        unknown=unknown,
        oldest=oldest,
    )


def _put(images: dict[bytes, _Image], image: _Image) -> _Image | None:
    """Adds an image as the newest; returns the equal one that was there."""
    digest = hashlib.sha256(image.pixels).digest()
    before = images.pop(digest, None)
    images[digest] = image
    return before


def _drop_oldest(images: dict[bytes, _Image]) -> int:
    """Keeps to the limit; returns how many went."""
    number = max(len(images) - extra.MOST_IMAGES, 0)
    for digest in [*images][:number]:
        del images[digest]
    return number


def _held(folder: Path, dataset: Dataset) -> dict[bytes, _Image]:
    """What a folder holds already."""
    if not (folder / DATASET_FILE).exists():
        return {}
    held: dict[bytes, _Image] = {}
    try:
        there = extra.described(str(folder))
        if (there.image_shape, there.labels) != (dataset.image_shape, dataset.labels):
            raise NothingToCompare(
                f"{folder}: holds images of another shape or other classes: choose another "
                "folder."
            )
        for part in extra.read(str(folder), there):
            for row in zip(part.pixels, part.labels.tolist(), part.ids, strict=True):
                _put(held, _Image(row[0].tobytes(), *row[1:]))
    except DataError as problem:
        raise NothingToCompare(
            f"{problem} (without {folder} it is begun anew)"
        ) from problem
    return held


def _write(folder: Path, dataset: Dataset, images: Mapping[bytes, _Image]) -> None:
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = folder / f".{extra.IMAGES_FILE}.{os.getpid()}"
    try:
        aside.touch(0o600)
        with tf.io.TFRecordWriter(str(aside)) as writer:
            for image in images.values():
                writer.write(_example(image))
        aside.replace(folder / extra.IMAGES_FILE)
    finally:
        aside.unlink(missing_ok=True)
    told = replace(dataset, counts={features.TRAIN: len(images)})
    text = told.to_json(indent=2) + "\n"
    whole_file.write(folder / DATASET_FILE, text.encode(), 0o600)


def _example(image: _Image) -> bytes:
    import tensorflow as tf

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[image.label]))
    named = {
        features.IMAGE: feature(image.pixels),
        features.LABEL: label,
        features.EXAMPLE_ID: feature(image.id),
    }
    example = tf.train.Example(features=tf.train.Features(feature=named))
    return example.SerializeToString(deterministic=True)
