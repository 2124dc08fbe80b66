"""A process that trains tiny networks, one after another, and prints what tests compare.

`python -m tests.trainer.worker '[{"name": ..., "data": "pixels" or a folder, ...}, ...]'`: of a
cluster where TF_CONFIG is set, else the only one. It prints a line RESULT with JSON.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from contract.config.train import TrainConfig

COMMON = TrainConfig(
    steps=6,
    global_batch_size=16,
    learning_rate=0.02,
    schedule="constant",
    crop_padding=2,
    checkpoint_seconds=3600,
)


def main(cases: list[dict[str, Any]]) -> None:
    """Carries out the cases. All that share a process share its devices."""
    from trainer import strategy, workers

    configs = [dataclasses.replace(COMMON, **case["train"]) for case in cases]
    for config in configs:
        strategy.prepare_devices(config)
    found, several = {}, None
    for case, config in zip(cases, configs, strict=True):
        if config.strategy == "multi_worker":
            # A process joins its cluster once.
            chosen = several = several or strategy.create(config)
        else:
            chosen = strategy.create(config)
        with chosen.scope(), workers.said_if_lost():
            found[case["name"]] = train(case, config)
    sys.stdout.write("RESULT " + json.dumps(found) + "\n")


def train(case: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """One training in the strategy's scope."""
    from trainer import fit, network, workers

    folder = Path(case["folder"])
    data, side = source(case["data"])
    model = network.build(
        "preact_resnet8",
        classes=3,
        image_shape=(side, side, 3),
        seed=3,
        dtype=case["dtype"],
        synchronized=config.synchronized_batch_norm,
        unroll=config.synchronized_batch_norm,
    )
    chief = workers.is_chief()
    outcome = fit.fit(
        model,
        data,
        config,
        checkpoint_directory=str(folder / "checkpoints"),
        summary_directory=str(folder / ("chief" if chief else "other")),
        title="t",
    )
    points = outcome.history
    keys = ("eval_loss", "eval_accuracy")
    weights = network.export_weights(model)
    return {
        "chief": chief,
        "replicas": outcome.replicas,
        "steps": outcome.steps,
        "losses": [point["loss"] for point in points if "loss" in point],
        "evaluated": [
            [point[key] for key in keys] for point in points if "eval_loss" in point
        ],
        "weights": {
            name: value.astype(float).ravel().tolist()
            for name, value in weights.items()
        },
    }


def source(data: str) -> tuple[Any, int]:
    """Pixels in memory, or a folder of encoded pictures; and the side of the images."""
    import numpy as np
    import tensorflow as tf

    from trainer.examples import Examples
    from trainer.input import TrainingData

    if data != "pixels":
        return encoded(Path(data))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 64)
    pixels = rng.integers(0, 100, (64, 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(64), labels * 2] += 100
    raw = Examples(
        tf.constant([each.tobytes() for each in pixels]), tf.constant(labels)
    )

    def normalise(images: tf.Tensor) -> tf.Tensor:
        flat = tf.io.decode_raw(images, tf.uint8)
        return (tf.reshape(tf.cast(flat, tf.float32), [-1, 8, 8, 3]) - 60) / 40

    # No number of workers divides 63: the last batch is filled up.
    looked_at = Examples(raw.images[:63], raw.labels[:63])
    return TrainingData(train=raw, evaluation=looked_at, normalise=normalise), 8


def encoded(folder: Path) -> tuple[Any, int]:
    """As test_streaming.py writes them."""
    import tensorflow as tf

    from contract import features
    from tests.trainer.test_streaming import CROP, stream
    from trainer import crops
    from trainer.input import TrainingData

    train, evaluation = stream(folder), stream(folder, features.EVAL)

    def normalise(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(crops.center(images, CROP), tf.float32)
        return (pixels - train.mean) / train.std

    return TrainingData(train=train, evaluation=evaluation, normalise=normalise), CROP


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
