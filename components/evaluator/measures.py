"""What the contenders did on one split.

Predictions of every contender on the same images come in; error rates with intervals,
calibration, slices and paired differences go out, as contract/comparison.py names them. No
TensorFlow here: the tests compute it again in other ways.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.evaluator import calibration, paired
from contract.comparison import (
    LABEL,
    ComparedModel,
    Comparison,
    Difference,
    ErrorRate,
    Measures,
    Slice,
    SliceDifference,
    pairs_of,
)
from contract.contenders import BASELINE, IN_SERVICE

TOP, TOP_CLASSES = 5, 20  # the top-5 error is reported from 20 classes on
_SMALLEST = np.finfo(np.float32).tiny  # a probability of 0 has a cross-entropy of 87


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of a split, in one order for all contenders."""

    ids: np.ndarray  # bytes [n]
    labels: np.ndarray  # int64 [n], in [0, classes)
    bands: Mapping[str, np.ndarray]  # name -> int64 [n], see contract.features.BANDS
    # What a band's values are called where these are not quarters from low to high.
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What one model made of them."""

    network: str
    probabilities: np.ndarray | None  # float32 [n, classes]; None: it could not be run
    problem: str | None = None  # why nothing can be concluded from it, as a sentence
    images_per_second: float | None = None  # in batches
    load_seconds: float | None = None
    artifact_id: int | None = None


def slices(images: Images, band_names: Sequence[str]) -> dict[Slice, np.ndarray]:
    """Slice -> bool [n]: one per class and per band."""
    found = {
        Slice(LABEL, index): images.labels == index
        for index in map(int, np.unique(images.labels))
    }
    for feature, values in images.bands.items():
        for index in map(int, np.unique(values)):
            name = images.names.get(feature, band_names)[index]
            part = Slice(feature.removesuffix("_band"), name)
            found[part] = values == index
    return found


def size_limits(sizes: np.ndarray) -> tuple[int, ...]:
    """Where one quarter of the pictures ends and the next begins, in pixels.

    Args:
        sizes: Of the eval split, int64 [n].

    Returns:
        The largest size of each quarter but the last; fewer where many pictures have one
        size, none where all have.
    """
    ends = np.quantile(sizes, (0.25, 0.5, 0.75), method="inverted_cdf")
    return tuple(int(end) for end in np.unique(ends) if end < sizes.max())


def size_names(limits: Sequence[int]) -> tuple[str, ...]:
    """What lies between these limits in words, one more than there are limits."""
    return (
        f"up to {limits[0]} px",
        *(f"{low + 1} to {high} px" for low, high in itertools.pairwise(limits)),
        f"over {limits[-1]} px",
    )


def compare(
    split: str,
    images: Images,
    answers: Mapping[str, Answered],
    class_names: Sequence[str],
    band_names: Sequence[str],
) -> Comparison:
    """Measures every contender, and every pair of them.

    Args:
        split: Name of the split.
        images: Labels, ids and bands of its images.
        answers: By contender's name, and "in_service"; nothing in service: not there.
        class_names: In label order.
        band_names: In order of the bands' indices.
    """
    parts = slices(images, band_names)
    sound = {
        role: probabilities
        for role, given in answers.items()
        if given.problem is None and (probabilities := given.probabilities) is not None
    }
    wrong = {
        role: probabilities.argmax(axis=1) != images.labels
        for role, probabilities in sound.items()
    }
    counts = np.bincount(images.labels, minlength=len(class_names))
    return Comparison(
        split=split,
        examples=len(images),
        class_names=tuple(class_names),
        constant_error=1 - float(counts.max()) / len(images),
        models={
            role: ComparedModel(
                network=given.network,
                problem=given.problem,
                images_per_second=given.images_per_second,
                load_seconds=given.load_seconds,
                artifact_id=given.artifact_id,
                measured=_measured(sound[role], images, parts)
                if role in sound
                else None,
            )
            for role, given in answers.items()
        },
        pairs=_pairs(wrong, parts),
    )


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes count as more probable than the true one, int64 [n].

    Of equals, the lower class counts as the more probable, as in argmax.

    Args:
        probabilities: Float [n, classes].
        labels: The true classes, int64 [n].
    """
    own = _of_true_class(probabilities, labels)[:, None]
    before = np.arange(probabilities.shape[1])[None, :] < labels[:, None]
    above = (probabilities > own).sum(axis=1)
    return above + ((probabilities == own) & before).sum(axis=1)


