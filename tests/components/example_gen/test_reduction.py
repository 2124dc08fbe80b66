"""Smaller and grey images, against fractions and against Pillow."""

from fractions import Fraction

import numpy as np
import PIL.Image
import pytest

from components.example_gen import digits, reduction

PIXELS = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("size", [8, 16])
def test_a_pixel_is_the_rounded_mean_of_its_block(size):
    found = reduction.reduced(PIXELS.reshape(3, -1), (size, size, 3))
    assert found.dtype == np.uint8 and found.shape == (3, size * size * 3)
    block = 32 // size
    for image, small in zip(PIXELS, found.reshape(3, size, size, 3), strict=True):
        for row in range(size):
            for column in range(size):
                part = image[row * block :, column * block :][:block, :block]
                for channel in range(3):
                    total = sum(int(v) for v in part[..., channel].flat)
                    # Python rounds a fraction's half to even.
                    mean = round(Fraction(total, block * block))
                    assert small[row, column, channel] == mean


def test_halves_are_rounded_to_even():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 0, 0] = 2  # 2 / 4 = 0.5
    image[0, 0, 2] = 6  # 6 / 4 = 1.5
    found = reduction.reduced(image.reshape(1, -1), (16, 16, 3)).reshape(16, 16, 3)
    assert found[0, :2, 0].tolist() == [0, 2]


def test_the_published_shape_is_left_alone():
    flat = PIXELS.reshape(3, -1)
    assert (reduction.reduced(flat, (32, 32, 3)) == flat).all()


def test_grey_is_pillows_luminance():
    # Every pair of green with red and blue that rounding could tell apart, and chance.
    values = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).astype(np.uint8)
    for images in (PIXELS[0], values.reshape(52, -1, 3)):
        expected = np.asarray(PIL.Image.fromarray(images).convert("L"))
        assert (reduction.luminance(images)[..., 0] == expected).all()


@pytest.mark.parametrize("size", [8, 16, 32])
def test_small_grey_images_are_pillows_luminance_of_the_small_ones(size):
    flat = PIXELS.reshape(3, -1)
    small = reduction.reduced(flat, (size, size, 3)).reshape(3, size, size, 3)
    grey = reduction.reduced(flat, (size, size, 1)).reshape(3, size, size)
    for colours, found in zip(small, grey, strict=True):
        assert (np.asarray(PIL.Image.fromarray(colours).convert("L")) == found).all()


def test_digits_are_reduced_to_what_scikit_learn_has():
    images, _ = digits.load()
    found = reduction.reduced(digits.pixels(images), (8, 8, 1))
    assert (found.reshape(-1, 8, 8) == images.astype(int) * 255 // 16).all()
