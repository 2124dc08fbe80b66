"""Transform stage: normalisation with statistics of the train split.

TFX Transform calls `preprocessing_fn`. The graph it makes is applied to the cached raw
images while training and is part of the exported model, so that there is one
normalisation and no skew. In: ingested tf.Examples; out: float32 images. Labels are not
transformed.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from contract import features
from contract.config.preprocessing import PreprocessingConfig
from contract.datasets import Dataset
from contract.fields import from_json
from contract.records import DATASET_FILE

# The statistics as two more outputs, each broadcast to the batch: signatures that receive
# decoded pixels instead of tf.Examples read them from the graph once.
IMAGE_MEAN = "image_mean"
IMAGE_STD = "image_std"


# TFX Transform will call this function.
def preprocessing_fn(
    inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """Builds the Transform graph.

    Args:
        inputs: Ingested features; `features.IMAGE` is string [batch, 1].
        custom_config: {"preprocessing": JSON of PreprocessingConfig, "dataset": JSON of
            contract.datasets.Dataset}.

    Returns:
        `features.TRANSFORMED_IMAGE`, `IMAGE_MEAN` and `IMAGE_STD`, each float32
        [batch, height, width, channels]; pixel values count 0 to 255 before normalisation.
        The names of `features.BANDS`, each int64 [batch].
    """
    config = from_json(PreprocessingConfig, custom_config["preprocessing"])
    dataset = Dataset.from_json(custom_config["dataset"], DATASET_FILE)
    pixels = decode_pixels(inputs[features.IMAGE], dataset)
    images = tf.cast(pixels, tf.float32)
    mean, std = _statistics(pixels, config)
    brightness, contrast = brightness_and_contrast(pixels)
    quarters = len(features.BAND_NAMES)
    return {
        features.BRIGHTNESS_BAND: tft.bucketize(brightness, quarters),
        features.CONTRAST_BAND: tft.bucketize(contrast, quarters),
        features.TRANSFORMED_IMAGE: normalise(images, mean, std),
        IMAGE_MEAN: tf.broadcast_to(mean, tf.shape(images)),
        IMAGE_STD: tf.broadcast_to(std, tf.shape(images)),
    }


def decode_pixels(image_bytes: tf.Tensor, dataset: Dataset) -> tf.Tensor:
    """Raw bytes, string [batch] or [batch, 1], as uint8 [batch, height, width, channels]."""
    flat = tf.io.decode_raw(tf.reshape(image_bytes, [-1]), tf.uint8)
    return tf.reshape(flat, [-1, *dataset.pixels])


def brightness_and_contrast(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation of each image's values, float32 [batch], 0 to 255."""
    size: Any = pixels.shape[1:].num_elements()
    values = tf.reshape(tf.cast(pixels, tf.float32), [-1, size])
    return tf.reduce_mean(values, axis=1), tf.math.reduce_std(values, axis=1)


def normalise(images: tf.Tensor, mean: tf.Tensor, std: tf.Tensor) -> tf.Tensor:
    """(images - mean) / std, float32; the one place where this is written."""
    return (tf.cast(images, tf.float32) - mean) / std


def apply_transform(layer: Any, image_bytes: tf.Tensor, dataset: Dataset) -> tf.Tensor:
    """Raw pixels, string [batch], as normalised float32 [batch, height, width, channels]."""
    outputs = layer({features.IMAGE: tf.reshape(image_bytes, [-1, 1])})
    images = outputs[features.TRANSFORMED_IMAGE]
    return tf.ensure_shape(images, [None, *dataset.pixels])


def mean_and_deviation(layer: Any, dataset: Dataset) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and deviation inside the Transform graph, float32, an image's shape each."""
    blank = tf.constant([[bytes(dataset.image_bytes)]])
    outputs = layer({features.IMAGE: blank})
    return outputs[IMAGE_MEAN][0], outputs[IMAGE_STD][0]


def _statistics(
    pixels: tf.Tensor, config: PreprocessingConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation over the analysed split, float32, broadcastable.

    From sums of integers, which are exact in any order: the same images give the same
    bits, however Beam divides the work. (`tft.mean` adds in float32: 2e-5 off on digits.)
    """
    samples = tf.cast(pixels, tf.int64)
    if config.statistics == "per_channel":
        samples = tf.reshape(samples, [-1, pixels.shape[-1]])

    def total(values: tf.Tensor) -> tf.Tensor:
        return tf.cast(tft.sum(values, reduce_instance_dims=False), tf.float64)

    count = total(tf.ones_like(samples))
    mean = total(samples) / count
    variance = total(samples * samples) / count - mean * mean
    mean = tf.cast(mean, tf.float32)
    if not config.divide_by_std:
        return mean, tf.ones_like(mean)
    std = tf.cast(tf.sqrt(tf.maximum(variance, 0)), tf.float32)
    # A pixel that never changes (the border of the digits) carries no information and has
    # no deviation: leave it at 0 instead of dividing by 0.
    return mean, tf.where(std > 0, std, tf.ones_like(std))
