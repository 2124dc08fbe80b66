"""One window of live requests against the baseline of the version that answered them.

Each number of the images and the confidence: the two-sample test of Kolmogorov and Smirnov.
The predicted classes: the G-test of homogeneity for all together; for each class alone
Fisher's test of its answers (the hypergeometric law), and a test of its share as all
probabilities tell it, which sees more of a model that is often wrong. A test differs if

- chance explains what it found in fewer than `chance` / tests cases (Bonferroni's bound over
  all tests of a window, and over the classes), which knows the sizes of window and baseline;
- and the difference is large enough to matter (`LEAST`), which keeps a window of a million
  requests from raising an alarm for nothing.

Two windows together see a class's share sooner than each of them: `of_two`.

The counts of class shares are the model's own answers on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from components.drift.baseline import DECIMALS, NUMBERS
from contract.baseline import Baseline, Distribution
from contract.typed_json import Record, Share, Size

CONFIDENCE, CLASSES = "confidence", "classes"
ONE_CLASS, CLASS_SHARE = "one_class", "class_share"
CLASS_SHARE_OF_TWO = "class_share_of_two"
PROBABILITIES = "probabilities"  # of a window: float [n, classes], in label order
CHANCE = 0.005  # of an honest window that any test differs
# Kind of test -> smallest difference that matters: of distribution functions; of the shares
# of all classes, half of the sum of differences; of one class's share.
LEAST = {"number": 0.05, CLASSES: 0.03, ONE_CLASS: 0.01, CLASS_SHARE: 0.01}
# What each of two windows must show of the class by which they differ together.
_EACH_OF_TWO = 0.01
# Fewer expected answers than this spoil the G-test's law: such classes count as one.
_FEWEST_EXPECTED = 5


@dataclass(frozen=True, kw_only=True)
class Test(Record):
    """What one test found."""

    __test__ = False  # no test of pytest's

    name: str  # of NUMBERS, or CONFIDENCE, CLASSES, ONE_CLASS, CLASS_SHARE (_OF_TWO)
    difference: Share  # see LEAST
    p_value: Share  # corrected for the classes, not for the tests of a window
    threshold: Share  # below which a p-value differs
    differs: bool
    here: str  # in words
    there: str


@dataclass(frozen=True, kw_only=True)
class Window(Record):
    """What a window of one version's answers showed."""

    images: int
    first: int  # Unix seconds of its oldest request
    last: int
    tests: tuple[Test, ...]
    estimated_accuracy: tuple[Share, Share, Share] | None = None  # low, value, high
    seconds: Size = 0.0  # that it took to compare

    @property
    def differing(self) -> tuple[Test, ...]:
        """The tests that differ of this window alone, the least likely first."""
        found = [
            test
            for test in self.tests
            if test.differs and test.name != CLASS_SHARE_OF_TWO
        ]
        return tuple(sorted(found, key=lambda test: test.p_value))

    @property
    def of_two(self) -> bool:
        """Whether it differs together with the window before."""
        return any(
            test.differs and test.name == CLASS_SHARE_OF_TWO for test in self.tests
        )


class Seen(NamedTuple):
    """The mean probabilities of a window's answers."""

    images: int
    mean: np.ndarray  # float64 [classes], in label order


def seen(live: Mapping[str, np.ndarray]) -> Seen | None:
    """Of the columns of a window; None: it has no probabilities."""
    given = live.get(PROBABILITIES, np.empty((0, 0)))
    return Seen(len(given), given.mean(axis=0)) if given.size else None


def compare(
    baseline: Baseline, live: Mapping[str, np.ndarray], chance: float = CHANCE
) -> tuple[Test, ...]:
    """Every test of a window, in a fixed order.

    Args:
        baseline: Of the version.
        live: Columns of the window, each [n]: numbers of components/drift/baseline.py and
            `CONFIDENCE`, float, NaN where it is not known; `CLASSES`, object (str);
            `PROBABILITIES`. Columns that one side lacks are not compared.
        chance: That an honest window differs at all.
    """
    found: list[tuple[str, str, float, float, str, str]] = []
    distributions = dict(baseline.numbers)
    if baseline.confidence is not None:
        distributions[CONFIDENCE] = baseline.confidence
    for name in (*NUMBERS, CONFIDENCE):
        values = live.get(name, np.empty(0))
        values = values[~np.isnan(values)]
        if name in distributions and values.size:
            found.append(_number(name, values, distributions[name]))
    answered = live.get(CLASSES, np.empty(0, object))
    if baseline.answers and len(answered):
        found += _classes(answered, baseline)
    given = live.get(PROBABILITIES, np.empty((0, 0)))
    if baseline.shares and given.size:
        found += _class_share(given, baseline)
    threshold = chance / max(len(found), 1)
    return tuple(_judged(*measured, threshold) for measured in found)


