"""Small models with the project's signatures, sound or with chosen faults.

Written by plain TensorFlow; what "training" answers is computed by NumPy.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import tensorflow as tf

CLASSES = ("cat", "dog", "ship")
_WEIGHTS = np.random.default_rng(1).normal(size=(3, len(CLASSES))).astype(np.float32)


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 32, 32, 3), np.uint8)


def train_answers(pixels: np.ndarray) -> np.ndarray:
    """float32 [n, classes]; colours far from each other, so that answers differ."""
    logits = (pixels[:, 0, 0] / 64.0) @ _WEIGHTS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


class Tiny(tf.Module):
    """`faults`: "skew" in serving_default, "nan" in encoded_images, "names" in classify
    and serialized_examples, "slow" in serving_default."""

    def __init__(self, faults: Collection[str]):
        super().__init__()
        self.weights = tf.Variable(_WEIGHTS)
        self.big = tf.Variable(tf.eye(512))
        self.faults = faults

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8)])
    def serve_images(self, images):
        scale = 1.0
        if "skew" in self.faults:
            scale = -1.0
        if "slow" in self.faults:
            # At least 0.05 s at a speed of 1 TFLOP/s.
            work = self.big.read_value()
            for _ in tf.range(200):
                work = tf.matmul(work, self.big)
            scale *= work[0, 0]
        return self.predict(images, scale=scale)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve_examples(self, examples):
        return self.predict(parse(examples), names=self.names())

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve_encoded(self, encoded):
        pixels = tf.map_fn(
            lambda file: tf.io.decode_png(file, channels=3),
            encoded,
            fn_output_signature=tf.uint8,
        )
        scale = float("nan") if "nan" in self.faults else 1.0
        return self.predict(tf.reshape(pixels, [-1, 32, 32, 3]), scale=scale)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve_classify(self, inputs):
        scores = self.predict(parse(inputs))["probabilities"]
        names = tf.tile(tf.constant(self.names())[None], [tf.shape(scores)[0], 1])
        return {"classes": names, "scores": scores}

    def names(self):
        return (*CLASSES[1:], CLASSES[0]) if "names" in self.faults else CLASSES

    def predict(self, pixels, scale=1.0, names=CLASSES):
        colours = tf.cast(pixels[:, 0, 0], tf.float32) / 64.0
        probabilities = tf.nn.softmax(colours @ self.weights * scale)
        label = tf.argmax(probabilities, axis=1)
        return {
            "probabilities": probabilities,
            "label": label,
            "class_name": tf.gather(tf.constant(names), label),
        }


def parse(examples):
    features = {"image": tf.io.FixedLenFeature([], tf.string)}
    pixels = tf.io.decode_raw(
        tf.io.parse_example(examples, features)["image"], tf.uint8
    )
    return tf.reshape(pixels, [-1, 32, 32, 3])


def write(folder: Path, *faults: str) -> Path:
    """A SavedModel with the answers of "training" beside it."""
    model = Tiny(faults)
    tf.saved_model.save(
        model,
        str(folder),
        signatures={
            "serving_default": model.serve_images,
            "serialized_examples": model.serve_examples,
            "encoded_images": model.serve_encoded,
            "classify": model.serve_classify,
        },
    )
    write_expected(folder)
    return folder


def write_expected(folder: Path, **arrays: np.ndarray) -> None:
    pixels = images()
    (folder / "assets.extra").mkdir(exist_ok=True)
    np.savez(
        folder / "assets.extra/expected_answers.npz",
        **{
            "images": pixels,
            "probabilities": train_answers(pixels),
            "class_names": np.array(CLASSES),
        }
        | arrays,
    )
