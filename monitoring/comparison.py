"""One window of live requests against the baseline of the version that answered them.

Each number of the images and the confidence: the two-sample test of Kolmogorov and Smirnov.
The predicted classes: the G-test of homogeneity for all together; for each class alone
Fisher's test of its answers (the hypergeometric law), and a test of its share as all
probabilities tell it, which sees more of a model that is often wrong. A test differs if

- chance explains what it found in fewer than `chance` / tests cases (Bonferroni's bound over
  all tests of a window, and over the classes), which knows the sizes of window and baseline;
- and the difference is large enough to matter (`LEAST`), which keeps a window of a million
  requests from raising an alarm for nothing.

The counts of class shares are the model's own answers on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from components.drift.baseline import DECIMALS, NUMBERS
from contract.baseline import Baseline, Distribution
from contract.typed_json import Record, Share, Size

CONFIDENCE, CLASSES = "confidence", "classes"
ONE_CLASS, CLASS_SHARE = "one_class", "class_share"
PROBABILITIES = "probabilities"  # of a window: float [n, classes], in label order
CHANCE = 0.005  # of an honest window that any test differs
# Kind of test -> smallest difference that matters: of distribution functions; of the shares
# of all classes, half of the sum of differences; of one class's share.
LEAST = {"number": 0.05, CLASSES: 0.03, ONE_CLASS: 0.01, CLASS_SHARE: 0.01}
# Fewer expected answers than this spoil the G-test's law: such classes count as one.
_FEWEST_EXPECTED = 5


@dataclass(frozen=True, kw_only=True)
class Test(Record):
    """What one test found."""

    __test__ = False  # no test of pytest's

    name: str  # of NUMBERS, or CONFIDENCE, CLASSES, ONE_CLASS, CLASS_SHARE
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
        """The tests that differ, the least likely first."""
        found = [test for test in self.tests if test.differs]
        return tuple(sorted(found, key=lambda test: test.p_value))


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
    return tuple(
        Test(
            name=name,
            difference=difference,
            p_value=p,
            threshold=threshold,
            differs=p < threshold and difference >= LEAST[kind],
            here=here,
            there=there,
        )
        for name, kind, difference, p, here, there in found
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
    """Of the class whose estimated share changed most.

    The mean of a few hundred such estimates, most of them near 0, is not normal yet: its
    skewness counts (Pearson's distribution of type III).
    """
    # What nothing tells apart on the eval images is not estimated.
    named = [
        (name, each)
        for name, each in zip(baseline.class_names, baseline.shares, strict=True)
        if each.deviation > 0
    ]
    if not named or given.shape[1] != len(baseline.shares):
        return []
    told = [each for _, each in named]
    share, offset, deviation, skewness = (
        np.array([getattr(each, name) for each in told])
        for name in ("share", "offset", "deviation", "skewness")
    )
    weights = np.array([each.weights for each in told])  # [these, classes]
    n, m = len(given), sum(baseline.answers)
    change = weights @ given.mean(axis=0) + offset - share
    spread = 1 / n + 1 / m
    z = change / (deviation * np.sqrt(spread))
    skew = skewness * (1 / n**2 - 1 / m**2) / spread**1.5
    p = 2 * np.minimum(stats.pearson3.sf(z, skew), stats.pearson3.cdf(z, skew))
    p = np.minimum(p * len(told), 1.0)
    worst = int(np.lexsort((-np.abs(change), p))[0])
    now = min(max(share[worst] + change[worst], 0.0), 1.0)
    return [
        (
            CLASS_SHARE,
            CLASS_SHARE,
            min(float(abs(change[worst])), 1.0),
            float(p[worst]),
            f"{named[worst][0]} is about {now:.1%}",
            f"{share[worst]:.1%}",
        )
    ]


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
