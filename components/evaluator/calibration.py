"""Calibration: how far a network's confidence is from its accuracy.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
"""

from __future__ import annotations

import numpy as np

from contract.comparison import Bin

BINS = 15  # of equal width, as Guo et al.
_RESAMPLES = 200


def reliability(confidence: np.ndarray, correct: np.ndarray) -> tuple[Bin, ...]:
    """The reliability diagram: accuracy and mean confidence per bin of confidence.

    Args:
        confidence: Probability of the predicted class, float [n].
        correct: Whether it is the true one, bool [n].

    Returns:
        The bins that hold examples.
    """
    index = _bins(confidence)
    rows = []
    for number in range(BINS):
        inside = index == number
        if inside.any():
            rows.append(
                Bin(
                    low=number / BINS,
                    high=(number + 1) / BINS,
                    examples=int(inside.sum()),
                    confidence=float(confidence[inside].mean()),
                    accuracy=float(correct[inside].mean()),
                )
            )
    return tuple(rows)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The mean distance of confidence and accuracy over the bins, weighted by examples."""
    return _error(_bins(confidence), confidence - correct)


def interval(
    confidence: np.ndarray, correct: np.ndarray, seed: int = 1
) -> tuple[float, float]:
    """The 95 % interval of the expected calibration error.

    The estimate and 1.96 bootstrap standard errors on either side: the percentiles of
    the draws themselves lie too high, because resampling adds noise to every bin and
    the error counts its size.
    """
    rng = np.random.default_rng(seed)
    index, gap = _bins(confidence), confidence - correct
    draws = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(len(gap), size=len(gap))
        draws.append(_error(index[chosen], gap[chosen]))
    estimate, margin = _error(index, gap), 1.96 * float(np.std(draws))
    return max(estimate - margin, 0.0), min(estimate + margin, 1.0)


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def _error(index: np.ndarray, gap: np.ndarray) -> float:
    sums = np.bincount(index, weights=gap, minlength=BINS)
    return float(np.abs(sums).sum() / len(gap))
