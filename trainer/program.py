"""What a network consists of: short programs of steps over named weights.

Comes in: a `NetworkSpec`. Goes out: its sections (stem, per stage the first unit and the
remaining identical ones, head), each a straight program that `trainer.operations` interprets
and that this module counts (parameters, multiply-adds) without running it. Standard
library only.

Rules from He et al. 2016a (arXiv:1512.03385), 2016b (arXiv:1603.05027) and resnet-1k-layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainer.tables import ARRANGEMENTS, BETWEEN, BLOCKS, FAMILIES, SHORTCUTS
from trainer.units import NetworkSpec

# Registers of a program: "x" (comes in, and goes out), "branch", "shortcut", "gate".
Register = str
Role = Literal["kernel", "bias", "gamma", "beta", "mean", "var"]
# Of one image's activations, (height, width, channels) or (channels,), or of an array.
# Height and width may be None, not known yet, where nothing is counted.
Shape = tuple[Any, ...]


_BATCH_NORM: dict[Role, float] = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "var": 1.0}


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One array of a step."""

    name: str  # inside its unit, e.g. "conv1/kernel"
    shape: Shape
    role: Role
    start: float | None = None  # initial value; None: the initialiser decides

    @property
    def trainable(self) -> bool:
        """Moving statistics are kept, not trained."""
        return self.role not in ("mean", "var")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation: reads registers, writes one.

    What each operation does to activations [batch, height, width, channels]:
        conv: kernel x kernel, `kernel // 2` pixels of zeros on every side; bias if `bias`
        bn, relu, sigmoid, add, multiply, one_minus: as named
        widen: every `stride`-th pixel, zero channels appended (2016a, option A)
        scale: times `value`
        dropout: zeros with probability `value`, in training only
        max_pool: kernel x kernel, padded as conv
        mean_pool: over height and width
        dense: bias if `bias`
    """

    op: str
    reads: tuple[Register, ...]
    writes: Register
    name: str = ""  # of its weights
    kernel: int = 1
    stride: int = 1
    in_width: int = 0
    out_width: int = 0
    value: float = 1.0  # scale, dropout
    bias: float | None = None  # conv, dense: initial value of the bias; None: no bias

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The arrays this step uses, trainable ones first."""
        if self.op == "bn":
            return tuple(
                self._weight(role, (self.in_width,), start)
                for role, start in _BATCH_NORM.items()
            )
        if self.op not in ("conv", "dense"):
            return ()
        window = (self.kernel, self.kernel) if self.op == "conv" else ()
        kernel = self._weight("kernel", (*window, self.in_width, self.out_width))
        if self.bias is None:
            return (kernel,)
        return (kernel, self._weight("bias", (self.out_width,), self.bias))

    def _weight(self, role: Role, shape: Shape, start: float | None = None) -> Weight:
        return Weight(name=f"{self.name}/{role}", shape=shape, role=role, start=start)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one image's result, from that of the first register read."""
        if self.op == "mean_pool":
            return shape[-1:]
        if self.op == "dense":
            return (self.out_width,)
        if self.op in ("conv", "widen", "max_pool"):
            height, width, channels = shape
            # (side + 2 * (kernel // 2) - kernel) // stride + 1 for odd kernels
            sides = (side and math.ceil(side / self.stride) for side in (height, width))
            return (*sides, self.out_width or channels)
        return shape


@dataclass(frozen=True, kw_only=True)
class Section:
    """A program and the places in the network where it runs, one after another."""

    name: str  # also the name of its Keras layer
    program: tuple[Step, ...]
    prefixes: tuple[str, ...]  # of the weights' flat names, one per repetition
    stacked: bool = False  # weights have a leading dimension [len(prefixes), ...]

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Arrays of one repetition, in order of use."""
        return tuple(weight for step in self.program for weight in step.weights)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one image's activations after the section."""
        *_, (_, shape) = _trace(self.program, shape)  # repeating it keeps the shape
        return shape


