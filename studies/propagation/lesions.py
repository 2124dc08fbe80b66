"""Lesions: what a trained network loses with one unit, or with two neighbours swapped.

After Veit et al. 2016, "Residual Networks Behave Like Ensembles of Relatively Shallow
Networks" (arXiv:1605.06431), section 4: a residual network survives the removal of almost
any one unit, a plain network of none. In: trained weights, normalised images. Out: error
rates. Batch norm takes its moving moments, as in service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from studies.propagation import walk
from studies.propagation.walk import Network, Part

# Activations before every unit are kept: 110 layers at 32 x 32 take 0.9 GB for these.
_BATCH = 250


@dataclass(frozen=True)
class Lesion:
    """One change, and the error rate with it."""

    units: tuple[str, ...]  # the one removed, or the two swapped
    error: float  # 0 to 1


@dataclass(frozen=True)
class Lesions:
    """All changes of one network, each for itself."""

    error: float  # of the whole network
    removed: tuple[Lesion, ...]
    swapped: tuple[Lesion, ...]


def lesions(
    network: Network,
    images: tf.Tensor,
    labels: tf.Tensor,
    say: Callable[[str], None] = lambda _: None,
) -> Lesions:
    """Removes each unit in turn, and swaps each two neighbours of one form.

    A removed unit leaves its shortcut; of a plain network, whose units have none, the input
    goes on as it is, and units that change the width cannot be removed.

    Args:
        network: Trained, in float32.
        images: Normalised, float32 [n, height, width, channels].
        labels: int [n].
        say: Told how far it is.
    """
    units = network.units
    removable = [
        place for place, part in enumerate(units) if part.repeated or part.has_shortcut
    ]
    neighbours = [
        place
        for place, (part, after) in enumerate(zip(units, units[1:], strict=False))
        if part.repeated and after.repeated and part.stage == after.stage
    ]
    count = len(images)
    wrong: dict[Any, int] = {}

    def note(key: Any, x: tf.Tensor, rest: Sequence[Part], truth: tf.Tensor) -> None:
        for part in rest:
            x = walk.forward(part, x, training=False)
        logits = walk.forward(network.head, x, training=False)
        found = tf.argmax(logits, axis=1, output_type=truth.dtype)
        mistakes = int(tf.reduce_sum(tf.cast(found != truth, tf.int32)))
        wrong[key] = wrong.get(key, 0) + mistakes

    for start in range(0, count, _BATCH):
        say(f"images {start + 1:,} to {min(start + _BATCH, count):,} of {count:,}")
        truth = labels[start : start + _BATCH]
        x = walk.forward(network.stem, images[start : start + _BATCH], training=False)
        for place, part in enumerate(units):
            if place in removable:
                left = walk.shortcut(part, x)
                note(("removed", place), left, units[place + 1 :], truth)
            if place in neighbours:
                rest = (units[place + 1], part, *units[place + 2 :])
                note(("swapped", place), x, rest, truth)
            x = walk.forward(part, x, training=False)
        note("whole", x, (), truth)
    return Lesions(
        error=wrong["whole"] / count,
        removed=tuple(
            Lesion((units[place].name,), wrong["removed", place] / count)
            for place in removable
        ),
        swapped=tuple(
            Lesion(
                (units[place].name, units[place + 1].name),
                wrong["swapped", place] / count,
            )
            for place in neighbours
        ),
    )
