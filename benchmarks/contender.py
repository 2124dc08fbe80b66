"""One contender of `benchmarks.train`, in a process of its own.

    python -m benchmarks.contender '{"contender": "ours", "depth": 164, ...}'

Comes in: the fields of `Setting` as JSON, then lines on standard input, each a number of
training steps. Goes out: JSON lines on standard output: one after the first step, then
the seconds of each step asked for. Between two requests the process waits, so that two
contenders can take turns. Every contender trains on the same random batch, which is in
memory, so that the input pipeline is not part of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from contract import onednn

LEARNING_RATE = 0.01  # of any size: only the time counts
CLASSES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What is timed; a step is forward, backward and momentum SGD with coupled decay."""

    contender: str  # "ours", "unrolled_keras", "torch" or "torch_compile"
    depth: int  # 9n+2, pre-activation bottleneck units
    batch_size: int
    precision: str = "float32"  # or "mixed_bfloat16"
    rematerialise: bool = False  # ours alone


def main(setting: Setting) -> None:
    """Runs the first step, then as many as are asked for."""
    step, parameters = prepare(setting)
    ready = time.monotonic()
    step()
    # On Linux the monotonic clock is one for all processes.
    _tell(
        ready=ready,
        finished=time.monotonic(),
        parameters=parameters,
        memory_gb=peak_memory_gb(),
    )
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        _tell(seconds=seconds, memory_gb=peak_memory_gb())


def prepare(setting: Setting) -> tuple[Callable[[], object], int]:
    """A training step that returns when it is done, and the number of parameters."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(setting.batch_size, 32, 32, 3)).astype(np.float32)
    labels = rng.integers(CLASSES, size=setting.batch_size)
    if setting.contender.startswith("torch"):
        from benchmarks import torch_resnet

        return torch_resnet.prepare(
            setting.depth,
            images,
            labels,
            precision=setting.precision,
            learning_rate=LEARNING_RATE,
            threads=cores() or 1,
            compiled=setting.contender == "torch_compile",
        )
    return _prepare_keras(setting, images, labels)


def _prepare_keras(setting: Setting, images: np.ndarray, labels: np.ndarray):
    """Both Keras networks run in the loop of `trainer.fit`; what differs is the network."""
    with onednn.on():  # as a run loads it
        import keras
        import tensorflow as tf

    from benchmarks import unrolled_keras
    from contract.config.train import TrainConfig
    from trainer import fit, network

    keras.utils.set_random_seed(1)
    config = TrainConfig(
        global_batch_size=setting.batch_size,
        precision=setting.precision,  # pyright: ignore[reportArgumentType]
        nesterov=False,
        rematerialise=setting.rematerialise,
    )
    if setting.contender == "ours":
        model = network.build(
            f"preact_resnet{setting.depth}_bottleneck",
            CLASSES,
            rematerialise=setting.rematerialise,
            dtype=setting.precision,
        )
    else:
        keras.config.set_dtype_policy(setting.precision)
        model = unrolled_keras.build(setting.depth, CLASSES)
    optimizer = fit._optimizer(model, config)
    execute = fit._execution(model, optimizer, config)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    iterator = iter(batches)
    rates = tf.constant([LEARNING_RATE])
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    return lambda: execute(iterator, rates).numpy(), parameters


def peak_memory_gb() -> float:
    """Largest resident memory of this process so far, in 10^9 bytes."""
    if sys.platform == "linux":
        # Unlike ru_maxrss, it does not count the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def cores() -> int | None:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


def _tell(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main(Setting(**json.loads(sys.argv[1])))
