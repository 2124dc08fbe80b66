"""Whatever holds an image becomes pixels or a file, or one clear sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract import features
from serving.client import images as module
from serving.client.answers import OUTPUTS
from serving.client.errors import InvalidInput
from serving.server.rest import MOST_BODY_BYTES
from serving.server.tensors import Limits
from tests.serving.client.official import random_images, write_png
from tests.serving.pictures import encoded, exif, photograph, shrunk

PIXELS = random_images(1)[0]
SHAPE = (32, 32, 3)
GREY = (32, 32, 1)


def test_names_are_those_of_the_exported_model():
    assert module.SIGNATURE_IMAGES == features.SIGNATURE_IMAGES
    assert module.SIGNATURE_ENCODED == features.SIGNATURE_ENCODED
    assert module.SIGNATURE_ANY_SIZE == features.SIGNATURE_ANY_SIZE
    assert OUTPUTS == (
        features.PROBABILITIES,
        features.PREDICTED_LABEL,
        features.CLASS_NAME,
    )


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        np.asfortranarray(PIXELS),
        Image.fromarray(PIXELS),
        Image.fromarray(PIXELS).convert("RGBA"),  # opaque
    ],
    ids=["array", "fortran", "pillow", "alpha"],
)
def test_pixels_stay_as_they_are(image):
    np.testing.assert_array_equal(module.load(image, SHAPE, resize=False), PIXELS)


GREY_PIXELS = np.asarray(Image.fromarray(PIXELS).convert("L"))[..., None]


@pytest.mark.parametrize(
    "image",
    [
        GREY_PIXELS,
        PIXELS,
        Image.fromarray(PIXELS),
        Image.fromarray(GREY_PIXELS[..., 0]),
        encoded(PIXELS, "bmp"),
    ],
    ids=["grey", "colours", "pillow", "grey pillow", "file"],
)
def test_a_grey_model_gets_pillows_luminance(image):
    np.testing.assert_array_equal(module.load(image, GREY, resize=False), GREY_PIXELS)


def test_a_chunk_in_colours_becomes_grey_as_each_of_its_images():
    colours = random_images(3)
    (request,) = module.prepare(colours, GREY, resize=False).requests
    assert request.signature == "serving_default"
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in colours]
    np.testing.assert_array_equal(request.value[..., 0], expected)


def test_grey_images_are_resized_to_grey():
    for image in (PIXELS, GREY_PIXELS, Image.fromarray(PIXELS), encoded(PIXELS, "png")):
        found = module.load(image, (8, 8, 1), resize=True)
        assert isinstance(found, np.ndarray) and found.shape == (8, 8, 1)
        mean = shrunk(GREY_PIXELS.repeat(3, axis=2), 8)[..., :1]
        assert np.abs(found - mean.round()).max() <= 2
    with pytest.raises(InvalidInput, match=r"\[8, 8, 1\] is needed; resize=True"):
        module.load(GREY_PIXELS, (8, 8, 1), resize=False)
    with pytest.raises(InvalidInput, match=r"\[32, 32, 3\] is needed$"):
        module.load(GREY_PIXELS, SHAPE, resize=True)


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3)])
def test_a_blank_picture_is_of_the_models_size(shape):
    with Image.open(io.BytesIO(module.blank(shape))) as picture:
        assert picture.size == shape[1::-1]
        assert not np.asarray(picture).any()


def test_array_likes_are_taken():
    class Tensor:
        shape = (32, 32, 3)

        def __array__(self, dtype=None, copy=None):
            return PIXELS

    np.testing.assert_array_equal(module.load(Tensor(), SHAPE, resize=False), PIXELS)


def test_grey_and_palette_pictures_become_rgb():
    grey = Image.fromarray(PIXELS).convert("L")
    found = module.load(grey, SHAPE, resize=False)
    np.testing.assert_array_equal(found, np.asarray(grey)[..., None].repeat(3, axis=2))
    palette = Image.fromarray(PIXELS).quantize(16)
    found = module.load(palette, SHAPE, resize=False)
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_files_of_the_right_size_travel_as_they_are(tmp_path: Path, kind: str):
    content = encoded(PIXELS, kind)
    path = tmp_path / "image"
    path.write_bytes(content)
    for given_as in (path, str(path), content, bytearray(content), memoryview(content)):
        assert module.load(given_as, SHAPE, resize=False) == content


WRONG_SIZE = (
    r"has 7 x 9 pixels, the model takes 32 x 32; --resize \(in Python resize=True"
)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((32, 32, 3), np.float32), "dtype float32; uint8"),
        (np.zeros((28, 28, 3), np.uint8), "resize=True"),
        (np.zeros((32, 32, 4), np.uint8), r"\[32, 32, 4\]; \[32, 32, 3\] is needed$"),
        (np.zeros((32, 32, 3), "S3"), "no image"),
        (b"", "empty"),
        (PIXELS.tobytes(), "frombuffer"),
        (encoded(np.zeros((9, 7, 3), np.uint8), "png"), WRONG_SIZE),
        (encoded(np.zeros((9, 7, 3), np.uint8), "webp"), WRONG_SIZE),
        (Image.new("RGB", (7, 9)), WRONG_SIZE),
        (Image.new("F", (32, 32)), "mode F"),
        ("/nowhere/cat.png", "/nowhere/cat.png: No such file"),
        ("a\0b", "null"),
        (os.devnull, "no regular file"),
        ("/", "a folder"),
        (None, "no image|shape"),
        (3.5, "shape"),
        ({"a": 1}, "no image|shape"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(image, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        module.load(image, SHAPE, resize=False)
    assert "\n" not in str(caught.value)


def test_objects_that_fail_to_convert_are_refused():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("on another device")

    with pytest.raises(InvalidInput, match="on another device"):
        module.load(Broken(), SHAPE, resize=False)


def test_resizing_takes_other_sizes_and_formats(tmp_path: Path):
    large = PIXELS.repeat(3, axis=0).repeat(3, axis=1)
    for image in (
        large,
        Image.fromarray(large),
        encoded(large, "png"),
        encoded(large, "bmp"),
        encoded(large, "webp", lossless=True),
        write_png(tmp_path / "large.png", large),
    ):
        found = module.load(image, SHAPE, resize=True)
        assert np.abs(found - shrunk(large, 32).round()).max() <= 1
    small = module.load(PIXELS[:8, :8], SHAPE, resize=True)
    assert isinstance(small, np.ndarray) and small.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {"transparency": 3}),
        ("png", {"exif": exif(6)}),
        ("jpeg", {"exif": exif(3)}),
        ("webp", {"lossless": True}),
    ],
)
def test_files_that_decoders_read_differently_are_sent_as_pixels(kind, options):
    """tf.io.decode_image drops alpha, turns nothing, knows no WebP; the rule decides."""
    image = Image.fromarray(PIXELS)
    if "transparency" in options:
        image = image.quantize(16)
    found = module.load(encoded(image, kind, **options), SHAPE, resize=False)
    assert isinstance(found, np.ndarray) and found.shape == (32, 32, 3)


def test_without_pillow_resizing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(InvalidInput, match="pip install pillow"):
        module.load(PIXELS[:8], SHAPE, resize=True)


def test_mixed_chunks_keep_places_and_errors(tmp_path: Path):
    path = write_png(tmp_path / "a.png", PIXELS)
    mixed = [
        PIXELS,
        path,
        "missing.png",
        b"",
        Image.fromarray(PIXELS),
        path.read_bytes(),
    ]
    (chunk,) = module.chunks(mixed, 10)
    prepared = module.prepare(chunk, SHAPE, resize=False)
    assert prepared.size == 6
    assert set(prepared.errors) == {2, 3}
    found = {request.signature: request for request in prepared.requests}
    assert found["serving_default"].places == (0, 4)
    assert found["serving_default"].value.shape == (2, 32, 32, 3)
    assert found["encoded_images"].places == (1, 5)
    assert found["encoded_images"].value.tolist() == [path.read_bytes()] * 2


def test_photographs_travel_a_few_at_a_time():
    """A camera's are beyond what a server takes at once, the embedded one by default."""
    large, small, largest = (
        encoded(Image.new("L", size), "PNG")
        for size in ((4000, 3000), (300, 200), (8000, 7000))
    )
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    heavy = encoded(noise, "PNG", compress_level=0)  # 10 MB
    chunk = [large, small, large, largest, *[small] * 100, *[large] * 9, *[heavy] * 7]
    prepared = module.prepare(chunk, module.Crop(*SHAPE), resize=False)
    places = [place for request in prepared.requests for place in request.places]
    assert places == [*range(len(chunk))] and not prepared.errors
    for request in prepared.requests:
        assert request.signature == "encoded_images"
        assert request.value.tolist() == [chunk[place] for place in request.places]
        sizes = [Image.open(io.BytesIO(file)).size for file in request.value]
        assert sum(width * height for width, height in sizes) <= Limits().image_pixels
        assert sum(map(len, request.value)) * 4 / 3 < MOST_BODY_BYTES  # base64
    assert len(prepared.requests) < 12 and len(prepared.requests[2].places) > 100