def expand(spec: NetworkSpec, classes: int, channels: int = 3) -> tuple[Section, ...]:
    """All sections of a network, in the order in which they run.

    A stage gives two: `stage1_unit1`, and `stage1_units` for the remaining ones, which are
    identical, so that their weights can be stacked and their program run in a loop. The number
    of sections therefore does not depend on the depth.

    Args:
        spec: Which network.
        classes: Width of the dense layer, at least 1.
        channels: Of the images: 3, or 1 for grey.
    """
    family = FAMILIES[spec.family]
    sections = [Section(name="stem", program=_stem(spec, channels), prefixes=("",))]
    channels = family.stem_width
    for stage, (width, units) in enumerate(
        zip(family.widths, spec.units_per_stage, strict=True), start=1
    ):
        first = _unit(
            spec,
            in_width=channels,
            width=width,
            stride=1 if stage == 1 else 2,
            place="after_pool" if stage == 1 and family.max_pool else "first",
        )
        sections.append(
            Section(
                name=f"stage{stage}_unit1",
                program=first,
                prefixes=(f"stage{stage}/unit1/",),
            )
        )
        channels = width * BLOCKS[spec.block].expansion
        if units > 1:
            sections.append(
                Section(
                    name=f"stage{stage}_units",
                    program=_unit(
                        spec, in_width=channels, width=width, stride=1, place="other"
                    ),
                    prefixes=tuple(
                        f"stage{stage}/unit{i}/" for i in range(2, units + 1)
                    ),
                    stacked=True,
                )
            )
    head = _head(spec, channels, classes)
    return (*sections, Section(name="head", program=head, prefixes=("",)))


def image_shape(spec: NetworkSpec) -> tuple[int, int, int]:
    """Height, width and channels of the images that the papers give the network."""
    side = FAMILIES[spec.family].image_side
    return side, side, 3


def weight_shapes(
    spec: NetworkSpec, classes: int, channels: int = 3
) -> dict[str, Shape]:
    """Every array of a network by its flat name, moving statistics among them."""
    return {
        f"{prefix}{weight.name}": weight.shape
        for section in expand(spec, classes, channels)
        for prefix in section.prefixes
        for weight in section.weights
    }


def count_parameters(spec: NetworkSpec, classes: int, channels: int = 3) -> int:
    """Trainable numbers: kernels, biases, gamma and beta; not the moving statistics."""
    return sum(
        len(section.prefixes) * math.prod(weight.shape)
        for section in expand(spec, classes, channels)
        for weight in section.weights
        if weight.trainable
    )


def count_multiply_adds(
    spec: NetworkSpec, classes: int, shape: Shape | None = None
) -> int:
    """Multiply-adds of all convolutions and the dense layer, for one image.

    `shape`: of the image, (height, width, channels); None: `image_shape`.
    """
    shape = shape or image_shape(spec)
    total = 0
    for section in expand(spec, classes, shape[-1]):
        each = sum(
            math.prod(output[:-1]) * math.prod(step.weights[0].shape)
            for step, output in _trace(section.program, shape)
            if step.op in ("conv", "dense")
        )
        total += len(section.prefixes) * each
        shape = section.output_shape(shape)
    return total


def _trace(program: Sequence[Step], shape: Shape) -> Iterator[tuple[Step, Shape]]:
    """Each step with the shape that it writes; the last one writes the result."""
    registers = {"x": shape}
    for step in program:
        registers[step.writes] = step.output_shape(registers[step.reads[0]])
        yield step, registers[step.writes]


def _stem(spec: NetworkSpec, channels: int) -> tuple[Step, ...]:
    """conv1 and what stands before the first unit (2016a, Table 1 and section 4.2)."""
    family = FAMILIES[spec.family]
    row = ARRANGEMENTS[spec.arrangement]
    writer = _Writer()
    writer.conv(
        "x", "x", "stem",
        kernel=family.stem_kernel, stride=family.stem_stride,
        widths=(channels, family.stem_width),
    )  # fmt: skip
    activation = row.stem
    if family.max_pool:
        # "The first activation right after conv1" (2016b): before the pooling, as released.
        activation = f"{row.stem} {row.before}".strip()
    writer.activate("x", "x", activation, family.stem_width, bn="stem_bn")
    if family.max_pool:
        writer.add("max_pool", "x", "x", kernel=3, stride=2)
    return tuple(writer.steps)


def _head(spec: NetworkSpec, channels: int, classes: int) -> tuple[Step, ...]:
    """What follows the last unit: [final activation], global average pooling, dense layer."""
    writer = _Writer()
    final = ARRANGEMENTS[spec.arrangement].final
    writer.activate("x", "x", final, channels, bn="final_bn")
    writer.add("mean_pool", "x", "x")
    writer.add(
        "dense", "x", "x",
        name="dense", in_width=channels, out_width=classes, bias=0.0,
    )  # fmt: skip
    return tuple(writer.steps)


