"""Image numbers against plain float64 formulas, histograms against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.drift.image_statistics import BINS, NUMBERS, measure

IMAGES = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.just(3)),
)


@settings(max_examples=200, deadline=None)
@given(images=IMAGES)
def test_numbers_are_what_their_names_say(images):
    found = measure(images)
    exact = images.astype(np.float64) / 255
    every = (1, 2, 3)
    steps = [np.abs(np.diff(exact, axis=axis)) for axis in (1, 2)]
    down, right = (each.mean(every) if each.size else 0 for each in steps)
    expected = {
        "brightness": exact.mean(every),
        "contrast": exact.std(every),
        "red": exact[..., 0].mean((1, 2)),
        "green": exact[..., 1].mean((1, 2)),
        "blue": exact[..., 2].mean((1, 2)),
        "sharpness": (down + right) / 2,
    }
    assert list(found) == list(NUMBERS)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
        assert ((found[name] >= 0) & (found[name] <= 1 + 1e-6)).all()


def test_grey_images_have_the_numbers_of_equal_channels():
    grey = np.random.default_rng(5).integers(0, 256, (20, 8, 8, 1), np.uint8)
    found, coloured = measure(grey), measure(grey.repeat(3, axis=3))
    assert list(found) == ["brightness", "contrast", "sharpness"]
    for name, values in found.items():
        np.testing.assert_allclose(values, coloured[name], atol=1e-6)


@pytest.mark.parametrize("shape", [(1200, 1600), (1, 60_000), (60_000, 1)])
def test_photographs_are_measured_as_small_images_are(shape):
    """Sums of millions of pixels: float32 has 24 bits."""
    image = np.full((1, *shape, 3), 100, np.uint8)
    image[..., 1] = 90
    found = measure(image)
    for name, value in (("brightness", 290 / 3), ("red", 100), ("green", 90)):
        np.testing.assert_allclose(found[name], [value / 255], rtol=1e-6)
    deviation = np.std([100, 90, 100]) / 255
    np.testing.assert_allclose(found["contrast"], [deviation], rtol=1e-4)
    assert found["sharpness"] == 0


def test_a_photograph_is_measured_in_parts_as_a_whole():
    image = np.random.default_rng(8).integers(0, 256, (1301, 1000, 3), np.uint8)
    found = measure(image[None])
    values = image.astype(np.float64) / 255
    steps = (
        np.abs(np.diff(values, axis=0)).mean(),
        np.abs(np.diff(values, axis=1)).mean(),
    )
    expected = {
        "brightness": values.mean(),
        "contrast": values.std(),
        "green": values[..., 1].mean(),
        "sharpness": sum(steps) / 2,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=1e-6)


def test_many_images_are_measured_as_each_alone():
    images = np.random.default_rng(7).integers(0, 256, (2500, 4, 4, 3), np.uint8)
    together = measure(images)
    for index in (0, 1023, 1024, 2047, 2048, 2499):
        alone = measure(images[index : index + 1])
        for name in NUMBERS:
            np.testing.assert_allclose(together[name][index], alone[name], rtol=1e-6)


def test_no_images_have_no_numbers():
    empty = measure(np.zeros((0, 32, 32, 3), np.uint8))
    assert {name: values.shape for name, values in empty.items()} == dict.fromkeys(
        NUMBERS, (0,)
    )


@pytest.mark.tf
def test_histograms_have_equal_bins_and_count_everything():
    from components.drift.image_statistics import statistics

    dice = np.random.default_rng(3)
    columns = {name: dice.random(500).astype(np.float32) for name in NUMBERS}
    classes = np.array(["cat", "dog"], object)[dice.integers(0, 2, 500)]
    (dataset,) = statistics(columns | {"label": classes}).datasets
    assert dataset.num_examples == 500
    by_name = {feature.path.step[0]: feature for feature in dataset.features}
    for name, end in NUMBERS.items():
        (standard,) = (h for h in by_name[name].num_stats.histograms if h.type == 0)
        width = end / BINS
        expected = [0] * BINS
        for value in columns[name].tolist():
            expected[min(int(value / width), BINS - 1)] += 1
        assert [bucket.sample_count for bucket in standard.buckets] == expected
        assert standard.buckets[0].low_value == 0
        assert standard.buckets[-1].high_value == end
    shares = {
        bucket.label: bucket.sample_count
        for bucket in by_name["label"].string_stats.rank_histogram.buckets
    }
    assert shares == {name: int((classes == name).sum()) for name in ("cat", "dog")}
