"""Does the training compile under XLA, as TPUStrategy has it compiled, and at what cost?

    python -m benchmarks.xla [--quick] [--output FILE]

Two tables. ResNet-20 and -164 in both precisions, plain and rematerialised: what a replica
does in a training step, with jit_compile=True and without; both begin with the same weights
and see the same images. And bottleneck networks of 29 to 1001 layers, which are one program
in loops: the seconds that compiling takes must not grow with depth. On this machine's CPU: that
a TPU's own compiler takes the program is not shown by it.

Writes benchmarks/results/xla.json. `--quick` takes small networks, to show in a minute
that all of it works, and writes nothing unless told where to.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.train import machine
from contract.config.train import TrainConfig
from trainer import fit, network

RESULT = Path(__file__).parent / "results" / "xla.json"
NETWORKS = ("preact_resnet20", "preact_resnet164")
DEPTHS = (29, 164, 1001)  # bottlenecks, 9n + 2
Precision = Literal["float32", "mixed_bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16")
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, how it is trained, and on what."""

    network: str
    precision: Precision = "float32"
    rematerialise: bool = False
    side: int = 16  # of the images, in pixels
    batch: int = 8  # images
    steps: int = 3


@dataclasses.dataclass(frozen=True)
class Trained:
    """Some steps, one way."""

    losses: list[float]  # of each step
    trace_seconds: float  # Python's part: from functions to a graph
    compile_seconds: float  # what the first step takes more than the others
    step_seconds: float  # of the fastest of the others


@dataclasses.dataclass(frozen=True)
class Row:
    """What came of a case."""

    case: Case
    losses: list[float]  # of each step, without XLA
    compiled_losses: list[float]
    without: Trained
    compiled: Trained


def measure(case: Case) -> Row:
    """Trains a few steps both ways."""
    without, compiled = train(case, compiled=False), train(case, compiled=True)
    return Row(case, without.losses, compiled.losses, without, compiled)


def train(case: Case, *, compiled: bool) -> Trained:
    """Trains a few steps, two or more."""
    step = training_step(case, compiled=compiled)
    rate = tf.constant(0.01)
    began = time.perf_counter()
    step.get_concrete_function(*images_of(case, 0), rate)
    traced = time.perf_counter() - began
    losses, seconds = [], []
    for seed in range(case.steps):
        images = images_of(case, seed)
        began = time.perf_counter()
        losses.append(float(step(*images, rate)[0]))
        seconds.append(time.perf_counter() - began)
    quickest = min(seconds[1:])
    return Trained(losses, traced, seconds[0] - quickest, quickest)


def training_step(case: Case, *, compiled: bool) -> Any:
    """A replica's step as a function of images, labels and learning rate."""
    config = TrainConfig(precision=case.precision, rematerialise=case.rematerialise)
    model = model_of(case)
    step = fit._replica_step(model, fit._optimizer(model, config), config, 1)
    return tf.function(step, jit_compile=compiled, autograph=False)


def model_of(case: Case) -> Any:
    """The network with its initial weights, the same at every call."""
    return network.build(
        case.network,
        CLASSES,
        image_shape=(case.side, case.side, 3),
        dtype=case.precision,
        rematerialise=case.rematerialise,
    )


def images_of(case: Case, seed: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A batch of noise, float32 [batch, side, side, 3], and labels."""
    rng = np.random.default_rng(seed)
    shape = (case.batch, case.side, case.side, 3)
    images = rng.normal(size=shape).astype(np.float32)
    return tf.constant(images), tf.constant(rng.integers(0, CLASSES, case.batch))


def instructions(case: Case) -> int:
    """How long the program is that XLA is given; a loop's body counts once."""
    step = training_step(case, compiled=True)
    arguments = (*images_of(case, 0), tf.constant(0.01))
    text = step.experimental_get_compiler_ir(*arguments)(stage="hlo")
    return sum(" = " in line for line in text.splitlines())


def table(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Measures the cases and prints them beside one another."""
    rows, shown = [], _table("training", "step without", "losses apart")
    for case in cases:
        row = measure(case)
        pairs = zip(row.compiled_losses, row.losses, strict=True)
        apart = max(abs(one / other - 1) for one, other in pairs)
        told = {"instructions": instructions(case), "largest_loss_difference": apart}
        rows.append(dataclasses.asdict(row) | told)
        how = (
            f"{case.precision}, rematerialised"
            if case.rematerialise
            else case.precision
        )
        shown.add_row(
            case.network, how, *_seconds(row.compiled), f"{told['instructions']:,}",
            f"{row.without.step_seconds:.2f} s", f"{apart:.1e}",
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    Console(width=120).print(shown)
    return rows


def depths(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Compiles networks that differ in depth alone, and prints what that takes."""
    rows, shown = [], _table("against the first")
    first = None
    for case in cases:
        found, length = train(case, compiled=True), instructions(case)
        first = first or found.compile_seconds
        rows.append(
            {"case": dataclasses.asdict(case), "compiled": dataclasses.asdict(found)}
            | {"instructions": length, "compile_ratio": found.compile_seconds / first}
        )
        shown.add_row(
            case.network, *_seconds(found), f"{length:,}", f"{rows[-1]['compile_ratio']:.2f}"
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    Console(width=120).print(shown)
    return rows


def _table(*more: str) -> Table:
    """`more`: titles, those of words (training) first."""
    words = [title for title in more if title == "training"]
    shown = Table(box=None, pad_edge=False)
    for title in ("network", *words):
        shown.add_column(title)
    figures = [title for title in more if title not in words]
    for title in ("traced", "compiled", "step", "instructions", *figures):
        shown.add_column(title, justify="right")
    return shown


def _seconds(found: Trained) -> tuple[str, str, str]:
    return (
        f"{found.trace_seconds:.1f} s",
        f"{found.compile_seconds:.1f} s",
        f"{found.step_seconds:.2f} s",
    )


def main(arguments: list[str] | None = None) -> None:
    """Measures all cases and writes what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a trial of a minute")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    small = {"side": 8, "batch": 2, "steps": 2} if options.quick else {}
    networks = ("preact_resnet8",) if options.quick else NETWORKS
    layers = (20, 29) if options.quick else DEPTHS  # 11 would have no loop
    result = {
        "rows": table(
            Case(name, precision, again, **small)
            for name, precision, again in itertools.product(
                networks, PRECISIONS, (False, True)
            )
        ),
        "depths": depths(
            Case(f"preact_resnet{depth}_bottleneck", **small) for depth in layers
        ),
        "machine": machine(),
    }
    output = options.output or (None if options.quick else RESULT)
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
