"""Statistics of error rates: of one network, and of two on the same images.

Counts in, estimates with 95 % intervals out. On the same images only the discordant ones,
on which exactly one of two networks is wrong, say who is better: the interval of the
difference and the test use nothing else.

Sources: Wilson 1927 (one rate); McNemar 1947, exact form; Tango 1998, Statistics in
Medicine 17, 891-908 (score interval of a paired difference); Efron 1979 (bootstrap); Holm
1979, Scandinavian Journal of Statistics 6, 65-70 (several tests).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
METHOD = (
    "paired on the same images: Tango's score interval, exact McNemar test; the bootstrap "
    "interval resamples the images"
)
_BOOTSTRAP_DRAWS = 10_000


def wilson(errors: int, examples: int) -> tuple[float, float]:
    """The 95 % score interval of an error rate."""
    interval = stats.binomtest(errors, examples).proportion_ci(
        confidence_level=CONFIDENCE, method="wilson"
    )
    return float(interval.low), float(interval.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of "both are wrong equally often".

    Args:
        only_first: Images on which the first network alone is wrong.
        only_second: Images on which the second network alone is wrong.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for all of them, in the same order.

    Below 0.05 may be called significant, and the chance of one false call among all is
    5 % at most, however the tests depend on each other. One p-value stays as it is.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    found, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = largest
    return found


def tango(
    only_first: int, only_second: int, examples: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Score interval of the error rate of the first minus that of the second.

    Unlike the bootstrap and Wald's interval it has a width when both always agree:
    ten images on which nothing differs prove little.

    Args:
        only_first: Images on which the first network alone is wrong.
        only_second: Images on which the second network alone is wrong.
        examples: All images, at least 1.
        confidence: Two-sided level, below 1.
    """
    z = float(stats.norm.isf((1 - confidence) / 2))
    limits = []
    for target in (z, -z):

        def excess(difference: float, target: float = target) -> float:
            score = _tango_score(only_first, only_second, examples, difference)
            return score - target

        # The score falls from the left end to the right one.
        low, high = -1 + 1e-12, 1 - 1e-12
        if excess(low) <= 0:
            limits.append(-1.0)
        elif excess(high) >= 0:
            limits.append(1.0)
        else:
            root: Any = optimize.brentq(excess, low, high, xtol=1e-12)
            limits.append(float(root))
    return limits[0], limits[1]


def bootstrap(
    only_first: int, only_second: int, examples: int, seed: int = 1
) -> tuple[float, float]:
    """Percentile interval of the same difference, images drawn with replacement.

    A draw of images is a multinomial draw of the three kinds of images that matter, so
    that a million images cost what ten do. It has no width where nothing is discordant.
    """
    shares = np.array([only_first, only_second, examples - only_first - only_second])
    draws = np.random.default_rng(seed).multinomial(
        examples, shares / examples, size=_BOOTSTRAP_DRAWS
    )
    differences = (draws[:, 0] - draws[:, 1]) / examples
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(differences, tails)
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean, by the normal approximation; values [n]."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean
    margin = float(stats.norm.isf((1 - CONFIDENCE) / 2)) * float(
        np.std(values, ddof=1) / math.sqrt(len(values))
    )
    return mean - margin, mean + margin


def _tango_score(first: int, second: int, n: int, difference: float) -> float:
    """Tango's statistic for the hypothesis "the difference is this", equation (4).

    The variance is that of the hypothesis: of the rates that fit the data best among all
    whose difference is as supposed.
    """
    a = 2 * n
    b = -first - second + (2 * n - first + second) * difference
    c = -second * difference * (1 - difference)
    rate = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * rate + difference * (1 - difference))
    distance = first - second - n * difference
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)
