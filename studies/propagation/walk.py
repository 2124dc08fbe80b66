"""A network walked unit by unit, forwards and backwards, with every signal kept.

Comes in: a network's name, its weights by flat name, images. Goes out: the activations x_l
before each unit l, what the unit's residual branch F adds, and dE/dx_l. The same program of
steps and the same operations as in training (`trainer.program`, `trainer.operations`), but
one call per unit instead of a loop, so that 1,001 layers need no graph of their own: units
with one program share one function.

Notation of He et al. 2016b (arXiv:1603.05027), Eq. 1: y_l = h(x_l) + F(x_l),
x_{l+1} = f(y_l).
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.initialisers import initial_value
from trainer.operations import PARAMETRIC, SIMPLE, Run
from trainer.program import Section, Step, expand
from trainer.units import NetworkSpec, parse_network

Program = tuple[Step, ...]
Weights = Mapping[str, Any]  # name inside its unit -> tensor

_HELD = "held"  # register with the values of x, through which no gradient passes


@dataclass(frozen=True, eq=False)
class Part:
    """Stem, unit or head: a program and its weights."""

    name: str  # "stem", "stage1/unit2", "head"
    program: Program
    weights: Weights
    stage: int = 0  # from 1; 0: no unit
    # Whether the unit keeps width and size, so that its shortcut has nothing to change.
    repeated: bool = False

    @property
    def has_shortcut(self) -> bool:
        """Plain networks have none."""
        return any(step.op == "add" for step in self.program)


@dataclass(frozen=True, eq=False)
class Network:
    """All parts, in the order in which they run."""

    spec: NetworkSpec
    stem: Part
    units: tuple[Part, ...]
    head: Part


def initial_weights(
    network: str, classes: int, seed: int, channels: int = 3
) -> dict[str, np.ndarray]:
    """What a network starts from (He et al. 2015), by the flat names of its weights."""
    found = {}
    for section in expand(parse_network(network), classes, channels):
        for weight in section.weights:
            start = initial_value(section, weight, initialiser="he_fan_in", seed=seed)
            parts = start if section.stacked else [start]
            for prefix, part in zip(section.prefixes, parts, strict=True):
                found[f"{prefix}{weight.name}"] = part
    return found


def network_of(
    network: str,
    classes: int,
    weights: Mapping[str, np.ndarray],
    *,
    dtype: str = "float64",
    channels: int = 3,
) -> Network:
    """Lays a network out, part by part.

    Args:
        network: Its name.
        classes: Width of the logits.
        weights: By flat name, as `trainer.network.export_weights` gives them.
        dtype: Of all arithmetic, "float64" or "float32".
        channels: Of the images.
    """
    spec = parse_network(network)
    parts = [
        part
        for section in expand(spec, classes, channels)
        for part in _parts(section, weights, dtype)
    ]
    stem, *units, head = parts
    return Network(spec, stem, tuple(units), head)


def _parts(
    section: Section, weights: Mapping[str, np.ndarray], dtype: str
) -> Iterator[Part]:
    for prefix in section.prefixes:
        name = prefix.rstrip("/") or section.name
        own = {
            weight.name: tf.constant(weights[f"{prefix}{weight.name}"], dtype)
            for weight in section.weights
        }
        stage = int(name.split("/")[0].removeprefix("stage")) if prefix else 0
        yield Part(name, section.program, own, stage, section.stacked)


def without_batch_norm(network: Network) -> Network:
    """The same network with every batch norm left out."""

    def bare(part: Part) -> Part:
        steps = tuple(step for step in part.program if step.op != "bn")
        return dataclasses.replace(part, program=steps)

    return dataclasses.replace(
        network,
        stem=bare(network.stem),
        units=tuple(map(bare, network.units)),
        head=bare(network.head),
    )


def scaled(network: Network, factor: float) -> Network:
    """The same network with the kernels of all units' convolutions times `factor`."""

    def more(part: Part) -> Part:
        own = {
            name: factor * value if name.endswith("/kernel") else value
            for name, value in part.weights.items()
        }
        return dataclasses.replace(part, weights=own)

    return dataclasses.replace(network, units=tuple(map(more, network.units)))


def warm_up() -> None:
    """Has TensorFlow look for devices, of which it has much to say, now.

    It also takes functions made from one piece of code for one that is traced again and
    again, and warns: here each program has its own.
    """
    tf.get_logger().setLevel("ERROR")
    tf.constant(0.0)


