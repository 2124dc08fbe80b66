"""Does the training compile under XLA, as TPUStrategy has it compiled, and at what cost?

    python -m benchmarks.xla            # ResNet-20 and -164; minutes
    python -m benchmarks.xla preact_resnet1001

Per network, precision and rematerialisation one row: what a replica does in a training step,
with jit_compile=True and without. Both begin with the same weights and see the same images.
On this machine's CPU: that a TPU's own compiler takes the program is not shown by it.

Result: benchmarks/results/xla.json.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from contract.config.train import TrainConfig
from trainer import fit, network

PROJECT = Path(__file__).resolve().parents[1]
NETWORKS = ("preact_resnet20", "preact_resnet164")
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
class Row:
    """What came of a case."""

    case: Case
    losses: list[float]  # of each step, without XLA
    compiled_losses: list[float]
    seconds: float  # tracing, compiling and the first step


def measure(case: Case) -> Row:
    """Trains a few steps both ways."""
    losses, _ = _train(case, compiled=False)
    return Row(case, losses, *_train(case, compiled=True))


def _train(case: Case, *, compiled: bool) -> tuple[list[float], float]:
    step = training_step(case, compiled=compiled)
    rate = tf.constant(0.01)
    began = time.perf_counter()
    losses = [float(step(*images_of(case, 0), rate)[0])]
    seconds = time.perf_counter() - began
    for seed in range(1, case.steps):
        losses.append(float(step(*images_of(case, seed), rate)[0]))
    return losses, seconds


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


def main(networks: Sequence[str]) -> None:
    """Measures all cases of some networks and writes the table."""
    rows = []
    for name, precision, again in itertools.product(
        networks or NETWORKS, PRECISIONS, (False, True)
    ):
        case = Case(name, precision, again)
        row = dataclasses.asdict(measure(case)) | {"instructions": instructions(case)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    path = PROJECT / "benchmarks" / "results" / "xla.json"
    path.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
