"""What the report shows of the examples themselves: samples, counts, disagreements."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from contract import features
from contract.datasets import Dataset
from contract.predictions import Predictions
from contract.typed_json import REMEDY, RecordError, inside, shown
from trainer.examples import PART, batches, part_of, pixels_of

_SAMPLES_PER_CLASS = 8
_MOST_SAMPLE_CLASSES = 20
_MOST_DISAGREEMENTS = 24


def of_examples(uri: str, data: Dataset, *, shown: bool) -> dict[str, Any]:
    """What the page shows of every run.

    Args:
        uri: Of the Examples artifact.
        data: What is in it.
        shown: Whether images may be shown; else there are neither samples nor pictures.

    Returns:
        `class_counts`: images of each class in each split; `samples`: the first train
        images of the first classes, a row a class; `pictures`: class name -> a test image,
        which become files of their own, to be sent to a server. Pictures are data URIs.
    """
    return {
        "class_counts": _class_counts(uri, data),
        "samples": _samples(uri, features.TRAIN, data, _SAMPLES_PER_CLASS)
        if shown
        else [],
        "pictures": {
            name: row[0]
            for name, row in zip(
                data.class_names, _samples(uri, features.TEST, data, 1), strict=False
            )
            if row
        }
        if shown
        else {},
    }


def disagreements(
    predictions: Predictions,
    two: tuple[str, str],
    examples: str,
    data: Dataset,
    where: str,
) -> list[dict[str, Any]]:
    """Eval images on which exactly one of two contenders is right, surest first.

    Args:
        predictions: On the eval split.
        two: Names of contenders that have answers.
        examples: URI of the Examples artifact.
        data: What is in it.
        where: Path of the predictions, for messages.

    Returns:
        For each: the picture (data URI), the true class, what each of them says with which
        probability, and who is right.

    Raises:
        RecordError: An image of the predictions is not among the examples.
    """
    given = {name: predictions.probabilities[name] for name in two}
    says = {name: each.argmax(axis=1) for name, each in given.items()}
    sure = {name: each.max(axis=1) for name, each in given.items()}
    right = {name: says[name] == predictions.labels for name in two}
    first, second = two
    differ = np.flatnonzero(right[first] != right[second])
    surest = np.minimum(sure[first], sure[second])
    chosen = differ[np.argsort(-surest[differ], kind="stable")][:_MOST_DISAGREEMENTS]
    ids, labels = predictions.ids.tolist(), predictions.labels.tolist()
    found = _with_ids(examples, {ids[i] for i in chosen}, data)
    for i in chosen:
        if ids[i] not in found:
            raise RecordError(
                f"{inside(where, 'ids')} has {shown(ids[i])}, which is none of the eval "
                f"images in {examples}{REMEDY}"
            )
    classes = data.class_names
    return [
        {
            "picture": found[ids[i]],
            "label": classes[labels[i]],
            "right": first if right[first][i] else second,
            "says": {
                name: {
                    "class": classes[says[name][i]],
                    "probability": float(sure[name][i]),
                }
                for name in two
            },
        }
        for i in chosen
    ]


def _with_ids(uri: str, ids: set[bytes], data: Dataset) -> dict[bytes, str]:
    """PNG data URIs of the eval images with these ids."""
    found, part = {}, part_of(data)
    for batch in _batches(
        uri, features.EVAL, [features.IMAGE, features.EXAMPLE_ID], part
    ):
        names = batch[features.EXAMPLE_ID]
        for pixels, name in zip(batch[features.IMAGE], names, strict=True):
            if name in ids:
                found[name] = _png_uri(pixels, data)
    return found


def _batches(
    uri: str, split: str, keys: Sequence[str], most: int = PART
) -> Iterator[dict[str, np.ndarray]]:
    """These features of a split's examples, in order."""
    files = tf.io.gfile.glob(os.path.join(uri, f"Split-{split}", "*"))
    for batch in batches(files, keys, most=most):
        yield {key: batch[key].numpy() for key in keys}


def _class_counts(uri: str, data: Dataset) -> dict[str, list[int]]:
    """Images of each class in each split."""
    counts, classes = {}, len(data.class_names)
    for split in features.SPLITS:
        total = np.zeros(classes, np.int64)
        for batch in _batches(uri, split, [data.label_key]):
            total += np.bincount(batch[data.label_key], minlength=classes)
        counts[split] = total.tolist()
    return counts


def _samples(uri: str, split: str, data: Dataset, most: int) -> list[list[str]]:
    """The first images of the first classes, as PNG data URIs, a row a class."""
    count = min(len(data.class_names), _MOST_SAMPLE_CLASSES)
    rows: list[list[str]] = [[] for _ in range(count)]
    for batch in _batches(uri, split, [features.IMAGE, data.label_key], part_of(data)):
        pairs = zip(batch[features.IMAGE], batch[data.label_key], strict=True)
        for pixels, label in pairs:
            if label < count and len(rows[label]) < most:
                rows[label].append(_png_uri(pixels, data))
        if all(len(row) == most for row in rows):
            break
    return rows


def _png_uri(pixels: bytes, data: Dataset) -> str:
    (array,) = pixels_of([pixels], data)
    grey = array.shape[-1] == 1
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if grey else array).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
