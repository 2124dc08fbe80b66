"""Any picture as an upright RGB one, and at a network's size: the rule for pictures.

In: a file, its content, a Pillow image, an array. Out: a Pillow image. docs/clients.md has the
rule in words; page.html of the server follows it, too. Only this module needs Pillow,
and loads it when it is called.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from serving.client import headers
from serving.client.errors import InvalidInput

if TYPE_CHECKING:
    from PIL import Image

MOST_FILE_BYTES = 64 << 20
# Checked in the header, before anything is decoded. Below the number at which Pillow
# warns (Image.MAX_IMAGE_PIXELS).
MOST_PIXELS = 89_000_000
# Of a JPEG file. Each goes over all pixels, also one of 30 bytes, so that a small file
# could be decoded for days; progressive files have about ten.
MOST_SCANS = 100

# Pillow's names of what is opened. Never more: EPS would start Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
FORMATS = "PNG, JPEG, WebP, GIF, BMP or TIFF"  # for people
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_SIGNATURES = {
    headers.PNG: "PNG",
    headers.JPEG: "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_MODES_OF_8_BITS = (
    "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr",
    "HSV",
)  # fmt: skip
_MODES_OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N")  # all grey
# Pillow's transpositions that undo EXIF's orientations (as ImageOps.exif_transpose does,
# which fails on damaged EXIF).
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def upright(picture: Any, *, name: str = "") -> Image.Image:
    """Makes an upright RGB picture of anything that holds one, as a viewer shows it.

    The first frame; turned as its EXIF orientation says; what is transparent, on white;
    of 16 bits the upper 8. Colour profiles are not applied: decoders of training data do
    not apply them.

    Args:
        picture: Path of a PNG, JPEG, WebP, GIF, BMP or TIFF file; the content of one,
            bytes; a Pillow image; or an array, uint8 [height, width, 3], or grey [height,
            width].
        name: To stand before the message of an error; a path is its own name.

    Returns:
        A Pillow image of mode RGB, in the picture's own size; a new one, without
        metadata.

    Raises:
        InvalidInput: No such file, no picture, a damaged one, one of more than
            `MOST_PIXELS`, one without 8 or 16 bits per colour; or Pillow is missing.
    """
    if isinstance(picture, (str, os.PathLike)):
        name = name or os.fsdecode(picture)
        picture = read_file(picture)
    label = f"{name}: " if name else ""
    if isinstance(picture, (bytes, bytearray, memoryview)):
        picture = _opened(bytes(picture), label)
    elif hasattr(picture, "dtype"):
        picture = _pillow(label)[0].fromarray(picture)
    _check_pixels(label, picture.size)
    if picture.mode not in _MODES_OF_8_BITS + _MODES_OF_16_BITS:
        raise InvalidInput(
            f"{label}mode {picture.mode} has no colours of 8 or 16 bits; convert the "
            "picture to RGB"
        )
    try:
        picture.load()
        rgb = _turned(_on_white(_in_8_bits(picture)), picture.info.get("exif"))
    except Exception as error:  # decoders raise many kinds on broken files
        raise InvalidInput(_damaged(label, picture.format, error)) from None
    rgb.info.clear()  # it still says how to turn what has been turned
    return rgb


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scales a picture to fill a size, and cuts its middle.

    Antialiased bilinear interpolation of the values as they are, as in Pillow's BILINEAR
    and `tf.image.resize(antialias=True)`.

    Args:
        picture: Of mode RGB; see `upright`.
        size: Width and height of the result, in pixels.
    """
    pillow, operations = _pillow("")
    return operations.fit(picture, size, pillow.Resampling.BILINEAR)


