"""Speed of the input pipeline alone: images per second of `trainer.input`.

    python -m benchmarks.input_rate [images] [seconds]

Random images in memory go through shuffling, normalisation (the formula of the Transform
graph), random crop and mirror, as in training; nothing consumes the batches. Prints one
JSON line. `benchmarks.train` runs it in a process of its own.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import tensorflow as tf

from contract.config.train import TrainConfig
from contract.datasets import known
from trainer import preprocessing
from trainer.examples import Examples
from trainer.input import TrainingData, training_batches

WARM_UP = 0.2  # of the seconds


def main(images: int = 45_000, seconds: float = 10.0) -> None:
    """Draws batches until the time is over."""
    config = TrainConfig()
    data = random_data(images)
    batches = training_batches(
        data.train, data.normalise, config, first_step=0, steps=10**9
    )
    drawn = 0
    begin = time.perf_counter()
    start = None
    for batch in batches:
        now = time.perf_counter()
        if start is not None:
            drawn += int(batch[0].shape[0])
        elif now - begin >= WARM_UP * seconds:
            start = now
        if start is not None and drawn and now - start >= seconds:
            print(
                json.dumps(
                    {"images": drawn, "images_per_second": drawn / (now - start)}
                )
            )
            return


def random_data(count: int) -> TrainingData:
    """Random images, raw bytes as in tf.Examples; the evaluation split is empty."""
    rng = np.random.default_rng(0)
    raw = [image.tobytes() for image in rng.integers(0, 256, (count, 3_072), np.uint8)]
    images = tf.constant(raw)
    labels = tf.constant(rng.integers(10, size=count))
    return TrainingData(
        train=Examples(images, labels),
        evaluation=Examples(images[:0], labels[:0]),
        normalise=normalise,
    )


def normalise(raw: tf.Tensor) -> tf.Tensor:
    """Raw pixels, string [batch], as the Transform graph of per-pixel statistics gives them."""
    dataset = known("cifar10")
    mean, std = tf.fill(dataset.pixels, 127.5), tf.fill(dataset.pixels, 73.9)
    return preprocessing.normalise(preprocessing.decode_pixels(raw, dataset), mean, std)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
