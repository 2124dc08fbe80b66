"""The numbers that live requests are compared by, and their baseline of one model.

In: training images, and the model's own answers to the eval images (never their labels:
those would show its errors as drift). Out: contract/baseline.py. The AtomicPusher makes it
when it publishes; monitoring for versions that were published without.

Channel means move together with the brightness, and six tests of one thing cost power. So
colours are told by their differences: red against blue, green against both.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from components.drift import image_statistics
from components.drift.image_statistics import (
    BLUE,
    BRIGHTNESS,
    CONTRAST,
    GREEN,
    RED,
    SHARPNESS,
)
from contract import features
from contract.baseline import QUANTILES, Baseline, ClassShare, Distribution, Reliability
from contract.datasets import Dataset
from contract.predictions import Predictions

RED_BLUE, GREEN_MAGENTA, SIZE = "red_blue", "green_magenta", "size"
# Number -> what less of it looks like, and more.
NUMBERS = {
    BRIGHTNESS: ("darker", "brighter"),
    CONTRAST: ("flatter", "richer in contrast"),
    RED_BLUE: ("bluer", "redder"),
    GREEN_MAGENTA: ("less green", "greener"),
    SHARPNESS: ("blurrier", "sharper"),
    SIZE: (
        "smaller",
        "larger",
    ),  # of images of no common size: the root of their pixels
}
DECIMALS = (
    5  # to which numbers are kept, and live ones rounded before they are compared
)

_MOST_IMAGES = 50_000
_MOST_PICTURES = 5_000  # of any size
_MOST_PIXELS = 5_000_000_000  # of those: some minutes on one core
_BINS = 20  # of the confidence; each has as many answers


def measure(images: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of images of one size.

    Args:
        images: As image_statistics.measure takes them.

    Returns:
        Keys of `NUMBERS` without `SIZE`, each float64 [n]; grey images have no colours.
    """
    found = image_statistics.measure(images)
    columns = {name: found[name] for name in (BRIGHTNESS, CONTRAST, SHARPNESS)}
    if RED in found:
        columns[RED_BLUE] = found[RED] - found[BLUE]
        columns[GREEN_MAGENTA] = found[GREEN] - (found[RED] + found[BLUE]) / 2
    return {
        name: np.round(columns[name].astype(np.float64), DECIMALS)
        for name in NUMBERS
        if name in columns
    }