def test_arrays_are_cut_without_copies():
    array = random_images(10)
    pieces = list(module.chunks(array, 4))
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert all(np.shares_memory(piece, array) for piece in pieces)
    request = module.prepare(pieces[0], SHAPE, resize=False).requests[0]
    assert np.shares_memory(request.value, array)


def test_iterables_are_read_as_needed():
    read = []

    def source():
        for index in range(100):
            read.append(index)
            yield PIXELS

    pieces = module.chunks(source(), 8)
    assert not read
    next(pieces)
    assert len(read) == 8


@pytest.mark.parametrize("images", [[], np.zeros((0, 32, 32, 3), np.uint8), iter(())])
def test_nothing_gives_nothing(images):
    assert list(module.chunks(images, 4)) == []


@pytest.mark.parametrize("shape", [(32, 32), (1, 2, 32, 32, 3), ()])
def test_arrays_of_other_ranks_are_refused(shape):
    with pytest.raises(InvalidInput, match=r"\[n, height, width, channels\]"):
        list(module.chunks(np.zeros(shape, np.uint8), 4))


def test_many_or_one():
    assert module.is_many([PIXELS]) and module.is_many(PIXELS[None])
    assert module.is_many(iter([PIXELS]))
    for one in (PIXELS, "a.png", Path("a.png"), b"x", Image.fromarray(PIXELS)):
        assert not module.is_many(one)


