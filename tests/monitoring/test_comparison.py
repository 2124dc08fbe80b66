"""Honest windows stay quiet, others are told by the test that should tell them."""

import numpy as np
import pytest
from scipy import stats

from components.drift import baseline as measuring
from contract.baseline import Baseline
from monitoring.comparison import (
    CLASSES,
    CONFIDENCE,
    Window,
    compare,
    kolmogorov_smirnov,
    of_two,
    seen,
)
from monitoring.windows import State
from tests.monitoring import made


@pytest.fixture(scope="module")
def before():
    return made.baseline()


@pytest.fixture(scope="module")
def pool():
    """What honest requests are drawn from: 4,000 images, measured and answered once."""
    pixels, labels = made.images(4000, 3)
    return made.columns(pixels), labels


def drawn(columns, size, random, which=None):
    among = np.arange(len(columns[CLASSES])) if which is None else np.flatnonzero(which)
    index = random.choice(among, size)
    return {name: values[index] for name, values in columns.items()}


def windows(before, columns, size, number, seed, which=None):
    random = np.random.default_rng(seed)
    for at in range(number):
        yield Window(
            images=size,
            first=at,
            last=at,
            tests=compare(before, drawn(columns, size, random, which)),
        )


@pytest.mark.parametrize("size", [200, 500, 2000])
def test_two_hundred_honest_windows_raise_two_alarms_at_most(before, pool, size):
    state = State()
    for window in windows(before, pool[0], size, 200, seed=size):
        state.add(window)
    assert state.judged == 200
    assert state.alarms <= 2
    # Far fewer differ than 5 of 100: the tests' bound is 5 of 1,000.
    assert state.differing <= 4


def changed(pixels):
    """What is wrong -> columns of requests about these images, and tests of which one tells."""
    swapped, inverted = pixels[..., ::-1], 255 - pixels
    blurred = made.blurred(pixels)
    return {
        "channels swapped": (made.columns(swapped), {"red_blue"}),
        "inverted": (made.columns(inverted), {"red_blue", "brightness"}),
        "blurred": (made.columns(blurred), {"sharpness"}),
        # The model normalises by another data set's numbers; the images are as ever.
        "stale normalisation": (
            made.columns(pixels, made.model(pixels, shift=25.0)),
            {CLASSES, CONFIDENCE, "one_class", "class_share"},
        ),
    }


def test_what_is_wrong_raises_an_alarm_within_two_windows(before):
    pixels, labels = made.images(1000, 4)
    for what, (columns, telling) in changed(pixels).items():
        state = State()
        events = [
            state.add(window) for window in windows(before, columns, 500, 2, seed=1)
        ]
        assert events == [None, "raised"], what
        told = {test.name for w in state.windows for test in w.differing}
        assert told & telling, what
        if what == "stale normalisation":
            assert told <= telling


@pytest.mark.parametrize(("kept", "size"), [(0.0, 500), (0.5, 2000)])
def test_a_class_that_is_missing_is_named(before, pool, kept, size):
    columns, labels = pool
    random = np.random.default_rng(5)
    which = (labels != 7) | (random.random(len(labels)) < kept)
    state = State()
    for window in windows(before, columns, size, 2, seed=6, which=which):
        state.add(window)
    assert state.alarm
    tests = {test.name: test for test in state.windows[-1].tests}
    assert tests["class_share"].differs
    assert tests["class_share"].here.startswith("h is about ")
    if not kept:
        assert tests["one_class"].differs
        assert tests["one_class"].here.startswith("h is ")


def of_class_h(pool, size, kept, number, seed):
    """Columns of windows in which so much of class h is there."""
    columns, labels = pool
    random = np.random.default_rng(seed)
    which = (labels != 7) | (random.random(len(labels)) < kept)
    return [drawn(columns, size, random, which) for _ in range(number)]


def pairs(found):
    return zip(found[::2], found[1::2], strict=True)


def test_two_windows_together_tell_what_neither_tells_alone(before, pool):
    found = of_class_h(pool, 1500, 0.5, 40, seed=8)
    together = [of_two(before, *map(seen, pair))[0] for pair in pairs(found)]
    alone = [
        next(test for test in compare(before, live) if test.name == "class_share")
        for live in found
    ]
    both = sum(one.differs and other.differs for one, other in pairs(alone))
    assert sum(test.differs for test in together) >= max(14, 1.5 * both)
    assert all(test.here.startswith("h is about ") for test in together)
    # Honest ones, or (but for chance) one of each: no alarm is due.
    honest = of_class_h(pool, 1500, 1.0, 40, seed=9)
    missing = of_class_h(pool, 1500, 0.0, 20, seed=10)
    for pair in pairs(honest):
        assert not of_two(before, *map(seen, pair))[0].differs
    mixed = [
        of_two(before, *map(seen, pair))[0].differs
        for pair in zip(honest[:20], missing, strict=True)
    ]
    assert sum(mixed) <= 2
    assert of_two(before, None, seen(honest[0])) == ()
    assert of_two(Baseline(), seen(honest[0]), seen(honest[1])) == ()