def encoded(content: bytes, *, name: str = "") -> bytes:
    """Makes a file that every decoder reads alike, of any picture's file.

    PNG and JPEG files of upright grey or RGB pictures stay as they are, and are not
    decoded: whether they are damaged inside is not known, and Pillow is not needed. All
    else becomes a PNG file of what `upright` makes of it.

    Raises:
        InvalidInput: As of `upright`.
    """
    header = headers.read(content)
    if header is not None and header.plain:
        _check_file(content, f"{name}: " if name else "")
        return content
    return png(upright(content, name=name))


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file, made fast rather than small."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a picture's file.

    Raises:
        InvalidInput: It cannot be read, is no file, or has more than `MOST_FILE_BYTES`.
    """
    shown = os.fsdecode(path)
    if os.path.isdir(path):
        raise InvalidInput(f"{shown}: a folder, not a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InvalidInput(f"{shown}: no regular file")
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{shown}: {reason}") from None
    if len(content) > MOST_FILE_BYTES:
        raise InvalidInput(f"{shown}: larger than {MOST_FILE_BYTES >> 20} MiB")
    return content


def _check_file(content: bytes, label: str) -> str:
    """Refuses what is no picture, or takes too much memory or time; gives its format."""
    if not content:
        raise InvalidInput(f"{label}the file is empty")
    kind = _kind(content)
    if kind is None:
        raise InvalidInput(f"{label}no {FORMATS} file; convert it to one of them")
    header = headers.read(content)
    if header is not None:
        _check_pixels(label, (header.width, header.height))
    if kind == "JPEG" and header is None:  # Pillow would look for it for a minute
        raise InvalidInput(f"{label}the JPEG file is damaged or cut short")
    if kind == "JPEG" and headers.scans(content) > MOST_SCANS:
        raise InvalidInput(f"{label}the JPEG file has more than {MOST_SCANS} scans")
    return kind


def _opened(content: bytes, label: str) -> Image.Image:
    """The picture in a file's content, with nothing decoded but its header."""
    kind = _check_file(content, label)
    pillow, _ = _pillow(label)
    try:
        return pillow.open(io.BytesIO(content), formats=_FORMATS)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
        raise InvalidInput(f"{label}more than {MOST_PIXELS:,} pixels") from None
    except Exception as error:  # UnidentifiedImageError, and what plug-ins raise
        raise InvalidInput(_damaged(label, kind, error)) from None


def _kind(content: bytes) -> str | None:
    """A file's format by its first bytes."""
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind if kind != "WebP" or content[8:12] == b"WEBP" else None
    return None


def _check_pixels(label: str, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise InvalidInput(
            f"{label}{size[0]} x {size[1]} pixels are more than {MOST_PIXELS:,}"
        )


def _damaged(label: str, kind: str | None, error: Exception) -> str:
    """What is wrong with a file that Pillow cannot decode."""
    what = f"the {kind} file" if kind else "the picture"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return f"{label}{what} is cut short"
    # The text of UnidentifiedImageError names an address in memory.
    reason = "" if type(error).__name__ == "UnidentifiedImageError" else f" ({error})"
    return f"{label}{what} is damaged or cut short{reason}"


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 bits by its upper 8, as Pillow reads RGB of 16 bits."""
    if picture.mode not in _MODES_OF_16_BITS:
        return picture
    import numpy as np

    pillow, _ = _pillow("")
    values = np.asarray(picture)
    grey = pillow.fromarray((values >> 8).astype(np.uint8))
    if "transparency" not in picture.info:
        return grey
    opaque = np.where(values == picture.info["transparency"], 0, 255)
    mask = pillow.fromarray(opaque.astype(np.uint8))
    return pillow.merge("LA", (grey, mask))


def _on_white(picture: Image.Image) -> Image.Image:
    """In RGB, what is transparent laid on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    key = picture.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # of RGB of 16 bits
        picture = picture.copy()  # the caller's stays as it is
        picture.info["transparency"] = tuple(value >> 8 for value in key)
    if picture.mode == "La":  # multiplied by its alpha
        picture = picture.convert("LA")
    pillow, _ = _pillow("")
    picture = picture.convert("RGBA")
    white = pillow.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return white.convert("RGB")


def _turned(picture: Image.Image, exif: Any) -> Image.Image:
    """A picture as its EXIF orientation means it. Pillow turns TIFF files by itself."""
    turn = _TURNS.get(headers.orientation(exif) if isinstance(exif, bytes) else 1)
    if turn is None:
        return picture
    pillow, _ = _pillow("")
    return picture.transpose(pillow.Transpose[turn])


def _pillow(label: str) -> tuple[Any, Any]:
    """Pillow's modules Image and ImageOps."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InvalidInput(
            f"{label}this picture needs Pillow: pip install pillow"
        ) from None
    return Image, ImageOps
