"""Verdicts against SciPy's tests, tables of Student's t and counts by hand."""

import dataclasses
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from studies.report import measure
from studies.study import Claim
from tests.studies.found import IMAGES, answered, result, study

ONE = [0.30, 0.31, 0.32, 0.30, 0.31]


def test_students_interval_is_that_of_the_tables():
    # t of 4 degrees of freedom at 97.5 %: 2.776; s = sqrt(2.5), so s / sqrt(5) = 0.7071.
    low, high, p_value = measure.student([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (low, high) == pytest.approx(
        (3 - 2.776 * 0.70711, 3 + 2.776 * 0.70711), abs=1e-3
    )
    assert p_value == pytest.approx(0.0132, abs=1e-4)  # of t = 4.2426


@given(
    values=st.lists(st.floats(-1, 1), min_size=2, max_size=10).filter(
        lambda found: statistics.stdev(found) > 1e-6
    ),
    margin=st.sampled_from([0.0, 0.01]),
)
def test_student_is_scipys(values, margin):
    low, high, p_value = measure.student(values, margin)
    expected = stats.ttest_1samp(values, margin)
    assert p_value == pytest.approx(expected.pvalue, abs=1e-9)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((interval.low, interval.high))


def test_equal_rows_of_all_seeds_prove_nothing():
    assert measure.student([0.0, 0.0]) == (0, 0, 1)
    assert measure.student([0.5, 0.5]) == (0.5, 0.5, 0)


def test_rows_have_median_mean_deviation_and_their_paired_difference():
    two = [0.42, 0.40, 0.44, 0.41, 0.46]
    found = result({"one": ONE, "two": two, "three": ONE})
    row = found.row("two")
    assert (row.median, row.mean) == pytest.approx((0.42, 0.426))
    assert row.deviation == pytest.approx(np.std(two, ddof=1))
    expected = stats.ttest_rel(two, ONE)
    assert row.difference.mean == pytest.approx(0.118)
    assert row.difference.p_value == pytest.approx(expected.pvalue)
    assert row.difference.interval == pytest.approx(
        tuple(expected.confidence_interval())
    )
    assert found.row("one").difference is None
    assert [each.test_error for each in row.trained] == pytest.approx(two)


@pytest.mark.parametrize(
    ("two", "verdict"),
    [
        ([0.42, 0.40, 0.44, 0.41, 0.46], "as published"),
        ([0.20, 0.21, 0.19, 0.20, 0.18], "opposite"),
        ([0.30, 0.33, 0.29, 0.31, 0.32], "not distinguishable"),
    ],
)
def test_the_verdict_on_a_claim_is_by_p_and_direction(two, verdict):
    found = result({"one": ONE, "two": two, "three": [0.31, 0.30, 0.33, 0.29, 0.31]})
    assert found.claims[0].verdict == verdict
    # Holm: the smaller of two p-values counts twice.
    p_values = [claim.difference.p_value for claim in found.claims]
    assert found.claims[0].holm_p_value == pytest.approx(
        min(1, 2 * p_values[0])
        if p_values[0] < p_values[1]
        else max(p_values[0], 2 * p_values[1])
    )


def test_not_higher_is_lower_than_the_reference_plus_a_margin():
    claim = Claim(
        text="not higher", row="two", reference="one", direction="lower", margin=0.01
    )

    def verdict(*two):
        return (
            result({"one": ONE, "two": two}, of=study(claims=(claim,)))
            .claims[0]
            .verdict
        )

    noise = [0.001, -0.001, 0.0, 0.001, -0.001]
    same = [a + b for a, b in zip(ONE, noise, strict=True)]
    assert verdict(*same) == "as published"
    assert verdict(*(each + 0.05 for each in same)) == "opposite"
    assert verdict(*(each + 0.01 for each in same)) == "not distinguishable"


def test_training_errors_are_of_the_last_tenth_weighted_by_steps():
    run = answered(0.3, seed=1).run
    # Points end at 10, 90, 95 and 100; the last tenth begins behind 90.
    assert measure.training_error(run) == pytest.approx(0.3)
    points = [
        {"step": 95, "epoch": 1, "accuracy": 0.8},
        {"step": 100, "epoch": 1, "accuracy": 0.2},
    ]
    run = dataclasses.replace(
        run, history=({"step": 90, "epoch": 1, "accuracy": 0}, *points)
    )
    assert measure.training_error(run) == pytest.approx(0.5)
    run = dataclasses.replace(run, history=())
    assert measure.training_error(run) is None


def test_claims_about_training_errors_compare_those():
    claim = Claim(
        text="t", row="two", reference="one", metric="train_error", direction="higher"
    )
    given = {
        f"twos{seed}": answered(0.3, seed=seed, train_error=0.5 + seed / 100)
        for seed in range(1, 6)
    }
    found = result({"one": ONE, "two": ONE}, of=study(claims=(claim,)), given=given)
    assert found.claims[0].difference.mean == pytest.approx(0.23)
    assert found.claims[0].verdict == "as published"
    assert found.row("two").difference.mean == pytest.approx(0.3 - np.mean(ONE))


def test_who_diverged_counts_as_guessing_and_is_told_with_its_step():
    found = result({"one": ONE, "two": [None] * 3 + [0.5, 0.5], "three": ONE})
    row = found.row("two")
    assert (row.state, row.median) == ("diverged", 0.9)
    assert (row.trained[0].test_error, row.trained[0].steps) == (None, 7)
    assert "nan" in row.trained[0].problem
    assert found.claims[0].difference.mean == pytest.approx(
        np.mean([0.9 - 0.30, 0.9 - 0.31, 0.9 - 0.32, 0.5 - 0.30, 0.5 - 0.31])
    )
    one_of_five = result({"one": ONE, "two": [None, 0.5, 0.5, 0.5, 0.5]})
    assert one_of_five.row("two").state is None


def test_fail_is_the_papers_word_at_the_papers_scale():
    errors = {"one": [0.06] * 5, "two": [0.21, 0.22, 0.19, 0.3, 0.05]}
    assert result(errors, scale="paper").row("two").state == "fail"
    assert result(errors, scale="small").row("two").state is None


def test_a_small_training_that_has_not_left_chance_is_called_that():
    chance = [0.89, 0.9, 0.91, 0.9, 0.5]
    assert result({"one": ONE, "two": chance}).row("two").state == "at chance"
    # Wilson's interval of 870 of 1000 ends at 0.889.
    assert result({"one": ONE, "two": [0.87] * 5}).row("two").state is None


def test_one_seed_is_judged_by_its_images_and_says_so():
    found = result({"one": [0.3], "two": [0.4]})
    difference = found.row("two").difference
    assert difference.mean == pytest.approx(0.1)
    assert difference.p_value == pytest.approx(stats.binomtest(100, 100).pvalue)
    low, high = difference.interval
    # The standard deviation of a mean of 1,000 of which 100 are one: 0.0095.
    assert (low, high) == pytest.approx(
        (0.1 - 1.96 * 0.0095, 0.1 + 1.96 * 0.0095), abs=2e-3
    )
    assert "one seed" in difference.method
    diverged = result({"one": [0.3], "two": [None]})
    assert diverged.claims[0].verdict == "not tested"
    assert diverged.claims[0].holm_p_value is None


def test_rows_and_claims_that_were_not_run_are_named():
    found = result({"one": ONE, "two": ONE})
    assert found.left_out == ("the third",)
    assert found.claims_left_out == ("three is better",)
    assert [claim.text for claim in found.claims] == ["two is worse"]


def test_a_row_tells_what_differs_in_its_training():
    given = {f"twos{s}": answered(0.3, seed=s, momentum=0.5) for s in range(1, 6)}
    found = result({"one": ONE, "two": ONE}, given=given)
    assert found.row("two").changes == {"momentum": 0.5}
    assert found.row("one").changes == {}


def test_what_is_written_is_read():
    found = result({"one": ONE, "two": [None, *ONE[1:]]})
    assert type(found).from_json(found.to_json(), "study.json") == found
    assert found.test_images == IMAGES