def test_the_estimated_share_errs_as_little_as_it_says():
    """A baseline by few images of known classes; its error over many such baselines."""
    random = np.random.default_rng(12)
    pixels, labels = made.images(20_000, 13)
    given = made.model(pixels)
    among = np.bincount(labels, minlength=10)
    truth, off = given.mean(axis=0), []
    for _ in range(200):
        index = random.choice(len(labels), 500, replace=False)
        there = np.bincount(labels[index], minlength=10)
        told = measuring.of_answers(
            given[index], labels[index], made.NAMES, among - there
        )
        each = told.shares[7]
        assert each.error is not None
        off.append((np.dot(each.weights, truth) + each.offset - 0.1) / each.error)
        alone = measuring.of_answers(given[index], labels[index], made.NAMES).shares[7]
        # Without the others the eval images' own numbers of each class add to it.
        assert alone.error is not None and alone.error > 1.1 * each.error
    assert abs(np.mean(off)) < 0.3
    assert 0.8 < np.std(off) < 1.15


@pytest.mark.parametrize(("n", "m"), [(300, 5000), (2000, 900), (40, 60)])
@pytest.mark.parametrize("shift", [0.0, 0.15, 0.6])
def test_numbers_are_held_by_the_test_of_kolmogorov_and_smirnov(n, m, shift):
    random = np.random.default_rng(n + m)
    here, there = random.normal(shift, 1, n), random.normal(0, 1, m)
    expected = stats.ks_2samp(here, there, method="asymp")
    distance, p = kolmogorov_smirnov(
        np.round(here, 5), measuring.distribution(np.round(there, 5))
    )
    # Between two of the 257 quantiles the distribution is not known.
    slack = 1 / 128 + 1 / m
    assert expected.statistic - slack <= distance <= expected.statistic + slack
    en = round(n * m / (n + m))
    assert (
        stats.kstwo.sf(expected.statistic + slack, en)
        <= p
        <= stats.kstwo.sf(max(expected.statistic - slack, 0), en)
    )


@pytest.mark.parametrize(
    ("there", "here", "distance"),
    [
        ([3.0] * 100, [3.0] * 50, 0.0),  # always the same
        ([3.0] * 100, [4.0] * 50, 1.0),
        ([3.0] * 100, [2.0] * 50, 1.0),
        ([0.0] * 500 + [1.0] * 500, [0.0] * 50 + [1.0] * 50, 0.0),
        ([0.0] * 500 + [1.0] * 500, [0.0] * 100, 0.5),
        ([0.0, 1.0], [0.0, 1.0], 0.0),
        ([5.0], [5.0], 0.0),
    ],
)
def test_values_that_come_often_are_no_difference(there, here, distance):
    found, _ = kolmogorov_smirnov(
        np.array(here), measuring.distribution(np.array(there))
    )
    assert found == pytest.approx(distance, abs=1 / 128)


def test_a_difference_that_does_not_matter_is_none_however_certain():
    random = np.random.default_rng(1)
    before = Baseline(
        class_names=("a", "b"),
        numbers={"brightness": measuring.distribution(random.normal(0, 1, 50_000))},
        answers=(2_000_000, 2_000_000),
    )
    live = {
        "brightness": random.normal(0.05, 1, 50_000),
        CLASSES: np.array(["a"] * 202_400 + ["b"] * 197_600, object),
        CONFIDENCE: np.full(400_000, np.nan),
    }
    tests = {test.name: test for test in compare(before, live)}
    assert tests.keys() == {"brightness", "classes", "one_class"}
    for test in tests.values():
        assert test.p_value < test.threshold
        assert not test.differs


def test_only_what_both_sides_have_is_compared(before):
    nothing = compare(
        Baseline(), {CLASSES: np.array(["x"], object), CONFIDENCE: np.array([np.nan])}
    )
    assert nothing == ()
    # A class that the model never answered, and one that it does not have.
    live = {CLASSES: np.array(["a"] * 300 + ["new"] * 200, object)}
    tests = {test.name: test for test in compare(before, live)}
    assert tests.keys() == {"classes", "one_class"}
    assert tests["one_class"].differs
    # Images that were not logged are no zeros.
    pixels, _ = made.images(500, 9)
    half = made.columns(pixels)
    half["brightness"][::2] = np.nan
    assert not any(test.differs for test in compare(before, half))
