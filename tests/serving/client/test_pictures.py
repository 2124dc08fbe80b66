"""The rule for pictures: against pixels known from how a file was made, and numpy."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from serving.client import images, pictures
from serving.client.errors import InvalidInput
from tests.serving.pictures import (
    chunk,
    encoded,
    examples,
    exif,
    on_white,
    photograph,
    png_16,
    shrunk,
)

EXAMPLES = examples()
SHAPE = (32, 32, 3)


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_picture_becomes_an_upright_one_on_white(name):
    example = EXAMPLES[name]
    found = pictures.upright(example.content)
    assert found.mode == "RGB"
    assert found.size == example.rgb.shape[1::-1]
    assert np.abs(np.asarray(found).astype(int) - example.rgb).max() <= 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_middle_square_is_made_small_as_the_rule_says(name):
    example = EXAMPLES[name]
    found = images.load(example.content, SHAPE, resize=True)
    assert found.dtype == np.uint8
    assert np.abs(found - shrunk(example.rgb, 32).round()).max() <= 1


@pytest.mark.tf
@pytest.mark.parametrize("side", [500, 33, 20])
def test_squares_are_resized_as_tensorflow_does(side):
    import tensorflow as tf

    picture = photograph(side, side)
    expected = tf.image.resize(picture, [32, 32], antialias=True).numpy()
    found = images.load(picture, SHAPE, resize=True)
    assert np.abs(found - expected).max() <= 1


@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_size_follows_the_rule(height, width, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = images.load(picture, SHAPE, resize=True)
    expected = shrunk(picture, 32) if (height, width) != (32, 32) else picture
    assert np.abs(found - expected.round()).max() <= 1


def test_a_path_bytes_and_an_open_picture_are_the_same(tmp_path):
    content, path = EXAMPLES["jpeg turned 6"].content, tmp_path / "photo.jpg"
    path.write_bytes(content)
    with Image.open(path) as opened:
        found = [pictures.upright(p) for p in (path, str(path), content, opened)]
        found.append(pictures.upright(memoryview(content)))
    assert all(picture == found[0] for picture in found)


def test_a_picture_turned_by_its_owner_is_not_turned_again():
    from PIL import ImageOps

    with Image.open(io.BytesIO(EXAMPLES["jpeg turned 6"].content)) as opened:
        turned = ImageOps.exif_transpose(opened)
    np.testing.assert_array_equal(pictures.upright(turned), np.asarray(turned))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_upright_stays_so(name):
    """Given to `upright`, to a client or to ImageOps, or saved, it is what it was."""
    made = pictures.upright(EXAMPLES[name].content)
    for again in (pictures.upright(made), ImageOps.exif_transpose(made)):
        assert np.array_equal(np.asarray(again), np.asarray(made))
    for kind in ("PNG", "TIFF"):
        with Image.open(io.BytesIO(encoded(made, kind))) as saved:
            assert np.array_equal(np.asarray(pictures.upright(saved)), made)


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "PA"])
def test_open_pictures_of_all_kinds_of_alpha_lie_on_white(mode):
    rgba = np.dstack(
        [np.full((4, 4, 3), 100, np.uint8), np.full((4, 4), 128, np.uint8)]
    )
    picture = Image.fromarray(rgba)
    for step in {"La": ["LA", "La"], "PA": ["P", "PA"]}.get(mode, [mode]):
        picture = picture.convert(step)
    if mode == "PA":
        picture.putalpha(128)
    found = np.asarray(pictures.upright(picture)).astype(int)
    assert np.abs(found - on_white(rgba)).max() <= 2  # premultiplied values are rounded


def test_what_nobody_sees_changes_nothing():
    """Colours under full transparency; the file travels as pixels, even at 32 x 32."""
    found = []
    for hidden in (0, 90, 255):
        rgba = np.full((32, 32, 4), hidden, np.uint8)
        rgba[..., 3] = 0
        rgba[8, 9] = (200, 60, 30, 255)
        found.append(images.load(encoded(rgba, "PNG"), SHAPE, resize=False))
    expected = np.full((32, 32, 3), 255, np.uint8)
    expected[8, 9] = (200, 60, 30)
    for pixels in found:
        np.testing.assert_array_equal(pixels, expected)


def test_a_transparent_colour_of_16_bits():
    key = (25601, 25602, 25603)
    values = np.zeros((3, 3, 3), np.uint16)
    values[1, 1] = key
    content = png_16(values)
    extra = chunk(b"tRNS", struct.pack(">HHH", *key))
    content = content[:33] + extra + content[33:]  # behind IHDR
    expected = np.zeros((3, 3, 3), np.uint8)
    expected[1, 1] = 255
    np.testing.assert_array_equal(pictures.upright(content), expected)


@pytest.mark.parametrize("damaged", [b"MM\0*" + b"\xff" * 40, b"garbage!"])
def test_damaged_exif_refuses_no_picture(damaged):
    """Pillow's own ImageOps.exif_transpose raises for the second."""
    photo = photograph(40, 50)
    content = encoded(photo, "PNG", exif=b"Exif\0\0" + damaged)
    np.testing.assert_array_equal(pictures.upright(content), photo)