def measure_each(images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The same of images of any sizes, with `SIZE`; each uint8 [height, width, channels]."""
    parts = [measure(image[None]) for image in images]
    columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    sides = [(image.shape[0] * image.shape[1]) ** 0.5 for image in images]
    return columns | {SIZE: np.round(np.array(sides), DECIMALS)}


def distribution(values: np.ndarray) -> Distribution:
    """Of values [n], n at least 1."""
    steps = np.linspace(0, 1, QUANTILES)
    # Values that are there, not between: of few values each stays one of them.
    found = np.quantile(values, steps, method="inverted_cdf")
    return Distribution(
        count=len(values),
        quantiles=tuple(float(value) for value in np.round(found, DECIMALS)),
    )


def of_answers(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    others: np.ndarray | None = None,
) -> Baseline:
    """The part of a baseline that tells what a model answered.

    Args:
        probabilities: Float [n, classes], of the eval images, n at least 1.
        labels: int64 [n]; they tell what probabilities mean, and are not compared with.
        class_names: In label order.
        others: int64 [classes], how many images of each class there were besides, of which
            chance has chosen the eval images; None: it is not known.
    """
    answered = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = answered == labels
    order = np.argsort(confidence, kind="stable")
    bins = []
    for part in np.array_split(order, min(_BINS, len(order))):
        highest = min(float(np.round(confidence[part[-1]], DECIMALS)), 1.0)
        bins.append(
            Reliability(
                highest=highest, count=len(part), correct=int(correct[part].sum())
            )
        )
    counts = np.bincount(answered, minlength=len(class_names))
    return Baseline(
        class_names=tuple(class_names),
        answers=tuple(counts.tolist()),
        shares=_shares(probabilities.astype(np.float64), labels, others),
        confidence=distribution(np.minimum(confidence, 1.0)),
        reliability=tuple(bins),
    )


def of_examples(
    folder: str, dataset: Dataset
) -> tuple[dict[str, Distribution], np.ndarray]:
    """What the training images are like; at most 50,000, of all files alike.

    Of pictures of any size 5,000, of large ones fewer, and the classes of 50,000.

    Args:
        folder: Of the Examples artifact, local or gs://.
        dataset: What they are.

    Returns:
        Distributions of their numbers; and how many are of each class, int64 [classes],
        without those that data.extra has added, which chance has chosen from nothing.

    Raises:
        ValueError: There are none.
    """
    columns: list[Mapping[str, np.ndarray]] = []
    counts = np.zeros(len(dataset.class_names), np.int64)
    pixels = 0.0
    for batch in _training_examples(folder, dataset):
        images = batch[features.IMAGE].tolist()
        if dataset.crop is not None:
            left = _MOST_PICTURES - int(counts.sum()) if pixels < _MOST_PIXELS else 0
            images = images[: max(left, 0)]
        if images:
            columns.append(_numbers(images, dataset))
            pixels += float(np.square(columns[-1].get(SIZE, 0)).sum())
        own = [not each.endswith(features.EXTRA) for each in batch[features.EXAMPLE_ID]]
        labels = batch[dataset.label_key][own]
        counts += np.bincount(labels, minlength=len(counts))
    if not columns:
        raise ValueError(f"{folder} has no example of the training split")
    numbers = {
        name: distribution(np.concatenate([each[name] for each in columns]))
        for name in columns[0]
    }
    return numbers, counts


def baseline(
    folder: str,
    dataset: Dataset,
    class_names: Sequence[str],
    predictions: Predictions,
    role: str,
) -> Baseline:
    """The whole baseline of one model.

    Args:
        folder: As of `of_examples`.
        dataset: What the examples are.
        class_names: Of the evaluation, in label order.
        predictions: To the eval images.
        role: Whose, of all that they hold.

    Raises:
        ValueError: There is nothing to make it of.
    """
    if role not in predictions.probabilities:
        raise ValueError(f"there are no answers of the {role} to the eval images")
    numbers, others = of_examples(folder, dataset)
    told = of_answers(
        predictions.probabilities[role],
        predictions.labels,
        class_names,
        # Of examples without dataset.json, only their name tells the classes.
        others if len(others) == len(class_names) else None,
    )
    return dataclasses.replace(told, image_shape=dataset.image_shape, numbers=numbers)


def _shares(
    probabilities: np.ndarray, labels: np.ndarray, others: np.ndarray | None
) -> tuple[ClassShare, ...]:
    """The sharpest linear estimate of each class's share (Fisher's discriminant).

    If a part of the images of a class is missing or added, the mean of the probabilities
    moves towards or away from that class's own mean. Weighted by the inverse covariance
    this is seen soonest, also of a model that takes the class for others.

    How many of the few eval images are of each class is chance; all labelled images tell
    it better. So the eval images stand for these class by class (post-stratification:
    Cochran 1977, Sampling Techniques, section 5A.9), and what is left of the baseline's
    own error is the spread within a class.
    """
    classes = probabilities.shape[1]
    there = np.bincount(labels, minlength=classes)
    counts = there if others is None else there + others
    # A class whose answers are not known stands for no share.
    counts = np.where(there > 0, counts, 0)
    mix = counts / counts.sum()
    image = (mix / np.maximum(there, 1))[labels]  # weight of each eval image
    mean = image @ probabilities
    off = probabilities - mean
    covariance = (off * image[:, None]).T @ off
    # The weights are fitted to these very images: what they tell of others spreads more,
    # as the error of a regression with so many terms does.
    terms = classes - 1
    fitted = (len(labels) + terms) / max(len(labels) - terms, 1)
    # Probabilities sum to 1, so it has no inverse without this.
    covariance += np.eye(classes) * max(1e-3 * np.trace(covariance) / classes, 1e-12)
    found = []
    for label in range(classes):
        own = probabilities[labels == label]
        away = own.mean(axis=0) - mean if len(own) else np.eye(classes)[label] - mean
        weights = np.linalg.solve(covariance, away)
        # An image of the class moves the estimate of the share by 1 - share, others by
        # -share, on average.
        share = float(mix[label])
        reach = float(weights @ away)
        weights = weights * (1 - share) / reach if reach > 0 else np.zeros(classes)
        estimate = off @ weights
        deviation = math.sqrt(fitted * float(image @ np.square(estimate)))
        skewness = float(image @ estimate**3) / (deviation or 1.0) ** 3
        # Its mean and variance in each class.
        known = np.maximum(there, 1)
        middle = np.bincount(labels, estimate, classes) / known
        within = np.bincount(labels, np.square(estimate - middle[labels]), classes)
        # Of a class with one image, as of any.
        within = np.where(there > 1, within / np.maximum(there - 1, 1), deviation**2)
        error = fitted * (mix**2 / known @ within) + mix @ middle**2 / counts.sum()
        found.append(
            ClassShare(
                share=round(share, 8),
                weights=tuple(np.round(weights, 6).tolist()),
                offset=round(share - float(np.round(weights, 6) @ mean), 8),
                deviation=round(deviation, 8),
                skewness=round(skewness, 6),
                error=round(math.sqrt(error), 8),
            )
        )
    return tuple(found)


def _numbers(images: list[bytes], dataset: Dataset) -> Mapping[str, np.ndarray]:
    from trainer.examples import pixels_of  # loads TensorFlow

    if None not in dataset.image_shape:
        return measure(pixels_of(images, dataset))
    return measure_each([_decoded(image, dataset.image_shape[2]) for image in images])


def _decoded(content: bytes, channels: int) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_image(content, channels, expand_animations=False).numpy()


def _training_examples(
    folder: str, dataset: Dataset
) -> Iterator[Mapping[str, np.ndarray]]:
    import tensorflow as tf

    from trainer.examples import batches, part_of  # loads TensorFlow

    pattern = os.path.join(folder, f"Split-{features.TRAIN}", "data_tfrecord-*")
    paths = tf.io.gfile.glob(pattern)
    if not paths:
        raise ValueError(f"{folder} has no files of the training split")
    left = _MOST_IMAGES
    keys = [features.IMAGE, features.EXAMPLE_ID, dataset.label_key]
    most = part_of(dataset)
    # One file after the other would give only the first ones' share of a large split.
    for batch in batches(paths, keys, parallel=min(len(paths), 16), most=most):
        found = {key: column.numpy()[:left] for key, column in batch.items()}
        left -= len(found[dataset.label_key])
        yield found
        if not left:
            return