# ---- one part ------------------------------------------------------------------------


def forward(part: Part, x: tf.Tensor, *, training: bool = True) -> tf.Tensor:
    """Activations after a part."""
    return _forward(part.program, training)(x, dict(part.weights))


def summands(part: Part, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What a unit's shortcut and branch add, and its output: h(x_l), F(x_l), x_{l+1}.

    Both with the scale or gate that stands before the addition. In training mode.
    """
    return _summands(part.program)(x, dict(part.weights))


def shortcut(part: Part, x: tf.Tensor) -> tf.Tensor:
    """What a unit gives without its branch, f(h(x_l)); of a plain unit x itself.

    With batch norm's moving moments, as in service.
    """
    if not part.has_shortcut:
        return x
    return _shortcut(part.program)(x, dict(part.weights))


def carried(part: Part, x: tf.Tensor) -> tf.Tensor:
    """The factor of a repeated unit's shortcut, of x's shape: 1, lambda, or 1 - g(x_l)."""
    return _carried(part.program)(x, dict(part.weights))


def pull(
    part: Part, x: tf.Tensor, gradient: tf.Tensor, along: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes gradients from a unit's output to its input x.

    Args:
        part: The unit.
        x: Its input, [batch, height, width, channels].
        gradient: dE/dx_{l+1}.
        along: The part of dE/dx_{l+1} that has met shortcuts alone so far.

    Returns:
        dE/dx_l, and what of `along` goes on through this unit's shortcut (and the f after
        the addition) alone: the branch, and a gate's value, count as constants. For a unit
        without a shortcut, or one whose shortcut changes the width, the second is zeros.
    """
    return _pull(part.program, part.repeated and part.has_shortcut)(
        x, dict(part.weights), gradient, along
    )


@functools.cache
def _forward(program: Program, training: bool) -> Callable[..., tf.Tensor]:
    @tf.function(reduce_retracing=True)
    def call(x, weights):
        return _run(program, {"x": x}, weights, training)["x"]

    return call


@functools.cache
def _summands(program: Program) -> Callable[..., Any]:
    before, add, after = _split(program)

    @tf.function(reduce_retracing=True)
    def call(x, weights):
        registers = _run(before, {"x": x}, weights)
        h, f = (registers[name] for name in add.reads)
        return h, f, _run(after, {"x": h + f}, weights)["x"]

    return call


@functools.cache
def _shortcut(program: Program) -> Callable[..., tf.Tensor]:
    before, add, after = _split(program)

    @tf.function(reduce_retracing=True)
    def call(x, weights):
        registers = _run(before, {"x": x}, weights, training=False)
        h = registers[add.reads[0]]
        return _run(after, {"x": h}, weights, training=False)["x"]

    return call


@functools.cache
def _carried(program: Program) -> Callable[..., tf.Tensor]:
    before, _, _ = _split(program)

    @tf.function(reduce_retracing=True)
    def call(x, weights):
        registers = _run(before, {"x": x}, weights)
        gate = registers.get("gate")  # by now 1 - g
        if gate is not None:
            return gate
        factors = [step.value for step in before if step.writes == "shortcut"]
        return tf.fill(tf.shape(x), tf.constant(np.prod(factors), x.dtype))

    return call


@functools.cache
def _pull(program: Program, alone: bool) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True)
    def call(x, weights, gradient, along):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = _run(program, {"x": x}, weights)["x"]
        whole = tape.gradient(y, x, gradient)
        if not alone:
            return whole, tf.zeros_like(whole)
        held = _branch_held(program)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = _run(held, {"x": x, _HELD: tf.stop_gradient(x)}, weights)["x"]
        return whole, tape.gradient(y, x, along)

    return call


def _branch_held(program: Program) -> Program:
    """The same program with branch and gate computed from `_HELD`."""
    before, add, after = _split(program)

    def held(step: Step) -> Step:
        if step.writes == "shortcut":
            return step
        reads = tuple(_HELD if name == "x" else name for name in step.reads)
        return dataclasses.replace(step, reads=reads)

    return (*map(held, before), add, *after)


def _split(program: Program) -> tuple[Program, Step, Program]:
    """What stands before the addition, the addition, and what follows it."""
    (place,) = (i for i, step in enumerate(program) if step.op == "add")
    return program[:place], program[place], program[place + 1 :]