# What is refused.


def _huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def _huge_gif() -> bytes:
    screen = struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
    frame = struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0)
    return b"GIF89a" + screen + b"," + frame + b"\x08\x02\x44\x01\x00;"


def _huge_bmp(side: int) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "content",
    [_huge_png(), _huge_gif(), _huge_bmp(10_000), _huge_bmp(30_000)],
    ids=["png", "gif", "bmp", "larger bmp"],
)
def test_bombs_are_refused_before_decoding(content):
    import tracemalloc

    tracemalloc.start()
    with warnings.catch_warnings(), pytest.raises(InvalidInput, match="89,000,000"):
        warnings.simplefilter("ignore")
        pictures.upright(content)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def _scanned(scans: int) -> bytes:
    """A progressive JPEG of a megapixel whose last scan comes again and again."""
    buffer = io.BytesIO()
    Image.new("L", (1000, 1000), 128).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + b"\xff\xd9"


JPEG_SIZE = b"\xff\xc0\0\x0b\x08\0\x20\0\x20\x01\x01\x11\0"


@pytest.mark.parametrize(
    "content",
    [
        _scanned(100_000),
        b"\xff\xd8\xff" + b"\xff" * (20 << 20),
        b"\xff\xd8" + JPEG_SIZE + b"\xff\xe0\0\x02" * (5 << 20),
    ],
    ids=["scans", "fill bytes", "segments"],
)
def test_a_small_jpeg_does_not_take_hours(content):
    began = time.process_time()
    with pytest.raises(InvalidInput, match="the JPEG file"):
        pictures.upright(content)
    assert time.process_time() - began < 2  # Pillow: 100 s, 10 s, 10 s


def test_as_many_scans_as_encoders_make_are_read():
    assert pictures.upright(_scanned(50)).size == (1000, 1000)


@pytest.mark.parametrize("progressive", [False, True])
def test_what_telephones_add_behind_a_jpeg_is_no_part_of_it(progressive):
    """A film of some seconds: in 12 MB of it, the two bytes of a scan stand by chance."""
    alone = encoded(photograph(90, 120), "JPEG", progressive=progressive)
    film = np.random.default_rng(0).bytes(12 << 20)
    assert film.count(b"\xff\xda") > 100
    assert pictures.encoded(alone + film) == alone + film
    shown, wanted = (pictures.upright(file) for file in (alone + film, alone))
    assert np.array_equal(shown, wanted)


def test_files_that_stay_as_they_are_need_no_pillow(monkeypatch):
    """Nor does its limit on texts count, which editors' histories exceed."""
    photo = photograph(90, 120)
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2 << 20))
    head, *rest = encoded(photo, "PNG").partition(b"\0\0\0\x0dIHDR")
    end = 4 + 4 + 13 + 4
    whole = b"".join(rest)
    told = head + whole[:end] + chunk(b"iTXt", text) + whole[end:]
    with pytest.raises(InvalidInput):
        pictures.upright(told)
    turned = encoded(photo, "JPEG", exif=exif(6))
    plain = [encoded(photo, "JPEG"), encoded(photo, "PNG"), told]
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert [pictures.encoded(content) for content in plain] == plain
    with pytest.raises(InvalidInput, match="pip install pillow"):
        pictures.encoded(turned)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_half_files_are_named_as_such(kind, share):
    content = encoded(photograph(120, 160), kind)
    cut = content[: max(13, int(share * len(content)))]
    with pytest.raises(InvalidInput) as caught:
        pictures.upright(cut, name="a.png")
    said = str(caught.value)
    assert said.startswith("a.png: the ") and "cut short" in said, said
    assert "0x" not in said and "\n" not in said


def test_files_of_other_formats_are_not_opened():
    """EPS is opened by Ghostscript, a program that runs programs."""
    for content in (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypheic" + bytes(40),
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        encoded(photograph(9, 9), "PPM"),
    ):
        with pytest.raises(InvalidInput, match="^no PNG, JPEG, WebP, GIF, BMP or TIFF"):
            pictures.upright(content)


@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), data=st.data()
)
@settings(max_examples=60, deadline=None)
def test_damaged_files_give_a_picture_or_one_sentence(kind, data):
    content = bytearray(encoded(photograph(40, 30), kind, exif=exif(6)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert pictures.upright(content).mode == "RGB"
        except InvalidInput as error:
            assert "\n" not in str(error)


def test_modes_without_colours_are_refused():
    for mode in ("F", "I", "LAB"):
        with pytest.raises(InvalidInput, match=f"mode {mode} has no colours"):
            pictures.upright(Image.new(mode, (3, 3)))
