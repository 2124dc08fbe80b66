"""Transform stage: normalisation with statistics of the train split.

TFX Transform calls `preprocessing_fn`. The graph it makes is applied to the cached raw
images while training and is part of the exported model, so that there is one
normalisation and no skew. In: ingested tf.Examples; out: float32 images. Labels are not
transformed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from contract import features
from contract.config.preprocessing import PreprocessingConfig
from contract.crops import framed
from contract.datasets import Dataset
from contract.fields import from_json
from contract.records import DATASET_FILE
from trainer import crops

# The statistics as two more outputs, each broadcast to the batch: signatures that receive
# decoded pixels instead of tf.Examples read them from the graph once.
IMAGE_MEAN = "image_mean"
IMAGE_STD = "image_std"
# Of the colours of all pixels, which count 0 to 255; training images are tinted by it.
COLOUR_COVARIANCE = "colour_covariance"


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
        The names of `features.BANDS`, each int64 [batch]. Of encoded images also
        `COLOUR_COVARIANCE`, float32 [batch, channels, channels].
    """
    config = from_json(PreprocessingConfig, custom_config["preprocessing"])
    dataset = Dataset.from_json(custom_config["dataset"], DATASET_FILE)
    pixels = decode_pixels(inputs[features.IMAGE], dataset)
    images = tf.cast(pixels, tf.float32)
    more = {}
    if dataset.crop is None:
        mean, std = _statistics(pixels, config)
        brightness, contrast = brightness_and_contrast(pixels)
    else:
        sums = _sums(pixels)
        colours, covariance = _colours(sums)
        mean, std = _statistics(pixels, config, colours)
        brightness, contrast = _of_sums(sums)
        shape = tf.concat([tf.shape(images)[:1], tf.shape(covariance)], axis=0)
        more[COLOUR_COVARIANCE] = tf.broadcast_to(covariance, shape)
    quarters = len(features.BAND_NAMES)
    return more | {
        features.BRIGHTNESS_BAND: tft.bucketize(brightness, quarters),
        features.CONTRAST_BAND: tft.bucketize(contrast, quarters),
        features.TRANSFORMED_IMAGE: normalise(images, mean, std),
        IMAGE_MEAN: tf.broadcast_to(mean, tf.shape(images)),
        IMAGE_STD: tf.broadcast_to(std, tf.shape(images)),
    }


def decode_pixels(image_bytes: tf.Tensor, dataset: Dataset) -> tf.Tensor:
    """Images of examples, string [batch] or [batch, 1], as a network is shown them.

    Returns:
        uint8 [batch, height, width, channels]; of encoded images the crop of evaluation.
    """
    if dataset.crop is not None:
        return crops.center(tf.reshape(image_bytes, [-1]), dataset.crop)
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
    """Images of examples, string [batch], as normalised float32 [batch, height, ...]."""
    outputs = layer({features.IMAGE: tf.reshape(image_bytes, [-1, 1])})
    images = outputs[features.TRANSFORMED_IMAGE]
    return tf.ensure_shape(images, [None, *dataset.pixels])


def mean_and_deviation(layer: Any, dataset: Dataset) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and deviation inside the Transform graph, float32, an image's shape each."""
    outputs = layer({features.IMAGE: tf.constant([[blank(dataset)]])})
    return outputs[IMAGE_MEAN][0], outputs[IMAGE_STD][0]


def colour_covariance(layer: Any, dataset: Dataset) -> tf.Tensor:
    """Covariance of the colours inside the Transform graph of encoded images.

    Returns:
        float32 [channels, channels]; pixel values count 0 to 255.
    """
    outputs = layer({features.IMAGE: tf.constant([[blank(dataset)]])})
    return outputs[COLOUR_COVARIANCE][0]


def as_in_examples(pixels: np.ndarray, dataset: Dataset) -> bytes:
    """What an example holds so that a network is shown these pixels."""
    if dataset.crop is None:
        return pixels.tobytes()
    return tf.io.encode_png(framed(pixels[None])[0]).numpy()


def blank(dataset: Dataset) -> bytes:
    """The same of black pixels."""
    return as_in_examples(np.zeros(dataset.pixels, np.uint8), dataset)


def _sums(pixels: tf.Tensor) -> tf.Tensor:
    """Of each image: pixels, sums of colours, sums of their products.

    Exact, as float64 holds whole numbers below 2^53. One image at a time, since as float64 a
    batch of large ones would take gigabytes.

    Returns:
        int64 [batch, 4, 4]: sums of products of (1, red, green, blue).
    """

    def one(image: tf.Tensor) -> tf.Tensor:
        colours = tf.cast(tf.reshape(image, [-1, 3]), tf.float64)
        rows = tf.concat([tf.ones_like(colours[:, :1]), colours], axis=1)
        return tf.cast(tf.matmul(rows, rows, transpose_a=True), tf.int64)

    return tf.map_fn(one, pixels, fn_output_signature=tf.int64)


def _colours(
    sums: tf.Tensor,
) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Mean and variance, float64 [3], and covariance, float32 [3, 3], over the split."""
    total = tf.cast(tft.sum(sums, reduce_instance_dims=False), tf.float64)
    means = total / total[0, 0]
    mean = means[0, 1:]
    covariance = means[1:, 1:] - mean[:, None] * mean[None, :]
    return (mean, tf.linalg.diag_part(covariance)), tf.cast(covariance, tf.float32)


def _of_sums(sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """As `brightness_and_contrast`."""
    values = tf.cast(sums, tf.float64)
    size = 3 * values[:, 0, 0]
    mean = tf.reduce_sum(values[:, 0, 1:], axis=1) / size
    squares = tf.linalg.trace(values[:, 1:, 1:]) / size
    deviation = tf.sqrt(tf.maximum(squares - mean * mean, 0))
    return tf.cast(mean, tf.float32), tf.cast(deviation, tf.float32)


def _statistics(
    pixels: tf.Tensor,
    config: PreprocessingConfig,
    colours: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation over the analysed split, float32, broadcastable.

    From sums of integers, which are exact in any order: the same images give the same
    bits, however Beam divides the work. (`tft.mean` adds in float32: 2e-5 off on digits.)

    Args:
        pixels: uint8 [batch, height, width, channels].
        config: Of what.
        colours: Mean and variance per channel, where they are known.
    """
    if colours is not None and config.statistics == "per_channel":
        mean, variance = colours
    else:
        mean, variance = _mean_and_variance(pixels, config)
    mean = tf.cast(mean, tf.float32)
    if not config.divide_by_std:
        return mean, tf.ones_like(mean)
    std = tf.cast(tf.sqrt(tf.maximum(variance, 0)), tf.float32)
    # A pixel that never changes (the border of the digits) carries no information and has
    # no deviation: leave it at 0 instead of dividing by 0.
    return mean, tf.where(std > 0, std, tf.ones_like(std))


def _mean_and_variance(
    pixels: tf.Tensor, config: PreprocessingConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of every pixel, or of every channel, float64."""
    samples = tf.cast(pixels, tf.int64)
    if config.statistics == "per_channel":
        samples = tf.reshape(samples, [-1, pixels.shape[-1]])

    def total(values: tf.Tensor) -> tf.Tensor:
        return tf.cast(tft.sum(values, reduce_instance_dims=False), tf.float64)

    count = total(tf.ones_like(samples))
    mean = total(samples) / count
    return mean, total(samples * samples) / count - mean * mean
