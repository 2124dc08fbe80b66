"""The paired statistics against exact enumeration, scipy and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from components.evaluator import paired


def counts(most: int = 60):
    """(only the first wrong, only the second wrong, all images)."""
    return st.tuples(
        st.integers(0, most), st.integers(0, most), st.integers(1, 10 * most)
    ).map(lambda t: (t[0], t[1], t[0] + t[1] + t[2]))


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (1, 0), (3, 9), (12, 12), (40, 7)]
)
def test_mcnemar_counts_the_outcomes_that_are_as_unlikely(first, second):
    n = first + second
    ways = [math.comb(n, k) for k in range(n + 1)]
    as_rare = sum(w for w in ways if w <= ways[first])
    assert paired.mcnemar(first, second) == pytest.approx(as_rare / 2**n)


@given(counts())
def test_the_interval_excludes_zero_as_mcnemars_chi_squared_says(found):
    """At a difference of zero Tango's statistic is McNemar's: (b - c)^2 / (b + c)."""
    first, second, n = found
    low, high = paired.tango(first, second, n)
    score = (first - second) ** 2 / (first + second) if first + second else 0.0
    limit = stats.chi2.isf(0.05, 1)
    if abs(score - limit) > 1e-6:
        assert (low > 0 or high < 0) == (score > limit)


@given(counts())
def test_the_interval_holds_the_estimate_and_mirrors(found):
    first, second, n = found
    low, high = paired.tango(first, second, n)
    assert -1 <= low <= (first - second) / n <= high <= 1
    assert low < high
    mirrored = paired.tango(second, first, n)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    wide = paired.tango(first, second, n, confidence=0.999)
    assert wide[0] <= low and high <= wide[1]


@pytest.mark.parametrize("n", [10, 1_000, 1_000_000])
def test_two_networks_that_always_agree(n):
    z2 = stats.norm.isf(0.025) ** 2
    low, high = paired.tango(0, 0, n)
    # Solved by hand: n d / (1 - d) = z^2.
    assert (low, high) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), rel=1e-4)
    assert paired.mcnemar(0, 0) == 1
    assert paired.bootstrap(0, 0, n) == (0, 0)


@pytest.mark.parametrize("n", [10, 1_000, 1_000_000])
def test_one_network_that_is_always_wrong(n):
    low, high = paired.tango(n, 0, n)
    assert high == 1
    assert 0.4 < low < 1
    assert paired.bootstrap(n, 0, n) == (1, 1)
    assert paired.mcnemar(n, 0) == pytest.approx(2.0 ** (1 - n))


@pytest.mark.parametrize(
    ("shares", "n"), [((0.05, 0.03), 300), ((0.02, 0.02), 1_000), ((0.3, 0.1), 50)]
)
def test_the_interval_covers_the_truth_as_often_as_it_says(shares, n):
    """Exact coverage, summed over all outcomes that have any weight."""
    first, second = shares
    truth, covered, seen = first - second, 0.0, 0.0
    tops = [int(n * p + 7 * math.sqrt(n * p)) + 2 for p in shares]
    for b, c in itertools.product(range(tops[0]), range(tops[1])):
        if b + c > n:
            continue
        weight = stats.multinomial.pmf(
            [b, c, n - b - c], n, [first, second, 1 - sum(shares)]
        )
        if weight < 1e-6:
            continue
        seen += weight
        low, high = paired.tango(b, c, n)
        covered += weight * (low <= truth <= high)
    assert seen > 0.999
    assert 0.93 < covered / seen < 0.975


def test_the_bootstrap_is_that_of_resampled_images():
    rng = np.random.default_rng(3)
    first, second, n = 40, 25, 500
    signs = np.array([1] * first + [-1] * second + [0] * (n - first - second))
    means = rng.choice(signs, (20_000, n)).mean(axis=1)
    expected = np.quantile(means, [0.025, 0.975])
    assert paired.bootstrap(first, second, n) == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize(("errors", "n"), [(0, 10), (3, 288), (10, 10), (531, 10_000)])
def test_wilsons_interval(errors, n):
    z = stats.norm.isf(0.025)
    p = errors / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert paired.wilson(errors, n) == pytest.approx(
        (centre - half, centre + half), abs=1e-9
    )


@settings(max_examples=30)
@given(st.lists(st.floats(0, 50), min_size=2, max_size=60))
def test_the_interval_of_a_mean(values):
    found = paired.mean_interval(np.array(values))
    error = stats.sem(values)
    if error == 0:
        assert found == pytest.approx((values[0], values[0]), abs=1e-6)
    else:
        expected = stats.norm.interval(0.95, np.mean(values), error)
        assert found == pytest.approx(expected, abs=1e-6)
