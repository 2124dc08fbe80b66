"""The smallest case of a vanishing gradient: E = w3 w2 w1 x, and what saves it.

Three layers of one weight each. The chain rule multiplies: dE/dx = w1 w2 w3 vanishes or
explodes with the number of layers. With shortcuts it is (1 + w1)(1 + w2)(1 + w3); with batch
norm over the images, w cancels.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

LAYERS = 3
WEIGHTS = (0.1, 0.5, 1.0, 2.0)
_IMAGES = (-1.5, -0.5, 0.25, 1.75)  # one number each; mean 0

Layer = Callable[[tf.Tensor, float], tf.Tensor]


def _batch_norm(x: tf.Tensor) -> tf.Tensor:
    centred = x - tf.reduce_mean(x)
    return centred / tf.sqrt(tf.reduce_mean(centred**2))


LAYER: dict[str, Layer] = {
    "plain": lambda x, w: w * x,
    "batch_norm": lambda x, w: _batch_norm(w * x),
    "shortcut": lambda x, w: x + w * x,
}


def gradients(layers: int = LAYERS) -> list[dict[str, float]]:
    """|dE/dx| for each weight and kind of layer, found by differentiation.

    Of batch norm the loss is the sum of cubes, else of images: a sum of normalised numbers
    is always 0.

    Args:
        layers: How many, all with the same weight.

    Returns:
        A row per weight: "weight" and, by kind of layer, the norm of the gradient over that
        at the last layer's output.
    """
    rows = []
    for weight in WEIGHTS:
        row = {"weight": weight}
        for kind, layer in LAYER.items():
            x = tf.constant(_IMAGES, tf.float64)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = x
                for _ in range(layers):
                    y = layer(y, weight)
                tape.watch(y)
                loss = tf.reduce_sum(y**3) if kind == "batch_norm" else tf.reduce_sum(y)
            at_input, at_output = tape.gradient(loss, [x, y])
            row[kind] = float(tf.norm(at_input) / tf.norm(at_output))
        rows.append(row)
    return rows