def test_to_a_model_that_cuts_pictures_itself_whole_ones_are_sent(tmp_path):
    """Plain files as they are, all else as PNG in its own size; crops as pixels."""
    crop, picture = module.Crop(*SHAPE), photograph(50, 70)
    plain = encoded(picture, "JPEG")
    (tmp_path / "a.jpg").write_bytes(plain)
    turned = encoded(picture, "PNG", exif=exif(6))
    grey = Image.fromarray(picture).convert("L")
    wanted = {
        "plain": (plain, plain),
        "path": (tmp_path / "a.jpg", plain),
        "turned": (turned, np.rot90(picture, -1)),
        "array": (picture, picture),
        "pillow": (grey, np.dstack([np.asarray(grey)] * 3)),
    }
    for image, sent in wanted.values():
        found = module.load(image, crop, resize=False)
        assert isinstance(found, bytes)
        if isinstance(sent, bytes):
            assert found == sent
        else:
            np.testing.assert_array_equal(Image.open(io.BytesIO(found)), sent)
    np.testing.assert_array_equal(module.load(PIXELS, crop, resize=False), PIXELS)
    for wrong in (picture.astype(np.float32), plain[:100], tmp_path / "none.jpg"):
        with pytest.raises(InvalidInput):
            module.load(wrong, crop, resize=True)
