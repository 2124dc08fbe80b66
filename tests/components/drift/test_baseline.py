"""The training images that a baseline is made of."""

import numpy as np
import pytest

from components.drift import baseline
from contract.datasets import Dataset

pytestmark = pytest.mark.tf


def test_of_large_pictures_fewer_are_measured_and_all_are_counted(
    tmp_path, monkeypatch
):
    import tensorflow as tf

    from trainer.examples import example_of

    split = tmp_path / "Split-train"
    split.mkdir()
    pictures, height, width = 250, 20, 30
    with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001")) as file:
        for number in range(pictures):
            pixels = np.full((height, width, 3), number % 256, np.uint8)
            example = example_of(tf.io.encode_png(pixels).numpy())
            feature = example.features.feature
            feature["label"].int64_list.value.append(number % 2)
            feature["example_id"].bytes_list.value.append(b"%d" % number)
            file.write(example.SerializeToString())
    dataset = Dataset(
        name="folder",
        title="Grey squares",
        image_shape=(None, None, 3),
        labels={"label": ("even", "odd")},
        crop=16,
    )
    numbers, counts = baseline.of_examples(str(tmp_path), dataset)
    assert numbers["size"].count == pictures
    monkeypatch.setattr(baseline, "_MOST_PIXELS", 120 * height * width)
    numbers, counts = baseline.of_examples(str(tmp_path), dataset)
    # Looked at after each hundred.
    assert {each.count for each in numbers.values()} == {200}
    assert counts.tolist() == [pictures / 2, pictures / 2]