def cross_entropies(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each image, float64 [n]; arguments as of `ranks`."""
    own = _of_true_class(probabilities, labels)
    return -np.log(np.maximum(own, _SMALLEST).astype(np.float64))


def _of_true_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probabilities[np.arange(len(labels)), labels]


def error_rate(errors: int, examples: int) -> ErrorRate:
    """A rate with its Wilson interval."""
    return ErrorRate(
        error=errors / examples,
        ci95=paired.wilson(errors, examples),
        examples=examples,
        errors=errors,
    )


def _measured(
    probabilities: np.ndarray, images: Images, parts: Mapping[Slice, np.ndarray]
) -> Measures:
    predicted = probabilities.argmax(axis=1)
    wrong = predicted != images.labels
    entropy = cross_entropies(probabilities, images.labels)
    confidence = probabilities.max(axis=1).astype(np.float64)
    classes = probabilities.shape[1]
    top = None
    if classes >= TOP_CLASSES:
        rank = ranks(probabilities, images.labels)
        top = error_rate(int((rank >= TOP).sum()), len(images))
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (images.labels, predicted), 1)
    overall = error_rate(int(wrong.sum()), len(images))
    return Measures(
        error=overall.error,
        ci95=overall.ci95,
        examples=overall.examples,
        errors=overall.errors,
        top5=top,
        cross_entropy=float(entropy.mean()),
        cross_entropy_ci95=paired.mean_interval(entropy),
        ece=calibration.expected_calibration_error(confidence, ~wrong),
        ece_ci95=calibration.interval(confidence, ~wrong),
        reliability=calibration.reliability(confidence, ~wrong),
        slices={
            name: error_rate(int(wrong[part].sum()), int(part.sum()))
            for name, part in parts.items()
        },
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def _pairs(
    wrong: Mapping[str, np.ndarray], parts: Mapping[Slice, np.ndarray]
) -> dict[tuple[str, str], Difference]:
    """All pairs, corrected for there being several.

    Each contender that is not the baseline is a chance to find one better by luck.
    """
    chances = len(wrong.keys() - {BASELINE, IN_SERVICE})
    found = {
        (first, second): _difference(wrong[first], wrong[second], parts, chances)
        for first, second in pairs_of(wrong)
    }
    if chances > 1:
        tests = {pair: each for pair, each in found.items() if pair[1] == BASELINE}
        corrected = paired.holm([each.p_value for each in tests.values()])
        for (pair, each), value in zip(tests.items(), corrected, strict=True):
            found[pair] = dataclasses.replace(each, holm_p_value=value)
    return found


def _difference(
    first: np.ndarray,
    second: np.ndarray,
    parts: Mapping[Slice, np.ndarray],
    chances: int = 1,
) -> Difference:
    """One pair.

    Args:
        first: Of each image, whether that network is wrong, bool [n].
        second: The same of the other one.
        parts: Slice -> bool [n].
        chances: How many contenders are compared with the baseline.
    """

    def count(part: np.ndarray) -> tuple[int, int, int]:
        return (
            int((first & ~second & part).sum()),
            int((second & ~first & part).sum()),
            int(part.sum()),
        )

    only_first, only_second, examples = count(np.ones_like(first))
    # Many slices are looked at, so each gets an interval as much wider (Bonferroni) as it
    # takes for all of them together to hold with 95 %.
    simultaneous = 1 - (1 - paired.CONFIDENCE) / max(len(parts), 1)
    found = {}
    for name, part in parts.items():
        a, b, n = count(part)
        found[name] = SliceDifference(
            difference=(a - b) / n,
            interval=paired.tango(a, b, n, simultaneous),
            examples=n,
        )
    return Difference(
        difference=(only_first - only_second) / examples,
        ci95=paired.tango(only_first, only_second, examples),
        bootstrap_ci95=paired.bootstrap(only_first, only_second, examples),
        p_value=paired.mcnemar(only_first, only_second),
        only_first_wrong=only_first,
        only_second_wrong=only_second,
        both_wrong=int((first & second).sum()),
        examples=examples,
        method=paired.METHOD,
        slices=found,
        joint_ci95=None
        if chances < 2
        else paired.tango(
            only_first, only_second, examples, 1 - (1 - paired.CONFIDENCE) / chances
        ),
    )
