"""Crops of pictures against NumPy and Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from contract.crops import framed
from tests.serving.pictures import encoded, photograph

pytestmark = pytest.mark.tf

SIZES = [(16, 16), (73, 90), (300, 201), (40, 500), (333, 500)]  # height, width
FORMS = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {"quality": 90}),
    "progressive": ("JPEG", {"quality": 60, "progressive": True}),
    "all colours": ("JPEG", {"quality": 95, "subsampling": 0}),
}


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    found = []
    for number, (height, width) in enumerate(SIZES):
        image = photograph(height, width, number)
        noise = np.random.default_rng(number).integers(0, 256, image.shape, np.uint8)
        for kind, options in FORMS.values():
            found += [encoded(each, kind, **options) for each in (image, noise)]
        found += [encoded(image[..., 0], kind) for kind in ("PNG", "JPEG")]
    return found


def scaled(content: bytes, side: int) -> Image.Image:
    """The picture, with that shorter side, as Pillow has it."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    size = [round(side * length / min(picture.size)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BILINEAR)


def test_the_shorter_side_is_told_by_the_header(files):
    import tensorflow as tf

    from trainer import crops

    found = crops.shorter_sides(tf.constant(files)).numpy()
    assert found.tolist() == [min(Image.open(io.BytesIO(f)).size) for f in files]


@pytest.mark.parametrize("crop", [32, 64, 224])
def test_the_middle_is_pillows_within_1_of_255(files, crop):
    import tensorflow as tf

    from trainer import crops

    found = crops.center(tf.constant(files), crop).numpy().astype(int)
    assert found.shape == (len(files), crop, crop, 3)
    for content, image in zip(files, found, strict=True):
        picture = scaled(content, round(256 * crop / 224))
        left, top = ((length - crop) // 2 for length in picture.size)
        wanted = picture.crop((left, top, left + crop, top + crop))
        assert np.abs(image - np.asarray(wanted, int)).max() <= 1


@pytest.mark.parametrize("crop", [32, 224])
def test_a_random_square_is_pillows_of_that_size_and_place(files, crop):
    import tensorflow as tf

    from trainer import crops

    chances = np.random.default_rng(0).random((len(files), 4), np.float32)
    chances[0], chances[1] = 0, np.nextafter(np.float32(1), np.float32(0))
    given = tf.constant(files), tf.constant(chances), crop
    found = crops.random(*given, flip=True).numpy()
    low, high = round(256 * crop / 224), round(480 * crop / 224)
    sides = set()
    for content, chance, image in zip(files, chances, found, strict=True):
        side = low + int(chance[0] * (high - low + 1))
        sides.add(side)
        picture = scaled(content, side)
        top, left = (
            int(share * np.float32(length - crop + 1))
            for share, length in zip(chance[1:3], picture.size[::-1], strict=True)
        )
        wanted = np.asarray(picture.crop((left, top, left + crop, top + crop)), float)
        wanted = wanted[:, ::-1] if chance[3] < 0.5 else wanted
        assert np.abs(np.floor(image + 0.5) - wanted).max() <= 1
    assert {low, high} <= sides
    plain = crops.random(*given, flip=False).numpy()
    mirrored = chances[:, 3] < 0.5
    assert (plain[mirrored] == found[mirrored][:, :, ::-1]).all()
    assert (plain[~mirrored] == found[~mirrored]).all() and 0 < mirrored.mean() < 1


@pytest.mark.parametrize("crop", [8, 64, 104, 224])
def test_of_a_framed_picture_every_pixel_stays(crop):
    import tensorflow as tf

    from trainer import crops

    image = np.random.default_rng(0).integers(0, 256, (crop, crop, 3), np.uint8)
    file = encoded(framed(image[None])[0], "PNG")
    assert (crops.center(tf.constant([file]), crop).numpy()[0] == image).all()


@pytest.mark.parametrize("crop", [32, 224])
def test_ten_squares_of_each_size_are_pillows(files, crop):
    import tensorflow as tf

    from trainer import crops

    sides = (224, 256, 384)
    some = files[:: 10 if crop == 32 else 30]
    found = crops.several(tf.constant(some), crop, sides).numpy().astype(int)
    assert found.shape == (len(some), 30, crop, crop, 3)
    for content, images in zip(some, found, strict=True):
        wanted = []
        for side in sides:
            picture = scaled(content, round(side * crop / 224))
            right, bottom = (length - crop for length in picture.size)
            for left, top in (
                (0, 0), (right, 0), (0, bottom), (right, bottom),
                (right // 2, bottom // 2),
            ):  # fmt: skip
                cut = np.asarray(
                    picture.crop((left, top, left + crop, top + crop)), int
                )
                wanted += [cut, cut[:, ::-1]]
        assert np.abs(images - wanted).max() <= 1


def test_of_no_picture_there_are_no_crops():
    import tensorflow as tf

    from trainer import crops

    none = tf.constant([], tf.string)
    assert crops.center(none, 16).shape == (0, 16, 16, 3)


def test_tints_spread_as_krizhevsky_has_it():
    """P [L1 a1, L2 a2, L3 a3] of colours from 0 to 1, whose covariance is 0.01 P L^2 P'."""
    import tensorflow as tf

    from trainer import crops

    draw = np.random.default_rng(0)
    colours = draw.normal(size=(1000, 3)) @ draw.normal(size=(3, 3)) * 40
    covariance = np.cov(colours.T)
    values, vectors = np.linalg.eigh(covariance / 255**2)
    wanted = 0.01 * (vectors * values**2) @ vectors.T * 255**2
    normal = tf.constant(draw.normal(size=(200_000, 3)), tf.float32)
    found = crops.tints(tf.constant(covariance, tf.float32), normal, 0.1).numpy()
    assert found.shape == (200_000, 1, 1, 3)
    spread = np.cov(found[:, 0, 0].T)
    assert np.abs(spread - wanted).max() < 0.02 * np.abs(wanted).max()
