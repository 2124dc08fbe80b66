"""Input from encoded pictures on disk: nothing is in memory but what comes next.

In: shards of tf.Examples with PNG or JPEG files, each sorted by a hash of its content. Out:
batches as of `trainer.input`. The order of shards, and that of the records of a few shards
together, are shuffled without state by (seed, epoch); sizes, places and colours of an image
by (seed, epoch, id). What a resumed training has seen is skipped before it is decoded, and
so is what other workers train on: the shards are read by all of them, since the order goes
across shards, and each decodes its share.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import tensorflow as tf

from contract import features
from contract.config.train import TrainConfig
from trainer import crops, recipe, workers
from trainer.examples import parse, records, untuned
from trainer.preprocessing import normalise

# Shards whose records are shuffled together; ExampleGen makes shards of 32 MB. This one,
# and the next that is being read, are in memory.
WINDOW = 8
# Batches that are made at the same time, and wait. One of 256 images of 224 x 224 has
# 154 MB, and the pictures of a batch are decoded at the same time, too.
_PARALLEL, _WAITING = 2, 2
_EPOCHS = 1 << 32  # a seed: epoch, and what in it
# No Python here depends on a tensor's value, and AutoGraph takes seconds to find that out.
_plain = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One split on disk."""

    files: tuple[str, ...]  # sorted
    count: int  # images
    label_key: str
    crop: int  # side of the squares that are cut out
    # Of the Transform graph: mean and deviation, broadcastable to an image; covariance.
    mean: tf.Tensor
    std: tf.Tensor
    covariance: tf.Tensor

    def __post_init__(self) -> None:
        if not self.files or not self.count:
            raise ValueError(f"no example in {len(self.files)} files")

    def __len__(self) -> int:
        """Number of images."""
        return self.count

    @property
    def identity(self) -> bytes:
        """What, besides the data set, the order of its images depends on."""
        return "\0".join(map(os.path.basename, self.files)).encode()

    def first(self, count: int) -> tf.Tensor:
        """The files of the first images, string [count] or fewer."""
        serialized = [each.numpy() for each in records(self.files).take(count)]
        return parse(serialized, [features.IMAGE])[features.IMAGE]


def training_batches(
    stream: Stream,
    config: TrainConfig,
    *,
    first_step: int,
    steps: int,
    share: workers.Share = workers.whole,
) -> tf.data.Dataset:
    """Endless passes over the split, cut to steps [first_step, steps).

    Returns:
        As of `trainer.input.training_batches`.
    """
    per_epoch = recipe.steps_per_epoch(config, len(stream))
    first_epoch, skipped = divmod(first_step, per_epoch)
    epochs = -(-steps // per_epoch)

    def pass_over(epoch: tf.Tensor) -> tf.data.Dataset:
        seen = tf.where(epoch == first_epoch, skipped * config.global_batch_size, 0)
        serialized = _in_order(stream, config.seed, epoch).skip(tf.cast(seen, tf.int64))
        batches = serialized.batch(
            config.global_batch_size, drop_remainder=config.last_batch == "drop"
        )
        return batches.map(_plain(lambda batch: (batch, epoch)))

    def load(serialized: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = parse(
            serialized, (features.IMAGE, features.EXAMPLE_ID, stream.label_key)
        )
        chances, normal = _random(found[features.EXAMPLE_ID], config.seed, epoch)
        images = crops.random(
            found[features.IMAGE], chances, stream.crop, flip=config.flip
        )
        if config.colour_noise:
            images += crops.tints(stream.covariance, normal, config.colour_noise)
        images = normalise(images, stream.mean, stream.std)
        # XLA asks how many they are, where that is known.
        images = tf.ensure_shape(images, [serialized.shape[0], *images.shape[1:]])
        return images, found[stream.label_key]

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(_plain(pass_over))
    loaded = share(batches.take(steps - first_step)).map(
        _plain(load), num_parallel_calls=_PARALLEL, deterministic=True
    )
    return untuned(loaded.prefetch(_WAITING))


def evaluation_batches(
    stream: Stream,
    normalised: Callable[[tf.Tensor], tf.Tensor],
    batch_size: int,
    share: workers.Share = workers.whole,
) -> tf.data.Dataset:
    """One pass in order, in batches of one shape: the last one is filled up.

    Returns:
        As of `trainer.input.evaluation_batches`.
    """

    def fill_up(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        places = tf.range(batch_size)
        count = tf.shape(serialized)[0]
        whole = tf.gather(serialized, tf.minimum(places, count - 1))
        return whole, tf.cast(places < count, tf.float32)

    def load(
        serialized: tf.Tensor, counted: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        found = parse(serialized, (features.IMAGE, stream.label_key))
        images = normalised(found[features.IMAGE])
        images = tf.ensure_shape(images, [serialized.shape[0], *images.shape[1:]])
        return images, found[stream.label_key], counted

    batches = records(stream.files).batch(batch_size).map(_plain(fill_up))
    return untuned(share(batches).map(_plain(load), num_parallel_calls=_PARALLEL))


def _in_order(stream: Stream, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """The serialized examples of a pass, string scalars.

    Shards are sorted by content and filled by chance, so any few of them are a fair sample
    of the split.
    """
    epoch = tf.cast(epoch, tf.int64)

    def shuffled(values: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        state = tf.stack([tf.constant(seed, tf.int64) + part * _EPOCHS, epoch])
        return tf.random.experimental.stateless_shuffle(values, seed=state)

    def window(number: tf.Tensor, files: tf.Tensor) -> tf.data.Dataset:
        whole = tf.data.TFRecordDataset(files).batch(len(stream))
        return whole.map(_plain(lambda rows: shuffled(rows, number + 1)))

    zero = tf.constant(0, tf.int64)
    files = tf.data.Dataset.from_tensor_slices(
        shuffled(tf.constant(stream.files), zero)
    )
    windows = files.batch(WINDOW).enumerate().flat_map(_plain(window))
    return windows.prefetch(1).unbatch()


def _random(ids: tf.Tensor, seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Random numbers of images, the same for an image wherever it stands in a pass.

    Args:
        ids: string [n].
        seed: Of the training.
        epoch: int64 [].

    Returns:
        Uniform in [0, 1), float32 [n, crops.CHANCES], and normal, float32 [n, 3].
    """
    epoch = tf.cast(epoch, tf.int64)
    state = tf.constant(seed, tf.int64) + epoch * _EPOCHS
    names = tf.strings.to_hash_bucket_fast(ids, (1 << 62) - 1)

    def one(name: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # The second is a name that no other image has.
        uniform = tf.random.stateless_uniform(
            [crops.CHANCES], seed=tf.stack([state, name])
        )
        normal = tf.random.stateless_normal([3], seed=tf.stack([state, -1 - name]))
        return uniform, normal

    return tf.map_fn(_plain(one), names, fn_output_signature=(tf.float32, tf.float32))
