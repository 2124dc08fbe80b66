"""Eq. 4 to 8 of He et al. 2016b (arXiv:1603.05027), and 2016a's reason, on numbers.

Comes in: a network laid out by walk.py and its signals. Goes out: relative errors between
the two sides of an equation. Each equation is taken over the repeated units of a stage:
where the width changes, no shortcut is the identity.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

import dataclasses

import tensorflow as tf

from studies.propagation.walk import (
    MOST_UNITS,
    Network,
    Part,
    Signals,
    forward,
    head_loss,
    norm,
    relative_error,
    stages,
    summands,
)


def forward_error(network: Network, x: tf.Tensor) -> float:
    """Eq. 4 (and 7): x_L against lambda^n x_l plus the scaled sum of F(x_i).

    The sum is taken in float64 whatever the network's type is; the largest relative error of
    all stages is returned.

    Args:
        network: With shortcuts.
        x: Images.
    """
    factor = _factor(network)
    x = forward(network.stem, x)
    worst = 0.0
    repeated = {places[0]: places for places in stages(network)}
    place = 0
    while place < len(network.units):
        if place not in repeated:
            x = forward(network.units[place], x)
            place += 1
            continue
        n = len(repeated[place])
        total = factor**n * tf.cast(x, tf.float64)
        for i, at in enumerate(repeated[place]):
            _, branch, x = summands(network.units[at], x)
            total += factor ** (n - 1 - i) * tf.cast(branch, tf.float64)
        worst = max(worst, relative_error(x, total))
        place += n
    return worst


def backward_error(network: Network, signals: Signals) -> float:
    """Eq. 5 (and 8): dE/dx_l against dE/dx_L (lambda^n + d/dx_l of the sum of F).

    The left side is back-propagation through the whole network, unit by unit; on the right
    the sum alone is differentiated, by a tape over all units between.
    """
    factor = _factor(network)
    worst = 0.0
    for stage in stages(network):
        places = stage[-MOST_UNITS:]
        n = len(places)
        start = signals.inputs[places[0]]
        end = signals.gradients[places[-1] + 1]
        with tf.GradientTape() as tape:
            tape.watch(start)
            x, total = start, tf.zeros_like(start)
            for i, place in enumerate(places):
                _, branch, x = summands(network.units[place], x)
                total += factor ** (n - 1 - i) * branch
        through = tape.gradient(total, start, end)
        right = factor**n * end + through
        worst = max(worst, relative_error(right, signals.gradients[places[0]]))
    return worst


def quotient_error(network: Network, signals: Signals, labels: tf.Tensor) -> float:
    """|dE/dx_l| of the second stage's first repeated unit against a difference quotient.

    No differentiation by program is used: the loss is evaluated on either side of x_l, along
    its gradient.
    """
    place = [*stages(network)][1][0]
    x, gradient = signals.inputs[place], signals.gradients[place]
    length = norm(gradient)
    step = 1e-7 * norm(x)

    def loss(by: float) -> float:
        y = x + by * gradient / length
        for part in network.units[place:]:
            y = forward(part, y)
        return float(head_loss(network, y, labels))

    return abs((loss(step) - loss(-step)) / (2 * step) / length - 1)


def identity_error(network: Network, x: tf.Tensor) -> float:
    """How far a repeated unit is from lambda times x once its last kernel is zero.

    That is the identity, without a scale on the shortcut.

    2016a, section 3.1: "if identity mappings are optimal, the solvers may simply drive the
    weights of the multiple nonlinear layers toward zero". `x`: images.
    """
    x = forward(network.stem, x)
    for part in network.units:
        if part.repeated:
            return relative_error(forward(_silenced(part), x), _factor(network) * x)
        x = forward(part, x)
    raise ValueError(f"{network.spec.name} has no repeated unit")


def _silenced(part: Part) -> Part:
    kernels = [
        f"{step.name}/kernel"
        for step in part.program
        if step.op == "conv" and step.name.startswith("conv")
    ]
    last = {kernels[-1]: tf.zeros_like(part.weights[kernels[-1]])}
    return dataclasses.replace(part, weights={**part.weights, **last})


def _factor(network: Network) -> float:
    scale = network.spec.shortcut_scale
    return 1.0 if scale is None else scale
