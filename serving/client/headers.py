"""What the header of a PNG or JPEG file says, read with the standard library alone.

In: a file's content. Out: its size, and whether a server may decode it: decoders of
training frameworks know nothing of EXIF orientation and drop transparency.
Sources: PNG (W3C, third edition), JPEG (ITU-T T.81, B.2), Exif 3.0 (4.6.4).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

_MOST_SEGMENTS = 10_000  # of a JPEG file, which has tens; hundreds if progressive
# T.81, table B.1: a marker, but restarts; in a scan's data FF is followed by 0.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
# Markers with a length behind them that is believed. (A scan's is short, and of the
# reserved ones below nobody knows.)
_SEGMENT = {*range(0xC0, 0xFF)} - {*range(0xD0, 0xDB)}
_END, _SCAN = 0xD9, 0xDA
_EXIF = b"Exif\0\0"
_ORIENTATION, _SHORT = 0x0112, 3  # Exif 3.0, 4.6.5.1.6 and 4.6.2
_GREY_OR_RGB = (0, 2)  # PNG, 11.2.1: colour types without palette and alpha


@dataclass(frozen=True)
class Header:
    """What stands in a file before its pixels."""

    width: int
    height: int
    plain: bool  # upright grey or RGB of 8 bits, nothing transparent, not cut short


def read(content: bytes) -> Header | None:
    """The header of a PNG or JPEG file; None for anything else, and for half a header."""
    if content.startswith(PNG):
        return _read_png(content)
    if content.startswith(JPEG):
        return _read_jpeg(content)
    return None


def scans(jpeg: bytes) -> int:
    """Scans of a JPEG file, up to the end of its picture.

    Behind that there may be anything: telephones add a film, and second pictures.

    Returns:
        Their number; `_MOST_SEGMENTS` if there are more segments than that.
    """
    found, place = 0, 2
    for _ in range(_MOST_SEGMENTS):
        marker = _MARKER.search(jpeg, place)  # decoders pass over what is between
        if marker is None or marker[1][0] == _END:
            return found
        found += marker[1][0] == _SCAN
        place = marker.end()
        if marker[1][0] in _SEGMENT:
            place += int.from_bytes(jpeg[place : place + 2], "big")
    return _MOST_SEGMENTS


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in EXIF data; 1, upright, if it cannot be read.

    Args:
        exif: A TIFF structure, with or without "Exif" before it.
    """
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:  # cut short
        pass
    return 1


def _read_png(content: bytes) -> Header | None:
    if content[12:16] != b"IHDR" or len(content) < 26:
        return None
    width, height, bits, colours = struct.unpack_from(">IIBB", content, 16)
    plain, whole = bits == 8 and colours in _GREY_OR_RGB, False
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"tRNS":
            plain = False
        elif kind == b"eXIf":
            plain &= orientation(content[place + 8 : place + 8 + length]) == 1
        elif kind == b"IEND":
            whole = place + 12 <= len(content)
        place += 12 + length
    return Header(width, height, plain and whole)


def _read_jpeg(content: bytes) -> Header | None:
    """Walks the segments before the scan."""
    size, plain = None, True
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if place + 4 > len(content) or content[place] != 0xFF:
            break
        marker = content[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stand alone, without a length
            place += 2
            continue
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        if length < 2 or marker in (_END, _SCAN):
            break
        segment = content[place + 4 : place + 2 + length]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(segment) < 6:
                break
            bits, height, width, components = struct.unpack_from(">BHHB", segment)
            size = (width, height)
            plain &= bits == 8 and components in (1, 3)
        elif marker == 0xE1 and segment.startswith(_EXIF):
            plain &= orientation(segment) == 1
        place += 2 + length
    else:
        return None
    if size is None:
        return None
    whole = content.find(b"\xff\xd9", place) >= 0  # the scan ends; T.81, B.1.1.3
    return Header(*size, plain and whole)
