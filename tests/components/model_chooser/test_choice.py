"""The decision rule as a truth table, and its numbers against independent ones."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from components.model_chooser import choice
from components.model_chooser.choice import BASELINE, CANDIDATE, Contender

NAN, INF = math.nan, math.inf


def contender(
    errors: int, examples: int = 1000, *, network: str = "net", entropy=0.5
) -> Contender:
    """Two classes with `examples` images of class 0, of which `errors` go to class 1."""
    return Contender(
        network=network,
        confusion=((examples - errors, errors), (0, 0)),
        examples_by_class=(examples, 0),
        cross_entropy=entropy,
    )


def pair(baseline: Contender, candidate: Contender) -> dict[choice.Role, Contender]:
    return {BASELINE: baseline, CANDIDATE: candidate}


NOTHING = Contender(
    network="net", confusion=None, examples_by_class=(), cross_entropy=None
)


@pytest.mark.parametrize(
    ("baseline", "candidate", "winner"),
    [
        (contender(35), contender(31), CANDIDATE),
        (contender(31), contender(35), BASELINE),
        (contender(31), contender(31), BASELINE),
        (contender(0), contender(0), BASELINE),
        (contender(31), contender(1, entropy=NAN), BASELINE),
        (contender(31, entropy=NAN), contender(99), CANDIDATE),
        (contender(31, entropy=INF), contender(99), CANDIDATE),
        (contender(31), NOTHING, BASELINE),
        (NOTHING, contender(31), CANDIDATE),
        (contender(31), contender(0, entropy=None), BASELINE),
        (contender(31), contender(0, 0), BASELINE),
        (contender(31, entropy=NAN), contender(1, entropy=NAN), None),
        (NOTHING, NOTHING, None),
        (contender(0, 0), contender(0, 0), None),
    ],
)
def test_winner(baseline: Contender, candidate: Contender, winner: str | None):
    contenders = pair(baseline, candidate)
    decision = choice.choose(contenders, choice.BEST)
    assert decision.winner == winner
    # Whatever happened, the file is strict JSON.
    text = json.dumps(
        choice.describe(contenders, choice.BEST, decision), allow_nan=False
    )
    assert json.loads(text)["winner"] == winner


@pytest.mark.parametrize(
    ("baseline", "candidate", "reason", "blocked_by"),
    [
        (
            contender(175, 5000, network="resnet20"),
            contender(155, 5000, network="preact_resnet20"),
            "preact_resnet20 makes 3.1 % errors on 5,000 eval images, resnet20 makes "
            "3.5 %; the lower error is pushed",
            (),
        ),
        (
            contender(156, 5000, network="resnet20"),
            contender(155, 5000, network="preact_resnet20"),
            "preact_resnet20 makes 3.10 % errors on 5,000 eval images, resnet20 makes "
            "3.12 %; the lower error is pushed",
            (),
        ),
        (
            contender(155, 5000, network="resnet20"),
            contender(155, 5000, network="preact_resnet20"),
            "preact_resnet20 and resnet20 both make 3.1 % errors on 5,000 eval images; "
            "the baseline resnet20 is kept, because nothing would be gained",
            (),
        ),
        (
            contender(155, 5000, network="resnet20"),
            contender(175, 5000, network="resnet20"),
            "resnet20 (baseline) makes 3.1 % errors on 5,000 eval images, resnet20 "
            "(candidate) makes 3.5 %; the lower error is pushed",
            (),
        ),
        (
            contender(155, 5000, network="resnet20"),
            contender(3, 5000, network="preact_resnet20", entropy=NAN),
            "preact_resnet20 cannot win: its cross-entropy is nan, not a finite number; "
            "resnet20 makes 3.1 % errors on 5,000 eval images and is pushed",
            ("candidate: its cross-entropy is nan, not a finite number",),
        ),
        (
            NOTHING,
            contender(0, 0, network="preact_resnet20"),
            "nothing is pushed: net cannot win: it has no metrics; preact_resnet20 "
            "cannot win: it was evaluated on no images",
            ("baseline: it has no metrics", "candidate: it was evaluated on no images"),
        ),
    ],
)
def test_reason(baseline, candidate, reason, blocked_by):
    decision = choice.choose(pair(baseline, candidate), choice.BEST)
    assert decision.reason == reason
    assert decision.blocked_by == blocked_by


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="policy='latest': must be one of best"):
        choice.choose(pair(contender(1), contender(2)), "latest")


@given(st.integers(0, 60), st.integers(0, 60))
def test_best_is_the_lower_error(baseline: int, candidate: int):
    decision = choice.choose(
        pair(contender(baseline, 60), contender(candidate, 60)), choice.BEST
    )
    assert decision.winner == (CANDIDATE if candidate < baseline else BASELINE)


def test_unpredicted_examples_are_errors():
    """TFMA's "no prediction" is in no column of the matrix, but the image counts."""
    found = Contender(
        network="net",
        confusion=((3, 1), (0, 4)),
        examples_by_class=(6, 4),
        cross_entropy=1.0,
    )
    assert (found.errors, found.examples) == (3, 10)


