"""How large an encoded image is, from its header, before anything decodes it.

A file of some kilobytes can decode to gigabytes. Formats are those that
tf.io.decode_image takes. Sources: PNG specification 11.2.2; ITU-T T.81 annex B; GIF89a;
BITMAPINFOHEADER; RFC 9649 (WebP).
"""

from __future__ import annotations

import struct

UNMEASURABLE = 1 << 62  # beyond any limit


def pixels(data: bytes) -> int:
    """Pixels that a decoder would have to hold, over all frames; 0 if unknown.

    What is no image, or is cut short before its size, counts 0: decoders refuse it.
    """
    try:
        for magic, measure in _FORMATS:
            if data.startswith(magic):
                return measure(data)
    except (struct.error, IndexError):
        pass
    return 0


def _png(data: bytes) -> int:
    width, height = struct.unpack_from(">II", data, 16)
    return width * height


def _jpeg(data: bytes) -> int:
    at = 2
    while True:
        at = data.find(b"\xff", at)  # decoders skip what is between segments
        if at < 0:
            return 0
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue  # no segment follows
        if marker in (0xD9, 0xDA):
            return 0  # the end, or pixels before any size
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            # Without a height it comes later (DNL); then the most it can be.
            return width * (height or 0xFFFF)
        (length,) = struct.unpack_from(">H", data, at)
        at += length


def _gif(data: bytes) -> int:
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    screen = total = width * height
    at = 13 + _color_table(packed)
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:  # extension
            at += 2
        elif data[at] == 0x2C:  # a frame; decoders copy it to a whole screen
            width, height, packed = struct.unpack_from("<HHB", data, at + 5)
            total += max(width * height, screen)
            at += 11 + _color_table(packed)
        else:
            return total
        while data[at]:  # blocks, each with its length first, up to an empty one
            at += data[at] + 1
        at += 1
    return total


def _color_table(packed: int) -> int:
    return 3 * 2 ** ((packed & 7) + 1) if packed & 0x80 else 0


def _bmp(data: bytes) -> int:
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width * height)


def _webp(data: bytes) -> int:
    kind = data[8:16]
    if kind == b"WEBPVP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return width * height
    if kind == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return (width & 0x3FFF) * (height & 0x3FFF)
    return 0


def _jpeg_xl(data: bytes) -> int:
    """Its size is in a bit stream of its own, and frames may follow: not taken at all."""
    del data
    return UNMEASURABLE


_FORMATS = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"GIF8", _gif),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    (b"\xff\x0a", _jpeg_xl),
    (b"\0\0\0\x0cJXL \r\n\x87\n", _jpeg_xl),
)