def _run(
    program: Sequence[Step],
    registers: dict[str, Any],
    weights: Weights,
    training: bool = True,
) -> dict[str, Any]:
    """As `trainer.operations.interpret`, with all registers in and out."""
    run = Run(dict(weights), training)
    for step in program:
        values = [registers[name] for name in step.reads]
        if step.op in SIMPLE:
            registers[step.writes] = SIMPLE[step.op](*values)
        else:
            registers[step.writes] = PARAMETRIC[step.op](step, run, *values)
    return registers


# ---- the whole network ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Signals:
    """What went through a network once."""

    inputs: tuple[tf.Tensor, ...]  # x_l, one per unit
    output: tf.Tensor  # of the last unit
    lengths: tuple[float, ...]  # |dE/dx_l|, and that of `output` as the last
    # dE/dx_l itself, by place, where something needs it: of 1,001 layers all of them would
    # take as much memory again as the inputs.
    gradients: Mapping[int, tf.Tensor]
    # |s_l|: what of the gradient at the end of l's stage reaches x_l along shortcuts alone;
    # None where there is no way, or one that changes the width.
    along: tuple[float | None, ...]
    # How far s_l is from the product of the shortcuts' factors times the gradient at the
    # stage's end: largest difference over largest value of that product. None as above.
    departure: tuple[float | None, ...]


def head_loss(
    network: Network, x: tf.Tensor, labels: tf.Tensor, *, training: bool = True
) -> tf.Tensor:
    """Mean cross-entropy from the last unit's output."""
    logits = forward(network.head, x, training=training)
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def walk(network: Network, images: tf.Tensor, labels: tf.Tensor) -> Signals:
    """Sends images through a network and the loss's gradient back.

    Batch norm takes the batch's moments, as in training.

    Args:
        network: Without dropout.
        images: Normalised, [batch, height, width, channels], of the network's type.
        labels: int [batch].
    """
    x = forward(network.stem, images)
    inputs = []
    for part in network.units:
        inputs.append(x)
        x = forward(part, x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = head_loss(network, x, labels)
    gradient = tape.gradient(loss, x)
    needed = _ends(network)
    gradients = {len(inputs): gradient}
    lengths, along, departure = [norm(gradient)], [], []
    carried_on = product = gradient
    for place in reversed(range(len(inputs))):
        part, entered = network.units[place], inputs[place]
        last = place + 1 == len(inputs) or network.units[place + 1].stage != part.stage
        if last:
            carried_on = product = gradient
        gradient, carried_on = pull(part, entered, gradient, carried_on)
        lengths.append(norm(gradient))
        if place in needed:
            gradients[place] = gradient
        if part.repeated and part.has_shortcut:
            product = product * carried(part, entered)
            along.append(norm(carried_on))
            departure.append(relative_error(carried_on, product))
        else:
            along.append(None)
            departure.append(None)
    return Signals(
        inputs=tuple(inputs),
        output=x,
        lengths=tuple(reversed(lengths)),
        gradients=gradients,
        along=tuple(reversed(along)),
        departure=tuple(reversed(departure)),
    )


def stages(network: Network) -> Iterator[range]:
    """Places of each stage's repeated units; of stages that have any."""
    numbers = sorted({part.stage for part in network.units})
    for stage in numbers:
        places = [
            place
            for place, part in enumerate(network.units)
            if part.stage == stage and part.repeated
        ]
        if places:
            yield range(places[0], places[-1] + 1)


# Over how many units at most Eq. 5 is taken, the last ones of a stage (all of those of 110
# and 164 layers): a tape holds what is between.
MOST_UNITS = 17


def _ends(network: Network) -> set[int]:
    """Where gradients are kept: at the images' end, and at those of each stage's units."""
    ends = {0}
    for places in stages(network):
        ends |= {places[0], places[-MOST_UNITS:][0], places[-1] + 1}
    return ends


def norm(tensor: tf.Tensor) -> float:
    """Euclidean norm, summed in float64."""
    return float(tf.norm(tf.cast(tensor, tf.float64)))


def relative_error(found: tf.Tensor, wanted: tf.Tensor) -> float:
    """Largest difference, over the largest absolute value of `wanted`."""
    found, wanted = tf.cast(found, tf.float64), tf.cast(wanted, tf.float64)
    scale = tf.reduce_max(tf.abs(wanted))
    return float(tf.reduce_max(tf.abs(found - wanted)) / scale)
