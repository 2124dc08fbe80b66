"""Sizes read from headers agree with Pillow, whatever the format."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from serving.server import images


def encode(width: int, height: int, kind: str, mode: str = "RGB", **options) -> bytes:
    pixels = np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height, width, 3), np.uint8
    )
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "RGB", {"comment": b"\xff\xc0 no size here", "quality": 5}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {"quality": 50}),
        ("WEBP", "RGBA", {"quality": 50, "exif": b"Exif\0\0"}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (17, 300)])
def test_pixels_are_width_times_height(kind, mode, options, size):
    data = encode(*size, kind, mode, **options)
    assert Image.open(io.BytesIO(data)).size == size
    assert images.pixels(data) == size[0] * size[1]


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_every_frame_of_a_gif_counts(frames: int):
    pictures = [Image.new("RGB", (40, 30), (40 * i, 0, 0)) for i in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    assert Image.open(io.BytesIO(file.getvalue())).n_frames == frames
    assert images.pixels(file.getvalue()) == 40 * 30 * (frames + 1)


def test_a_bomb_is_seen_from_its_first_bytes():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )
    assert images.pixels(data) == 3_600_000_000


@given(st.binary(max_size=64))
def test_other_bytes_count_nothing(data: bytes):
    assume(not data.startswith(b"\0\0\x0cJXL "))
    assert images.pixels(b"\0" + data) == 0


@given(
    st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF....WEBPVP8X"]
    ),
    st.binary(max_size=200),
)
def test_garbage_behind_a_magic_number_ends_with_a_number(magic: bytes, data: bytes):
    assert images.pixels(magic + data) >= 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_files_cut_anywhere_end_with_a_number(kind: str):
    data = encode(20, 10, kind)
    for length in range(len(data)):
        assert images.pixels(data[:length]) in (0, 200, 400)


@pytest.mark.parametrize("magic", [b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_jpeg_xl_is_beyond_every_limit(magic: bytes):
    assert images.pixels(magic + bytes(20)) == images.UNMEASURABLE
