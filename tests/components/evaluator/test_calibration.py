"""Calibration against a loop over bins and against networks that are calibrated."""

import numpy as np
import pytest

from components.evaluator import calibration
from contract.comparison import Bin


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """A network that is as often right as it says."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 20_000)
    return confidence, rng.uniform(size=20_000) < confidence


def by_hand(confidence, correct) -> float:
    total = 0.0
    for low in np.arange(calibration.BINS) / calibration.BINS:
        high = low + 1 / calibration.BINS
        last = high > 1 - 1e-9
        inside = (confidence >= low) & ((confidence < high) | last)
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return total


def test_it_is_the_weighted_gap_of_the_bins(honest):
    confidence, correct = honest
    small = confidence[:500], correct[:500]
    found = calibration.expected_calibration_error(*small)
    assert found == pytest.approx(by_hand(*small), abs=1e-9)
    rows = calibration.reliability(*small)
    assert sum(row.examples for row in rows) == 500
    again = sum(r.examples * abs(r.accuracy - r.confidence) for r in rows) / 500
    assert found == pytest.approx(again)


def test_honest_and_boastful_networks(honest):
    confidence, correct = honest
    low, high = calibration.interval(confidence, correct)
    error = calibration.expected_calibration_error(confidence, correct)
    assert low <= error <= high
    assert error < 0.02
    boast = np.ones_like(confidence)
    gap = calibration.expected_calibration_error(boast, correct)
    assert gap == pytest.approx(1 - correct.mean())


def test_a_certain_network_is_in_the_last_bin():
    rows = calibration.reliability(np.array([1.0, 1.0]), np.array([True, False]))
    assert rows == (
        Bin(low=14 / 15, high=1.0, examples=2, confidence=1.0, accuracy=0.5),
    )
