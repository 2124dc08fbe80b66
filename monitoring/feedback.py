"""How often the answers are right: by labels that came in later, or estimated without.

With labels it is a measurement: Wilson's interval, and between two versions a paired test
on the images that both have answered (components/evaluator/paired.py). Without, it is an
estimate: how often answers of such confidence were right on the eval images. That holds as
long as the confidence means what it meant there, which drift is apt to change.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.evaluator import paired
from contract.baseline import Baseline
from contract.typed_json import Count, Interval, Record, Share
from monitoring import NothingToCompare

_Z = 1.959963984540054  # of 95 %


@dataclass(frozen=True, kw_only=True)
class Accuracy(Record):
    """Of one version's answers to the images whose labels are known."""

    images: Count
    correct: Count
    interval: Interval  # 95 %, Wilson's
    unknown: Count = 0  # of the images: whose label is no class of the model's
    such_as: str = ""  # one of these labels

    @property
    def value(self) -> float:
        """Share of right answers."""
        return self.correct / self.images


@dataclass(frozen=True, kw_only=True)
class Pair(Record):
    """Two versions on the images that both have answered."""

    first: Count  # version
    second: Count
    images: Count
    only_first: Count  # right alone
    only_second: Count
    difference: float  # accuracy of the second minus that of the first
    interval: Interval  # 95 %, Tango's
    p_value: Share  # McNemar's exact test


def read_labels(path: str) -> dict[str, str]:
    """Labels by example id, from a CSV file with the columns `id` and `label`.

    The id of an image is the SHA-256 of what was sent, in hexadecimal: of the raw pixels, of
    the PNG or JPEG file; or the tf.Example's own `example_id`. Of an id that comes twice the
    last line counts. Other columns are not looked at.

    Raises:
        NothingToCompare: It is no such file.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            if not {"id", "label"} <= {*(rows.fieldnames or ())}:
                raise NothingToCompare(
                    f"{path}: its first line must name the columns id and label."
                )
            found = {}
            for row in rows:
                key, label = ((row[name] or "").strip() for name in ("id", "label"))
                if not key or not label:
                    raise NothingToCompare(
                        f"{path}, line {rows.line_num}: it must have an id and a label."
                    )
                found[key] = label
    except (OSError, UnicodeError, csv.Error) as problem:
        raise NothingToCompare(f"{path} cannot be read: {problem}") from problem
    return found


def accuracy(
    answers: Mapping[str, str], labels: Mapping[str, str], classes: Sequence[str] = ()
) -> Accuracy | None:
    """Of the answers whose labels are known; None: there are none.

    Args:
        answers: Example id -> class that the version answered.
        labels: Of `read_labels`.
        classes: The model's; empty: they are not known.
    """
    known = answers.keys() & labels.keys()
    if not known:
        return None
    correct = sum(answers[key] == labels[key] for key in known)
    low, high = paired.wilson(correct, len(known))
    odd = [labels[key] for key in known if classes and labels[key] not in classes]
    return Accuracy(
        images=len(known),
        correct=correct,
        interval=(low, high),
        unknown=len(odd),
        such_as=min(odd, default=""),
    )


def pairs(
    answers: Mapping[int, Mapping[str, str]], labels: Mapping[str, str]
) -> tuple[Pair, ...]:
    """Every two versions that have answered the same labelled images.

    Args:
        answers: Version -> as of `accuracy`.
        labels: Of `read_labels`.
    """
    found = []
    for first, second in itertools.combinations(sorted(answers), 2):
        both = answers[first].keys() & answers[second].keys() & labels.keys()
        if not both:
            continue
        right = [
            (answers[first][key] == labels[key], answers[second][key] == labels[key])
            for key in both
        ]
        one, other = right.count((True, False)), right.count((False, True))
        found.append(
            Pair(
                first=first,
                second=second,
                images=len(both),
                only_first=one,
                only_second=other,
                difference=(other - one) / len(both),
                # Of error rates it is the first's minus the second's: the same number.
                interval=paired.tango(other, one, len(both)),
                p_value=min(paired.mcnemar(one, other), 1.0),
            )
        )
    return tuple(found)


def estimated_accuracy(
    confidence: np.ndarray, baseline: Baseline
) -> tuple[float, float, float] | None:
    """An estimate of a window's accuracy from its confidence alone.

    Args:
        confidence: Float [n], NaN where it is not known.
        baseline: Whose reliability says how often answers of a confidence were right.

    Returns:
        The ends of a 95 % interval for chance alone, around the estimate in the middle;
        None: there is nothing to estimate it from.
    """
    values = confidence[~np.isnan(confidence)]
    bins = baseline.reliability
    if not bins or not values.size:
        return None
    counts = np.array([each.count for each in bins])
    # A bin without a wrong answer is no proof: one of each is added (Laplace's rule).
    rates = (np.array([each.correct for each in bins]) + 1) / (counts + 2)
    edges = np.array([each.highest for each in bins])
    place = np.minimum(np.searchsorted(edges, values), len(bins) - 1)
    shares = np.bincount(place, minlength=len(bins)) / len(values)
    value = float(shares @ rates)
    # Chance of the eval images, and of those of the window.
    spread = rates * (1 - rates)
    variance = (shares**2 / counts) @ spread + shares @ spread / len(values)
    margin = _Z * math.sqrt(float(variance))
    return max(value - margin, 0.0), value, min(value + margin, 1.0)


def eval_accuracy(baseline: Baseline) -> float | None:
    """On the eval images, of the same version."""
    images = sum(each.count for each in baseline.reliability)
    correct = sum(each.correct for each in baseline.reliability)
    return correct / images if images else None
