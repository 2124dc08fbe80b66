"""Input: order and augmentation against plain NumPy, and their independence of files."""

import hashlib

import numpy as np
import pytest

from contract import features
from contract.config.train import TrainConfig

pytestmark = pytest.mark.tf

CONFIG = TrainConfig(global_batch_size=8, seed=3, crop_padding=4, flip=True)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)


def write(directory, images, shards: int, compression: str = "GZIP") -> list[str]:
    """TFRecords with the label of an image equal to its position."""
    import tensorflow as tf

    suffix = ".gz" if compression else ""
    paths = [str(directory / f"data-{i}-of-{shards}{suffix}") for i in range(shards)]
    options = tf.io.TFRecordOptions(compression_type=compression)
    writers = [tf.io.TFRecordWriter(path, options) for path in paths]
    for position, image in enumerate(images):
        pixels = image.tobytes()
        example = tf.train.Example()
        feature = example.features.feature
        feature[features.IMAGE].bytes_list.value.append(pixels)
        feature[features.LABEL].int64_list.value.append(position)
        name = hashlib.sha256(pixels).hexdigest().encode()
        feature[features.EXAMPLE_ID].bytes_list.value.append(name)
        writers[hash(pixels) % shards].write(example.SerializeToString())
    for writer in writers:
        writer.close()
    return paths


def normalise(image_bytes):
    import tensorflow as tf

    pixels = tf.reshape(tf.io.decode_raw(image_bytes, tf.uint8), [-1, 32, 32, 3])
    return tf.cast(pixels, tf.float32) / 128 - 1


def load(directory, images, shards=3, compression="GZIP"):
    from trainer.examples import load_examples

    directory.mkdir()
    return load_examples(write(directory, images, shards, compression), features.LABEL)


def batches(examples, config=CONFIG, first_step=0, steps=18):
    from trainer.input import training_batches

    dataset = training_batches(
        examples, normalise, config, first_step=first_step, steps=steps
    )
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def assert_same(one, other):
    assert len(one) == len(other)
    for (x, y), (v, w) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, v)
        np.testing.assert_array_equal(y, w)


def test_shards_and_compression_do_not_change_a_run(tmp_path, images):
    one = load(tmp_path / "one", images, shards=1, compression="")
    many = load(tmp_path / "many", images[::-1].copy(), shards=7)
    # Labels are positions, reversed in the second: compare images only.
    for (x, _), (v, _) in zip(batches(one), batches(many), strict=True):
        np.testing.assert_array_equal(x, v)


def test_resuming_gives_the_same_batches(tmp_path, images):
    examples = load(tmp_path / "x", images)
    whole = batches(examples)
    for first_step in (1, 6, 11, 17):
        assert_same(whole[first_step:], batches(examples, first_step=first_step))


def test_every_pass_shows_each_image_once_in_another_order(tmp_path, images):
    examples = load(tmp_path / "x", images[:48])
    labels = [y for _, y in batches(examples, steps=18)]
    passes = [np.concatenate(labels[i : i + 6]) for i in (0, 6, 12)]
    for order in passes:
        assert sorted(order) == list(range(48))
    assert not np.array_equal(passes[0], passes[1])


def test_the_seed_decides(tmp_path, images):
    import dataclasses

    examples = load(tmp_path / "x", images)
    assert_same(batches(examples), batches(examples))
    other = batches(examples, dataclasses.replace(CONFIG, seed=4))
    assert not np.array_equal(batches(examples)[0][1], other[0][1])


def test_an_augmented_image_is_a_crop_or_its_mirror(tmp_path, images):
    examples = load(tmp_path / "x", images)
    seen, mirrored = set(), 0
    for augmented, labels in batches(examples, steps=36):
        for image, label in zip(augmented, labels, strict=True):
            source = images[label].astype(np.float32) / 128 - 1
            frame = np.pad(source, ((4, 4), (4, 4), (0, 0)))
            found = [
                (top, left, mirror)
                for top in range(9)
                for left in range(9)
                for mirror in (False, True)
                if np.array_equal(
                    frame[top : top + 32, left : left + 32][:, :: -1 if mirror else 1],
                    image,
                )
            ]
            assert len(found) == 1
            seen.add(found[0][:2])
            mirrored += found[0][2]
    # 288 draws: most of the 81 places are hit, and about half are mirrored.
    assert len(seen) > 60
    assert 100 < mirrored < 188


def test_without_augmentation_images_are_untouched(tmp_path, images):
    import dataclasses

    examples = load(tmp_path / "x", images)
    plain = dataclasses.replace(CONFIG, crop_padding=0, flip=False)
    for shown, labels in batches(examples, plain):
        np.testing.assert_array_equal(
            shown, images[labels].astype(np.float32) / 128 - 1
        )


def test_no_thread_that_tunes_is_waited_for_at_the_end(tmp_path, images):
    """Whose sleep may be a minute: the process stood still after a training."""
    from trainer.examples import records
    from trainer.input import evaluation_batches, training_batches

    examples = load(tmp_path / "one", images)
    training = training_batches(examples, normalise, CONFIG, first_step=0, steps=3)
    evaluation = evaluation_batches(examples, normalise, 8)
    for dataset in (training, evaluation, records(["data-0-of-1"]).batch(8)):
        assert dataset.options().autotune.enabled is False


def test_no_files_are_refused():
    from trainer.examples import load_examples

    with pytest.raises(ValueError, match="no example"):
        load_examples([], features.LABEL)


def test_every_batch_says_its_shape_where_it_has_one(tmp_path, images):
    """What XLA compiles has fixed shapes, and the Transform graph forgets the number."""
    import dataclasses

    import tensorflow as tf

    from trainer.input import evaluation_batches, training_batches

    def forgetful(image_bytes):
        pixels = normalise(image_bytes)
        return tf.ensure_shape(pixels[: tf.size(image_bytes)], [None, 32, 32, 3])

    examples = load(tmp_path / "x", images)
    drop = dataclasses.replace(CONFIG, last_batch="drop")
    trained = training_batches(examples, forgetful, drop, first_step=0, steps=9)
    looked_at = evaluation_batches(examples, forgetful, 20)
    for dataset, count in ((trained, 8), (looked_at, 20)):
        shapes = [spec.shape.as_list() for spec in dataset.element_spec]
        assert shapes[:2] == [[count, 32, 32, 3], [count]]


def test_the_last_eval_batch_is_filled_up_with_what_does_not_count(tmp_path, images):
    from trainer.input import evaluation_batches

    examples = load(tmp_path / "x", images)
    found = [
        (x.numpy(), y.numpy(), counted.numpy())
        for x, y, counted in evaluation_batches(examples, normalise, 20)
    ]
    assert [len(x) for x, _, _ in found] == [20, 20, 20]
    x, y, counted = (np.concatenate(column) for column in zip(*found, strict=True))
    assert counted.tolist() == [1.0] * 50 + [0.0] * 10
    np.testing.assert_array_equal(y[:50], examples.labels)
    np.testing.assert_array_equal(x[:50], normalise(examples.images))
