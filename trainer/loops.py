"""Running n identical units, with weights stacked [n, ...], some of them at a time.

Comes in: a body, activations, stacked arrays. Goes out: the activations after n units, and
what each unit gave besides, stacked. The forms compute the same, bit by bit.
"""
# ruff: noqa: TID253 - Keras is what this file is about

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

# (x, *arrays) -> (x, *outputs), of one unit or of several
Body = Callable[..., tuple]


class Output(NamedTuple):
    """What one run of a loop's body gives besides x; the loop stacks it."""

    shape: tuple[int, ...]
    dtype: str


def run(  # noqa: PLR0913 - what a loop is made of
    body: Body,
    x,
    scanned: Sequence[Any],
    outputs: Sequence[Output],
    *,
    size: int = 1,
    unroll: bool = False,
) -> tuple[Any, list]:
    """Runs all units.

    Args:
        body: Runs some units one after the other: (x, *arrays) -> (x, *outputs). It gets the
            first array of each of them, then the second, and so on; it gives all outputs of
            the first unit, then those of the second.
        x: Activations before the first unit, of one shape throughout.
        scanned: Arrays [n, ...], a unit's own part at its place.
        outputs: Of one unit.
        size: Units in a body; what is left at the end is a body of fewer.
        unroll: Copies of the body instead of a loop.

    Returns:
        The activations after the last unit, and the outputs stacked, [n, ...].
    """
    count: int = scanned[0].shape[0]
    whole = count - count % size
    found = []
    for start, end, units in ((0, whole, size), (whole, count, count - whole)):
        if start == end:
            continue
        parts = scanned
        if start or units > 1:
            parts = [a[start + i : end : units] for a in scanned for i in range(units)]
        once = end - start == units
        loop = _unrolled if unroll or once else LOOPS[keras.backend.backend()]
        x, own = loop(body, x, parts, [*outputs] * units)
        found.append([_merge(own[i :: len(outputs)]) for i in range(len(outputs))])
    if len(found) == 1:
        return x, found[0]
    return x, [ops.concatenate(parts) for parts in zip(*found, strict=True)]


def _merge(parts: Sequence[Any]):
    """Arrays [n, ...] of units that take turns -> one of all of them, in order."""
    if len(parts) == 1:
        return parts[0]
    stacked: Any = ops.stack(parts, axis=1)
    return ops.reshape(stacked, (-1, *stacked.shape[2:]))


def _unrolled(body: Body, x, scanned: Sequence[Any], outputs: Sequence[Output]):
    """One copy of the body per unit: what the loops compute, without a loop."""
    found = []
    for arrays in zip(*(ops.unstack(array) for array in scanned), strict=True):
        x, *own = body(x, *arrays)
        found.append(own)
    return x, [ops.stack([own[i] for own in found]) for i in range(len(outputs))]


def _tensorflow_loop(body: Body, x, scanned: Sequence[Any], outputs: Sequence[Output]):
    """`tf.while_loop` over TensorArrays.

    The stacked arrays are unstacked before the loop and never indexed inside it: the
    gradient of `array[i]` is a stacked array of zeros, at every iteration.
    (`keras.ops.scan` on TensorFlow cannot return outputs shaped unlike the carry.)
    """
    import tensorflow as tf

    count = scanned[0].shape[0]
    arrays = [
        tf.TensorArray(value.dtype, count, element_shape=value.shape[1:]).unstack(value)
        for value in scanned
    ]
    found = [
        tf.TensorArray(item.dtype, count, element_shape=item.shape) for item in outputs
    ]

    def iteration(i, x, found):
        x, *own = body(x, *(array.read(i) for array in arrays))
        found = [item.write(i, value) for item, value in zip(found, own, strict=True)]
        return i + 1, x, found

    _, x, found = tf.while_loop(
        lambda i, *_: i < count, iteration, (0, x, found), maximum_iterations=count
    )
    return x, [item.stack() for item in found]


def _jax_loop(body: Body, x, scanned: Sequence[Any], outputs: Sequence[Output]):  # noqa: ARG001
    """`jax.lax.scan`, which takes and gives stacked arrays as they are."""

    def iteration(x, arrays):
        x, *own = body(x, *arrays)
        return x, own

    return ops.scan(iteration, x, list(scanned))


LOOPS = {"tensorflow": _tensorflow_loop, "jax": _jax_loop}
