"""Running one body for each of n identical units, with weights stacked [n, ...].

Comes in: a body, activations, stacked arrays. Goes out: the activations after n units, and
what each unit gave besides, stacked. The forms compute the same, bit by bit.
"""
# ruff: noqa: TID253 - Keras is what this file is about

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

# (x, *one unit's arrays) -> (x, *outputs)
Body = Callable[..., tuple]


class Output(NamedTuple):
    """What one run of a loop's body gives besides x; the loop stacks it."""

    shape: tuple[int, ...]
    dtype: str


def unrolled(body: Body, x, scanned: Sequence[Any], outputs: Sequence[Output]):
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
