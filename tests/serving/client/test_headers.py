"""What headers say, against Pillow, which reads them independently."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.client import headers
from tests.serving.pictures import encoded, examples, exif, photograph

PIXELS = photograph(32, 32)


def test_files_say_size_and_whether_decoders_agree_on_them():
    """Plain is what TensorFlow's decoder gives as the rule for pictures does."""
    plain = {"png", "jpeg turned 1", "png turned 1", "grey jpeg", "colour profile"}
    sizes = {
        "very wide",
        "very high",
        "small",
        "one pixel",
        "a row",
        "of 32 x 33",
        "large",
    }
    for name, picture in examples().items():
        header = headers.read(picture.content)
        with Image.open(io.BytesIO(picture.content)) as image:
            if image.format not in ("PNG", "JPEG", "MPO"):
                assert header is None
                continue
            assert (header.width, header.height) == image.size, name
        assert header.plain == (name in plain | sizes), name


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"quality": 1},
        {"exif": b"Exif\0\0" + bytes(5000)},
        {"comment": b"\xff\xc0" * 100, "restart_marker_blocks": 2},
        {"subsampling": 2, "optimize": True},
    ],
)
@pytest.mark.parametrize("shape", [(32, 32, 3), (17, 300, 3), (300, 17)])
def test_jpeg_headers_say_the_size(options, shape):
    array = np.zeros(shape, np.uint8)
    found = headers.read(encoded(array, "jpeg", **options))
    assert (found.width, found.height) == (shape[1], shape[0])


@given(
    content=st.binary(max_size=300), begin=st.sampled_from([b"\xff\xd8\xff", b"\x89P"])
)
@settings(max_examples=200, deadline=None)
def test_no_header_is_too_broken(content, begin):
    found = headers.read(begin + content)
    assert found is None or max(found.width, found.height) < 2**32


@given(kind=st.sampled_from(["jpeg", "png"]), share=st.floats(0, 0.999))
@settings(max_examples=100, deadline=None)
def test_half_files_give_the_size_or_nothing(kind, share):
    content = encoded(PIXELS, kind)
    assert headers.read(content).plain
    found = headers.read(content[: int(share * len(content))])
    assert found is None or (found.width, found.height) == (32, 32)
    assert found is None or not found.plain


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_exif_turns_nothing_or_somehow(data):
    whole = exif(data.draw(st.integers(0, 20)))
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytes([data.draw(st.integers(0, 255))])
    damaged = whole[:place] + changed + whole[place + 1 :]
    for content in (damaged, whole[:place]):
        assert 1 <= headers.orientation(content) <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_read_as_pillow_reads_it(orientation, order):
    found = Image.Exif()
    found.endian = order
    found[0x010F] = "a maker of cameras"
    found[0x0112] = orientation
    assert headers.orientation(found.tobytes()) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    assert headers.orientation(exif(orientation)) == 1