def _judged(  # noqa: PLR0913 - what was measured, and the bound
    name: str,
    kind: str,
    difference: float,
    p: float,
    here: str,
    there: str,
    threshold: float,
) -> Test:
    """It differs if that is no chance, and large enough to matter."""
    return Test(
        name=name,
        difference=difference,
        p_value=p,
        threshold=threshold,
        differs=p < threshold and difference >= LEAST[kind],
        here=here,
        there=there,
    )


def kolmogorov_smirnov(
    values: np.ndarray, reference: Distribution
) -> tuple[float, float]:
    """Largest difference of two distribution functions, and its p-value.

    The reference is known at its quantiles alone: it is looked at there, and at a value that
    several of them share it lies within bounds, outside of which a difference counts. So
    the difference may be larger than what is found, by 1/256 at most.

    Args:
        values: Float [n], n at least 1, rounded as the reference's.
        reference: Of a sample.
    """
    quantiles = np.array(reference.quantiles)
    steps = len(quantiles) - 1
    knots, first, repeats = np.unique(quantiles, return_index=True, return_counts=True)
    # P(X <= knot) is at least its last quantile's share, and below the next one's.
    low = (first + repeats - 1) / steps
    high = np.where(repeats > 1, np.minimum(low + 1 / steps, 1.0), low)
    high[0] = max(high[0], 1 / steps)  # the least of a sample is a share of its own
    values, n, m = np.sort(values), len(values), reference.count
    live = np.searchsorted(values, knots, side="right") / n
    # What lies below a knot: of the reference, all that lies below its first quantile.
    below = np.searchsorted(values, knots, side="left") / n
    least, most = np.maximum(first - 1, 0) / steps, first / steps
    excess = np.stack([low - live, live - high, least - below, below - most])
    distance = max(float(excess.max()), 0.0)
    p = float(stats.kstwo.sf(distance, max(1, round(n * m / (n + m)))))
    return distance, min(max(p, 0.0), 1.0)