def _unit(
    spec: NetworkSpec,
    *,
    in_width: int,
    width: int,
    stride: int,
    place: Literal["first", "after_pool", "other"],
) -> tuple[Step, ...]:
    """The program of one residual unit (2016b, Fig. 2 and 4; 2016a, Fig. 5).

    Args:
        spec: Which network.
        in_width: Channels that come in.
        width: The stage's width; the unit's output has `block.expansion` times as many.
        stride: Of the whole unit, 1 or 2.
        place: In the stage; a pre-activation stage's first unit shares its leading activation
            between both branches. "after_pool": that activation stands in the stem.
    """
    arrangement = ARRANGEMENTS[spec.arrangement]
    block = BLOCKS[spec.block]
    out_width = width * block.expansion
    writer = _Writer()
    if place == "first":
        writer.activate("x", "x", arrangement.before, in_width)

    # Residual branch.
    source = "x"
    if place == "other" and arrangement.before:
        writer.activate("x", "branch", arrangement.before, in_width)
        source = "branch"
    strided = 1 if spec.stride_on == "3x3" else 0
    channels = in_width
    for i, (kernel, multiple) in enumerate(
        zip(block.kernels, block.widths, strict=True)
    ):
        if i > 0:
            writer.activate("branch", "branch", BETWEEN, channels)
        writer.conv(
            source, "branch", f"conv{i + 1}",
            kernel=kernel, stride=stride if i == strided else 1,
            widths=(channels, width * multiple),
        )  # fmt: skip
        channels = width * multiple
        source = "branch"
    writer.activate("branch", "branch", arrangement.after, out_width)

    # Shortcut and addition.
    if spec.shortcut == "none":
        total = "branch"
    else:
        shortcut = _shortcut(spec, writer, widths=(in_width, out_width), stride=stride)
        writer.add("add", (shortcut, "branch"), "x")
        total = "x"
    writer.activate(total, "x", arrangement.addition, out_width)
    return tuple(writer.steps)


def _shortcut(
    spec: NetworkSpec, writer: _Writer, *, widths: tuple[int, int], stride: int
) -> Register:
    """Writes the shortcut's steps; returns the register that holds its result."""
    row = SHORTCUTS[spec.shortcut]
    in_width, out_width = widths
    changes = in_width != out_width or stride != 1
    register = "x"
    if row.on_shortcut == "projection" or (changes and spec.option == "B"):
        writer.conv("x", "shortcut", "projection", stride=stride, widths=widths)
        if ARRANGEMENTS[spec.arrangement].projection_bn:
            writer.activate("shortcut", "shortcut", "BN", out_width, bn="projection_bn")
        register = "shortcut"
    elif changes:
        writer.add(
            "widen", "x", "shortcut",
            stride=stride, in_width=in_width, out_width=out_width,
        )  # fmt: skip
        register = "shortcut"

    if row.on_shortcut == "1-g":
        writer.conv(
            "x", "gate", "gate", stride=stride, widths=widths, bias=spec.gate_bias
        )
        writer.add("sigmoid", "gate", "gate")
        if row.on_branch == "g":
            writer.add("multiply", ("branch", "gate"), "branch")
        writer.add("one_minus", "gate", "gate")
        writer.add("multiply", (register, "gate"), "shortcut")
    elif row.on_shortcut == "scale":
        writer.add("scale", register, "shortcut", value=spec.shortcut_scale)
        writer.add("scale", "branch", "branch", value=spec.residual_scale)
    elif row.on_shortcut == "dropout":
        writer.add("dropout", register, "shortcut", value=spec.dropout_rate)
    else:
        return register
    return "shortcut"


class _Writer:
    """Collects steps and numbers the batch norms in order of use."""

    def __init__(self):
        self.steps: list[Step] = []
        self._norms = 0

    def add(self, op: str, reads: str | tuple[str, ...], writes: str, **fields) -> None:
        reads = (reads,) if isinstance(reads, str) else reads
        self.steps.append(Step(op=op, reads=reads, writes=writes, **fields))

    def conv(
        self, reads: str, writes: str, name: str, *, widths: tuple[int, int], **fields
    ) -> None:
        in_width, out_width = widths
        self.add(
            "conv", reads, writes,
            name=name, in_width=in_width, out_width=out_width, **fields,
        )  # fmt: skip

    def activate(
        self, reads: str, writes: str, row: str, width: int, *, bn: str = ""
    ) -> None:
        """Writes the steps of a table cell such as "BN ReLU"; `bn` is a name of its own."""
        for word in row.split():
            if word == "BN":
                if not bn:
                    self._norms += 1
                name = bn or f"bn{self._norms}"
                self.add("bn", reads, writes, name=name, in_width=width)
            else:
                self.add(word.lower(), reads, writes)
            reads = writes
