"""Folders of pictures as people have them."""

import io
import os
import struct
import tarfile
import zlib

import numpy as np
from PIL import Image

from tests.serving import pictures


def picture(seed, size=(40, 30), kind="PNG"):
    """The content of a file with noise in it; one of its own for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


def contents(classes=("cat", "dog"), count=30, top=""):
    """Name -> content of a file, in class folders."""
    return {
        f"{top}{label}/{number}.png": picture(1000 * place + number)
        for place, label in enumerate(classes)
        for number in range(count)
    }


def write(root, files):
    """Writes files, and the folders that they need; a name that ends with / is a folder."""
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not name.endswith("/"):
            with open(path, "wb") as file:
                file.write(content)
    return str(root)


def write_tar(path, files, mode="w"):
    """The same in an archive, as `tar -cf` of a folder makes it."""
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return str(path)


def bomb():
    """A PNG of 30,000 x 30,000 pixels in a few hundred bytes."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 16))
    return (
        b"\x89PNG\r\n\x1a\n"
        + pictures.chunk(b"IHDR", head)
        + pictures.chunk(b"IDAT", body)
        + pictures.chunk(b"IEND", b"")
    )


JPEG = picture(0, (200, 200), "JPEG")
# A file's content -> words of what is wrong with it.
UNREADABLE = {
    "nothing": (b"", "the file is empty"),
    "a text": (b"I am a cat\n", "no PNG, JPEG, WebP, GIF, BMP or TIFF file"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "cut short"),
    "a JPEG's head": (JPEG[:300], "cut short"),
    "half a PNG": (picture(0)[:900], "cut short"),
    "a bomb": (bomb(), "30000 x 30000 pixels are more than"),
    "scans without end": (JPEG[:-2] + b"\xff\xda" * 200 + JPEG[-2:], "scans"),
    "zeros, as of a disk that was full": (bytes(4096), "no PNG, JPEG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no PNG, JPEG"),
}
