"""Arrays that another program wrote, read as if it meant harm.

In: an open .npz file and the bytes that its arrays may have. Out: plain arrays, or one
sentence that says why not. What NumPy and zipfile do with damage is ten kinds of
exceptions, and with a few bytes that claim terabytes it is worse. Formats: APPNOTE.TXT
6.3.10 (zip), numpy.lib.format.
"""

from __future__ import annotations

import math
import sys
import zipfile
from typing import IO

import numpy as np

from contract import paths, stored

_KINDS = "biufSU"  # of numpy.dtype: numbers and text; no objects, dates, records
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# The others are unpacked without a bound on what comes out (zipfile.ZipExtFile._read1).
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LONGEST_NAME = 200  # characters that are shown


def read(file: IO[bytes], most_bytes: int) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, by name; read-only.

    Args:
        file: Opened, with seek.
        most_bytes: That all arrays together may have, unpacked.

    Raises:
        stored.Unreadable: It is no such file, is damaged, or claims what it does not hold.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            # What is read of a member ends with this size, whatever it unpacks to.
            size = sum(member.file_size for member in members)
            if size > most_bytes:
                raise stored.Unreadable(
                    f"its arrays have {size:,} bytes, more than {most_bytes:,}"
                )
            return {
                member.filename.removesuffix(".npy"): _array(archive, member)
                for member in members
            }
    except stored.Unreadable:
        raise
    except Exception as error:  # zipfile's, zlib's, NumPy's, ast's, tokenize's
        raise stored.Unreadable(stored.reason(error)) from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = paths.shown(member.filename[:_LONGEST_NAME])
    if member.compress_type not in _BOUNDED:
        raise stored.Unreadable(f"{name} is compressed by another method than deflate")
    with archive.open(member) as content:
        read_header = _HEADERS.get(np.lib.format.read_magic(content))
        if read_header is None:
            raise stored.Unreadable(
                f"{name} is of an unknown version of NumPy's format"
            )
        shape, by_columns, dtype = read_header(content)
        if dtype.kind not in _KINDS or not dtype.itemsize:
            raise stored.Unreadable(f"{name} holds {dtype}, no numbers or text")
        # NumPy makes the array before it reads: here nothing is believed that is not there.
        left = member.file_size - content.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != left:
            raise stored.Unreadable(
                f"{name} claims another shape than its {left:,} bytes have"
            )
        found = np.frombuffer(content.read(), dtype)
    if dtype.kind == "U":
        codes = found.view(np.dtype("u4").newbyteorder(dtype.byteorder))
        # UTF-16's halves are no characters: nobody could write them down again.
        if ((codes > sys.maxunicode) | (codes // 0x800 == 0x1B)).any():
            raise stored.Unreadable(f"{name} holds text that is not Unicode")
    return found.reshape(shape, order="F" if by_columns else "C")
