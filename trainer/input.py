"""Input of training and evaluation: batches of a split that is in memory.

In: uint8 images. Out: float32 batches, normalised by the Transform graph and augmented.
Order and augmentation are functions of (seed, epoch, example), so that the same seed gives
the same run, and a resumed run the same batches. Of a split on disk: streaming.py.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from contract.config.train import TrainConfig
from trainer import recipe, streaming, workers
from trainer.examples import Examples, untuned
from trainer.streaming import Stream

# No Python here depends on a tensor's value, and AutoGraph takes seconds to find that out.
_plain = tf.autograph.experimental.do_not_convert
Normalise = Callable[
    [tf.Tensor], tf.Tensor
]  # string [batch] -> float32 [batch, height, width, channels]


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a training reads."""

    train: Examples | Stream
    evaluation: Examples | Stream  # for the learning curve; nothing is chosen by it
    normalise: Normalise  # the Transform graph


def training_batches(
    examples: Examples | Stream,
    normalise: Normalise,
    config: TrainConfig,
    *,
    first_step: int,
    steps: int,
    share: workers.Share = workers.whole,
) -> tf.data.Dataset:
    """Endless passes over the split, cut to steps [first_step, steps).

    Returns:
        A dataset of (images float32 [global_batch_size, height, width, channels], labels
        int64 [global_batch_size]); the last, incomplete batch of a pass is dropped or kept.
        `share` has only a worker's parts of each batch loaded.
    """
    if isinstance(examples, Stream):
        return streaming.training_batches(
            examples, config, first_step=first_step, steps=steps, share=share
        )
    count = len(examples)
    per_epoch = recipe.steps_per_epoch(config, count)
    first_epoch, skipped = divmod(first_step, per_epoch)
    epochs = -(-steps // per_epoch)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([tf.constant(config.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
        # One row of three numbers per image of the split: independent of the order.
        chances = tf.random.stateless_uniform([count, 3], seed=seed + [0, 1 << 32])
        batches = tf.data.Dataset.from_tensor_slices(order).batch(
            config.global_batch_size, drop_remainder=config.last_batch == "drop"
        )
        return batches.map(_plain(lambda rows: (rows, tf.gather(chances, rows))))

    def load(rows: tf.Tensor, chances: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = normalise(tf.gather(examples.images, rows))
        images = _shaped(images, rows)
        images = augment(images, chances, padding=config.crop_padding, flip=config.flip)
        return images, tf.gather(examples.labels, rows)

    rows = tf.data.Dataset.range(first_epoch, epochs).flat_map(_plain(epoch_batches))
    batches = rows.skip(skipped).take(steps - first_step)
    loaded = share(batches).map(_plain(load), num_parallel_calls=2, deterministic=True)
    return untuned(loaded.prefetch(4))


def evaluation_batches(
    examples: Examples | Stream,
    normalise: Normalise,
    batch_size: int,
    share: workers.Share = workers.whole,
) -> tf.data.Dataset:
    """One pass in order, in batches of one shape: the last one is filled up.

    Returns:
        A dataset of (images float32 [batch_size, height, width, channels], labels int64
        [batch_size], float32 [batch_size]: 1 for what counts, 0 for what fills up).
        `share`: as of `training_batches`.
    """
    if isinstance(examples, Stream):
        return streaming.evaluation_batches(examples, normalise, batch_size, share)
    count = len(examples)
    whole = -(-count // batch_size) * batch_size
    rows = share(tf.data.Dataset.range(whole).batch(batch_size, drop_remainder=True))

    def load(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        there = tf.minimum(rows, count - 1)
        images = normalise(tf.gather(examples.images, there))
        labels = tf.gather(examples.labels, there)
        return _shaped(images, rows), labels, tf.cast(rows < count, tf.float32)

    return untuned(rows.map(_plain(load), num_parallel_calls=2))


def _shaped(images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Images that know how many they are, where that is known: XLA asks for it.

    The Transform graph forgets it.
    """
    return tf.ensure_shape(images, [rows.shape[0], *images.shape[1:]])


def augment(
    images: tf.Tensor, chances: tf.Tensor, *, padding: int, flip: bool
) -> tf.Tensor:
    """Random crop out of a zero-padded frame, then a random mirror image.

    After normalisation zero is the mean colour (as in the authors' released code).

    Args:
        images: float32 [batch, height, width, channels].
        chances: float32 [batch, 3] in [0, 1): row offset, column offset, mirror.
        padding: Pixels on every side; offsets are 0 to 2 * padding.
        flip: Whether half of the images are mirrored.

    Returns:
        float32, the shape of `images`.
    """
    height, width = images.shape[1], images.shape[2]
    if padding:
        places = 2 * padding + 1
        offsets = tf.cast(tf.floor(chances[:, :2] * places), tf.int32)
        columns = offsets[:, 1:] + tf.range(width)  # [batch, width]
        rows = offsets[:, :1] + tf.range(height)  # [batch, height]
        frame = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
        images = tf.pad(images, frame)
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    else:
        columns = tf.tile(tf.range(width)[None], [tf.shape(images)[0], 1])
    if flip:
        columns = tf.where(chances[:, 2:] < 0.5, columns[:, ::-1], columns)
    if padding or flip:
        wanted = tf.tile(columns[:, None], [1, height, 1])  # [batch, height, width]
        images = tf.gather(images, wanted, axis=2, batch_dims=2)
    return images