def _number(
    name: str, values: np.ndarray, reference: Distribution
) -> tuple[str, str, float, float, str, str]:
    distance, p = kolmogorov_smirnov(np.round(values, DECIMALS), reference)
    there = reference.quantiles[len(reference.quantiles) // 2]
    median = float(np.median(values))
    words = ""
    if name in NUMBERS and p < 0.01 and median != there:
        words = f": {NUMBERS[name][median > there]}"
    return (
        name,
        "number",
        distance,
        p,
        f"median {median:.3f}{words}",
        f"median {there:.3f}",
    )


def _classes(
    answered: np.ndarray, baseline: Baseline
) -> list[tuple[str, str, float, float, str, str]]:
    names = [*baseline.class_names]
    here = {name: 0 for name in names}
    for name in answered:
        here[name] = here.get(name, 0) + 1
    a = np.array([*here.values()])
    b = np.zeros(len(here), int)
    b[: len(baseline.answers)] = baseline.answers
    n, m = a.sum(), b.sum()
    change = a / n - b / m
    law = stats.hypergeom(n + m, a + b, n)
    each = 2 * np.minimum(law.cdf(a), law.sf(a - 1))
    each = np.minimum(each * len(here), 1.0)
    # Of several that are as unlikely as numbers can say, the most changed one.
    worst = int(np.lexsort((-np.abs(change), each))[0])
    named = [*here][worst]
    return [
        (
            CLASSES,
            CLASSES,
            float(np.abs(change).sum() / 2),
            _g_test(a, b),
            f"{np.abs(change).sum() / 2:.1%} of the answers are other classes",
            f"{m:,} answers to eval images",
        ),
        (
            ONE_CLASS,
            ONE_CLASS,
            float(abs(change[worst])),
            float(each[worst]),
            f"{named} is {a[worst] / n:.1%}",
            f"{b[worst] / m:.1%}",
        ),
    ]


def _class_share(
    given: np.ndarray, baseline: Baseline
) -> list[tuple[str, str, float, float, str, str]]:
    """Of the class whose estimated share changed most."""
    told = _Told.of(baseline, given.shape[1])
    if told is None:
        return []
    change, p = told.changes(Seen(len(given), given.mean(axis=0)))
    return [(CLASS_SHARE, CLASS_SHARE, *told.worst(change, p))]


def of_two(
    baseline: Baseline, before: Seen | None, now: Seen | None, chance: float = CHANCE
) -> tuple[Test, ...]:
    """The class share of two windows together, which raises an alarm by itself.

    Two windows that each must differ see less than both together. So that one client's
    window raises no alarm here either, both must tell of the same class and direction, each
    with a p-value below 0.01 (`_EACH_OF_TWO`). Since this is an alarm and no window that
    differs, chance may do it a tenth as often, and does less: of honest pairs that pass the
    threshold, a third agree so well.

    Args:
        baseline: Of the version.
        before: The window before.
        now: This one.
        chance: As of `compare`.

    Returns:
        One test, or none where either window does not tell.
    """
    if before is None or now is None or len(before.mean) != len(now.mean):
        return ()
    told = _Told.of(baseline, len(now.mean))
    if told is None:
        return ()
    (change_before, p_before), (change_now, p_now) = map(told.changes, (before, now))
    agree = (change_before * change_now > 0) & (
        np.maximum(p_before, p_now) < _EACH_OF_TWO
    )
    images = before.images + now.images
    mean = (before.images * before.mean + now.images * now.mean) / images
    change, p = told.changes(Seen(images, mean))
    worst = told.worst(change, np.where(agree, p, 1.0))
    return (_judged(CLASS_SHARE_OF_TWO, CLASS_SHARE, *worst, chance / 10),)


@dataclass(frozen=True)
class _Told:
    """The classes whose shares are estimated: what nothing tells apart is not."""

    names: tuple[str, ...]
    weights: np.ndarray  # [these, classes]
    columns: Mapping[str, np.ndarray]  # numbers of ClassShare, each [these]

    @classmethod
    def of(cls, baseline: Baseline, classes: int) -> _Told | None:
        """None: no class is told, or the window's answers have other classes."""
        told = [
            (name, each)
            for name, each in zip(baseline.class_names, baseline.shares, strict=False)
            if each.deviation > 0
        ]
        if not told or len(baseline.shares) != classes:
            return None
        m = sum(baseline.answers)
        numbers = ("share", "offset", "deviation", "skewness")
        columns = {
            name: np.array([getattr(each, name) for _, each in told])
            for name in numbers
        }
        columns["error"] = np.array(
            [
                each.deviation / np.sqrt(m) if each.error is None else each.error
                for _, each in told
            ]
        )
        weights = np.array([each.weights for _, each in told])
        return cls(tuple(name for name, _ in told), weights, columns)

    def changes(self, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """Of each class, the change of its share and the p-value.

        The mean of a few hundred such estimates, most of them near 0, is not normal yet:
        its skewness counts (Pearson's distribution of type III).
        """
        of, n = self.columns, seen.images
        change = self.weights @ seen.mean + of["offset"] - of["share"]
        spread = np.sqrt(of["deviation"] ** 2 / n + of["error"] ** 2)
        z, skew = (
            change / spread,
            of["skewness"] * (of["deviation"] / spread) ** 3 / n**2,
        )
        p = 2 * np.minimum(stats.pearson3.sf(z, skew), stats.pearson3.cdf(z, skew))
        return change, np.minimum(p, 1.0)

    def worst(self, change: np.ndarray, p: np.ndarray) -> tuple[float, float, str, str]:
        """Difference, corrected p-value and words of the class that changed most."""
        p = np.minimum(p * len(p), 1.0)
        worst = int(np.lexsort((-np.abs(change), p))[0])
        share = self.columns["share"][worst]
        now = min(max(share + change[worst], 0.0), 1.0)
        return (
            min(float(abs(change[worst])), 1.0),
            float(p[worst]),
            f"{self.names[worst]} is about {now:.1%}",
            f"{share:.1%}",
        )


def _g_test(a: np.ndarray, b: np.ndarray) -> float:
    """The p-value of "both counts are of one distribution"."""
    table = np.stack([a, b])
    table = table[:, table.sum(axis=0) > 0]
    share = min(a.sum(), b.sum()) / table.sum()
    rare = table.sum(axis=0) * share < _FEWEST_EXPECTED
    if rare.any():
        rest = table[:, rare].sum(axis=1, keepdims=True)
        table = np.concatenate([table[:, ~rare], rest], axis=1)
    if table.shape[1] < 2:
        return 1.0
    found: Any = stats.chi2_contingency(
        table, correction=False, lambda_="log-likelihood"
    )
    return float(found.pvalue)
