"""The one Keras layer of all networks: it runs a section's program over its weights.

Comes in: a section of `trainer.program` and activations [batch, height, width, channels].
Goes out: the activations after the section. A section of n - 1 identical units holds its
weights stacked, [n - 1, ...], and runs in a loop, so that the graph does not grow with
depth. Batch statistics leave the loop as outputs and enter the moving statistics once,
after it, however often rematerialisation runs a unit.
"""
# ruff: noqa: TID253 - Keras is what this file is about

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from trainer import loops
from trainer.initialisers import initial_value, number
from trainer.operations import Run, Tensors, interpret
from trainer.program import Section, expand
from trainer.units import parse_network

MOMENTUM = 0.9  # of the moving statistics, in Keras's convention (Torch's 0.1)
# Units whose backward pass starts from one kept input. More would keep less, but each is a
# copy in the graph, and all of their activations live at once.
RECOMPUTED_TOGETHER = 2
CAST = ("kernel", "bias")  # roles of weights that may have a lower precision


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a network is started and run."""

    seed: int = 1  # of the initial weights and of dropout
    initialiser: str = "he_fan_in"  # row of trainer.initialisers
    zero_start: str = "none"  # of each residual branch: "kernel" or "gamma"
    unroll: bool = False  # one copy of the program per unit instead of a loop
    rematerialise: bool = False  # recompute units in the backward pass: less memory
    synchronized: bool = False  # batch norm over all replicas' images; needs `unroll`


@keras.saving.register_keras_serializable("residual_networks")
class ProgramLayer(keras.layers.Layer):
    """Runs one section of a network."""

    def __init__(  # noqa: PLR0913 - what `get_config` has to give back
        self,
        *,
        network: str,
        classes: int,
        channels: int = 3,
        section: str,
        options: Options,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.network = network
        self.classes = classes
        self.channels = channels
        self.options = options
        sections = expand(parse_network(network), classes, channels)
        self.section: Section = next(item for item in sections if item.name == section)
        self.arrays: dict[str, Any] = {}
        self.seeds: Any = None
        # Left to "auto", `fit` compiles with XLA, which takes minutes on a CPU and then runs
        # slower than the graph does; jit_compile=True still asks for it.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, input_shape):
        """Creates the section's arrays; they do not depend on `input_shape`."""
        for weight in self.section.weights:
            start = initial_value(
                self.section,
                weight,
                initialiser=self.options.initialiser,
                zero_start=self.options.zero_start,
                seed=self.options.seed,
            )
            self.arrays[weight.name] = self.add_weight(
                name=weight.name.replace("/", "_"),
                shape=start.shape,
                initializer=_constant(start),
                trainable=weight.trainable,
                # Lower precisions are for kernels; batch norm stays in float32.
                autocast=weight.role in CAST,
                dtype=None
                if weight.role in CAST
                else full_precision(self.dtype_policy),
                # Replicas see different batches: without this their moving statistics drift
                # apart, and nothing says so.
                aggregation="none" if weight.trainable else "mean",
            )
        if any(step.op == "dropout" for step in self.section.program):
            start = number(self.options.seed, f"{self.section.name}/dropout") % 2**31
            self.seeds = keras.random.SeedGenerator(start)
        super().build(input_shape)

    def call(self, x, training=False):
        """Activations [batch, height, width, channels] after the section."""
        # A frozen section answers as it will be served.
        training = bool(training) and self.trainable
        # Cast once, here: a cast inside the loop would run (and be kept for the gradient) once
        # per unit.
        weights = {
            weight.name: ops.convert_to_tensor(self.arrays[weight.name])
            for weight in self.section.weights
            if weight.trainable or not training
        }
        seed = self._draw_seed() if training and self.seeds is not None else None
        if self.section.stacked:
            x, statistics = self._run_units(x, weights, training=training, seed=seed)
        else:
            run = self._new_run(weights, training, seed)
            x, statistics = interpret(self.section.program, x, run)
        for name, batch in statistics.items():
            moving = self.arrays[name]
            own: Any = ops.stop_gradient(batch)
            moving.assign(MOMENTUM * moving + (1 - MOMENTUM) * own)
        # Sections are frozen from the first one on: nothing before this one learns, and no
        # activation needs to be kept for it.
        return x if self.trainable else ops.stop_gradient(x)

    def _run_units(
        self, x, weights: Tensors, *, training: bool, seed
    ) -> tuple[Any, Tensors]:
        """Runs the program once per unit; statistics come back stacked."""
        count = len(self.section.prefixes)
        names = list(weights)
        scanned = list(weights.values())
        if seed is not None:
            scanned.append(_unit_seeds(seed, count))
        moving = [w for w in self.section.weights if not w.trainable and training]
        statistics = [weight.name for weight in moving]
        again = training and self.options.rematerialise

        def body(x, *values):
            """Some units: ([batch, ...], weights and seeds) -> ([batch, ...], statistics)."""
            size = len(values) // len(scanned)
            arrays = values[: size * len(names)]
            seeds = values[len(arrays) :] or (None,) * size

            def units(x, *arrays):
                outputs = []
                for i, own_seed in enumerate(seeds):
                    own = dict(zip(names, arrays[i::size], strict=True))
                    run = self._new_run(own, training, own_seed)
                    x, found = interpret(self.section.program, x, run)
                    outputs += [found[name] for name in statistics]
                return x, *outputs

            return keras.remat(units)(x, *arrays) if again else units(x, *arrays)

        x, found = loops.run(
            body,
            x,
            scanned,
            [loops.Output(w.shape, full_precision(self.dtype_policy)) for w in moving],
            size=RECOMPUTED_TOGETHER if again else 1,
            unroll=self.options.unroll,
        )
        return x, dict(zip(statistics, found, strict=True))

    def _new_run(self, weights: Tensors, training: bool, seed) -> Run:
        return Run(weights, training, seed, self.options.synchronized)

    def _draw_seed(self):
        """A fresh seed per call and replica, int [2]."""
        seed = self.seeds.next()
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            replica = tf.distribute.get_replica_context()
            if replica is not None and replica.num_replicas_in_sync > 1:
                own = tf.cast(replica.replica_id_in_sync_group, seed.dtype)
                offset = own * 2**40  # far above any count of calls
                seed = seed + tf.stack([tf.zeros_like(offset), offset])
        return seed

    def compute_output_spec(self, x, training=False):  # noqa: ARG002 - Keras passes it
        """Shape and dtype, without tracing the program."""
        shape = self.section.output_shape(tuple(x.shape[1:]))
        return keras.KerasTensor((x.shape[0], *shape), dtype=self.compute_dtype)

    def get_config(self):
        """What `from_config` needs to make the layer again."""
        return super().get_config() | {
            "network": self.network,
            "classes": self.classes,
            "channels": self.channels,
            "section": self.section.name,
            "options": dataclasses.asdict(self.options),
        }

    @classmethod
    def from_config(cls, config):
        """Makes the layer from `get_config`'s result."""
        return cls(**config | {"options": Options(**config["options"])})


def full_precision(policy: Any) -> str:
    """The type of batch norm's arrays and of the logits: float32, or float64 if all is."""
    return "float64" if policy.variable_dtype == "float64" else "float32"


def _unit_seeds(seed, count: int):
    """One seed per unit, [count, 2], from the seed [2] of this call."""
    steps = ops.cast(ops.arange(count), seed.dtype)
    return seed + ops.stack([steps, ops.zeros_like(steps)], axis=1)


def _constant(value: np.ndarray) -> Callable[..., Any]:
    """A Keras initialiser that gives `value`."""
    return lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype)  # noqa: ARG005