@pytest.mark.parametrize(
    ("errors", "examples", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(errors, examples, low, high):
    assert choice.wilson(errors, examples) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_difference_interval_as_published(first, second, low, high):
    assert choice.newcombe(first, second) == pytest.approx((low, high), abs=5e-5)


@given(
    st.integers(0, 400),
    st.integers(400, 800),
    st.integers(0, 400),
    st.integers(400, 800),
)
def test_p_value_is_that_of_the_chi_square_test(a: int, n: int, b: int, m: int):
    ours = choice.two_proportion_p_value((a, n), (b, m))
    if a + b in (0, n + m):
        assert ours == 1
        return
    table = np.array([[a, n - a], [b, m - b]])
    assert ours == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_interval_covers_the_truth_and_is_too_wide_for_pairs():
    """95 % means 95 %; and where both see the same images, it errs on the safe side."""
    dice = np.random.default_rng(3)
    examples, runs, rates = 500, 1000, (0.09, 0.06)
    covered = {"independent": 0, "paired": 0}
    for _ in range(runs):
        first = dice.binomial(examples, rates[0])
        second = dice.binomial(examples, rates[1])
        covered["independent"] += _covers((first, examples), (second, examples), 0.03)
        hardness = dice.random(examples)  # one number decides for both networks
        first, second = (int((hardness < rate).sum()) for rate in rates)
        covered["paired"] += _covers((first, examples), (second, examples), 0.03)
    assert 0.93 < covered["independent"] / runs < 0.97
    assert covered["paired"] / runs > 0.97


def _covers(first: tuple[int, int], second: tuple[int, int], truth: float) -> bool:
    low, high = choice.newcombe(first, second)
    return low <= truth <= high


def test_description_holds_every_number():
    contenders = pair(
        contender(40, 1000, network="resnet20"),
        contender(30, 1000, network="preact_resnet20"),
    )
    found = choice.describe(
        contenders, choice.BEST, choice.choose(contenders, choice.BEST)
    )
    assert set(found) == {
        "policy", "winner", "reason", "blocked_by", "models", "difference"
    }  # fmt: skip
    assert found["models"]["candidate"]["eval"] == {
        "error": 0.03,
        "ci95": list(choice.wilson(30, 1000)),
        "examples": 1000,
        "errors": 30,
    }
    assert found["models"]["candidate"]["confusion"] == [[970, 30], [0, 0]]
    assert found["models"]["candidate"]["per_class"] == {
        "0": {"error": 0.03, "examples": 1000},
        "1": {"error": None, "examples": 0},
    }
    assert found["difference"]["candidate_minus_baseline"] == pytest.approx(-0.01)
    assert found["difference"]["method"].startswith("unpaired")


def test_rule_loads_no_tensorflow():
    code = (
        "import sys, components.model_chooser.choice, components.dataset_schema.text, "
        "components.atomic_pusher.publish\n"
        "print(sorted({'tensorflow', 'tfx', 'keras', 'apache_beam'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"
