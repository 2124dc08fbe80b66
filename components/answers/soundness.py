"""Whether what a model gave are answers at all: the rule alone, by NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def probabilities_problem(
    probabilities: np.ndarray, examples: int, classes: int
) -> str | None:
    """Why a model's output is no set of class probabilities, or None."""
    if probabilities.shape != (examples, classes):
        return (
            f"its probabilities have the shape {list(probabilities.shape)}, where "
            f"{examples:,} images of {classes} classes need {[examples, classes]}"
        )
    broken = ~np.isfinite(probabilities).all(axis=1)
    if broken.any():
        return f"its probabilities are not numbers for {broken.sum():,} of {examples:,} images"
    sums = probabilities.sum(axis=1)
    off = (np.abs(sums - 1) > 0.01) | (probabilities < 0).any(axis=1)
    if off.any():
        return (
            f"its probabilities are negative or do not add up to 1 for {off.sum():,} of "
            f"{examples:,} images"
        )
    return None


def class_name_problem(
    found: Sequence[bytes], predicted: np.ndarray, class_names: Sequence[str]
) -> str | None:
    """Why a model's class names are not those of the data, or None.

    Args:
        found: The name it gave for each image, [n].
        predicted: The class index it gave for each image, int64 [n].
        class_names: Of the data set, in label order.
    """
    for name, index in zip(found, predicted.tolist(), strict=True):
        right = class_names[index] if 0 <= index < len(class_names) else None
        if right is None or name != right.encode():
            return (
                f"it calls class {index} {name.decode(errors='replace')!r}, which is "
                f"{right!r} in the data"
            )
    return None
