"""Whatever holds an image, as what one of the model's signatures takes.

In: numpy arrays, Pillow images, file paths, bytes of files. Out: per chunk of at most a
batch, requests for `serving_default` (pixels) and `encoded_images` (files as they are,
decoded by the server). Nothing here needs Pillow unless sizes must change.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.client.errors import InvalidInput

IMAGE_SHAPE = (32, 32, 3)  # of the networks: height, width, RGB
_HEIGHT, _WIDTH, _ = IMAGE_SHAPE

# Names in the exported SavedModel; trainer/features.py has the same, and a test compares.
SIGNATURE_IMAGES, INPUT_IMAGES = "serving_default", "images"
SIGNATURE_ENCODED, INPUT_ENCODED = "encoded_images", "encoded"

MOST_FILE_BYTES = 64 << 20
MOST_PIXELS = 100_000_000  # checked in the header, before anything is decoded

_PNG = b"\x89PNG\r\n\x1a\n"
_PILLOW_MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
)


@dataclass(frozen=True)
class Request:
    """Images of a chunk that go to one signature."""

    signature: str
    input: str
    value: np.ndarray  # uint8 [n, 32, 32, 3], or object [n] of bytes
    places: tuple[int, ...]  # of the images in their chunk


@dataclass(frozen=True)
class Prepared:
    """A chunk: its requests, and the images that cannot be sent."""

    size: int
    requests: tuple[Request, ...]
    errors: dict[int, InvalidInput]  # by place


def blank() -> bytes:
    """A PNG file of 32 x 32 black pixels, which every such model takes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 2, 0, 0, 0)  # 8 bits, RGB
    rows = bytes(_HEIGHT * (1 + 3 * _WIDTH))  # each begins with its filter, none
    return (
        _PNG
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def is_many(images: Any) -> bool:
    """Whether this is a collection of images rather than one."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)):
        return False
    if _is_pillow(images):
        return False
    shape = getattr(images, "shape", None)
    if shape is not None:
        return len(shape) != len(IMAGE_SHAPE)
    return isinstance(images, Iterable)


def chunks(images: Any, size: int) -> Iterator[Any]:
    """Cuts images into pieces of at most `size`, lazily and in order.

    A whole array is sliced, not taken apart.
    """
    if hasattr(images, "__aiter__"):
        raise InvalidInput(
            "an asynchronous iterator cannot be read here; give a list, or call for each"
        )
    if not is_many(images):
        yield [images]
        return
    if hasattr(images, "shape") and not _is_pillow(images):
        array = _array(images)
        if array.dtype.kind in "OSUT" and array.ndim == 1:  # of paths, bytes, images
            yield from chunks(array.tolist(), size)
            return
        if array.ndim != 4:
            raise InvalidInput(
                f"images have shape {list(array.shape)}; uint8 [n, 32, 32, 3], or "
                "[32, 32, 3] for one, is needed"
            )
        for begin in range(0, len(array), size):
            yield array[begin : begin + size]
        return
    piece: list[Any] = []
    for image in images:
        piece.append(image)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece


def prepare(chunk: Any, *, resize: bool) -> Prepared:
    """Makes a chunk's requests; a bad image becomes an error at its place.

    Args:
        chunk: From `chunks`.
        resize: Let Pillow bring other sizes and formats to 32 x 32.
    """
    if (
        isinstance(chunk, np.ndarray)
        and _array_fault(chunk.shape[1:], chunk.dtype) is None
    ):
        whole = Request(SIGNATURE_IMAGES, INPUT_IMAGES, chunk, tuple(range(len(chunk))))
        return Prepared(len(chunk), (whole,), {})
    pixels: dict[int, np.ndarray] = {}
    files: dict[int, bytes] = {}
    errors: dict[int, InvalidInput] = {}
    for place, image in enumerate(chunk):
        try:
            loaded = load(image, resize=resize)
        except InvalidInput as error:
            errors[place] = error
            continue
        if isinstance(loaded, bytes):
            files[place] = loaded
        else:
            pixels[place] = loaded
    requests = []
    if pixels:
        stacked = np.stack(list(pixels.values()))
        requests.append(Request(SIGNATURE_IMAGES, INPUT_IMAGES, stacked, tuple(pixels)))
    if files:
        encoded = np.empty(len(files), dtype=object)
        encoded[:] = list(files.values())
        requests.append(
            Request(SIGNATURE_ENCODED, INPUT_ENCODED, encoded, tuple(files))
        )
    return Prepared(len(chunk), tuple(requests), errors)


def load(image: Any, *, resize: bool) -> np.ndarray | bytes:
    """One image as uint8 [32, 32, 3], or as the bytes of its PNG or JPEG file.

    Raises:
        InvalidInput: It cannot be used; the message names file or shape, and the remedy.
    """
    if isinstance(image, (str, os.PathLike)):
        return _from_file(_read(image), f"{os.fsdecode(image)}: ", resize)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_file(bytes(image), "", resize)
    if _is_pillow(image):
        return _from_pillow(image, "", resize)
    return _from_array(image, resize)


def _from_array(image: Any, resize: bool) -> np.ndarray:
    array = _array(image)
    fault = _array_fault(array.shape, array.dtype)
    if fault is None:
        return array
    resizable = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    if resize and resizable and 0 not in array.shape:
        return _from_pillow(_pillow("").fromarray(array), "", resize)
    raise InvalidInput(fault)


def _array(image: Any) -> np.ndarray:
    try:
        return np.asarray(image)
    except Exception as error:  # whatever an array-like raises when it is converted
        raise InvalidInput(
            f"{type(image).__name__} is no image ({error}); give an array, a Pillow "
            "image, a path or a file's bytes"
        ) from None


def _array_fault(shape: tuple[int, ...], dtype: np.dtype) -> str | None:
    """What is wrong with one image's shape or dtype, as a sentence."""
    if dtype.kind in "OSU":
        return "no image; give an array, a Pillow image, a path or a file's bytes"
    if shape != IMAGE_SHAPE:
        remedy = (
            "; resize=True resizes it" if len(shape) == 3 and shape[2:] == (3,) else ""
        )
        return f"an image has shape {list(shape)}; [32, 32, 3] is needed{remedy}"
    if dtype != np.uint8:
        return (
            f"an image has dtype {dtype}; uint8 from 0 to 255 is needed "
            "(of 0 to 1: (255 * image).round().astype('uint8'))"
        )
    return None


def _is_pillow(image: Any) -> bool:
    return all(hasattr(image, name) for name in ("mode", "size", "convert", "resize"))


def _from_pillow(image: Any, label: str, resize: bool) -> np.ndarray:
    if image.mode not in _PILLOW_MODES:
        raise InvalidInput(
            f"{label}mode {image.mode} has no 8-bit colours; convert the image to RGB"
        )
    width, height = image.size
    if (width, height) != (_WIDTH, _HEIGHT):
        if not resize:
            raise InvalidInput(_wrong_size(label, width, height))
        _check_pixels(label, width, height)
    try:
        image = image.convert("RGB")
        if image.size != (_WIDTH, _HEIGHT):
            # The second argument is Pillow's BOX filter: the mean of each area.
            box = 4 if width >= _WIDTH and height >= _HEIGHT else 2  # else: bilinear
            image = image.resize((_WIDTH, _HEIGHT), box)
        return np.frombuffer(image.tobytes(), np.uint8).reshape(IMAGE_SHAPE)
    except Exception as error:  # decoders raise many kinds on broken files
        raise InvalidInput(f"{label}cannot be decoded ({error})") from None


def _read(path: str | os.PathLike[str]) -> bytes:
    shown = os.fsdecode(path)
    if os.path.isdir(path):
        raise InvalidInput(f"{shown} is a folder; give the files in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InvalidInput(f"{shown} is no regular file")
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{shown}: {reason}") from None
    if len(content) > MOST_FILE_BYTES:
        raise InvalidInput(f"{shown} is larger than {MOST_FILE_BYTES >> 20} MiB")
    return content


def _from_file(content: bytes, label: str, resize: bool) -> np.ndarray | bytes:
    size = encoded_size(content)
    if size == (_WIDTH, _HEIGHT):
        return content
    if not resize:
        if size is None:
            raise InvalidInput(_not_an_image(content, label))
        raise InvalidInput(_wrong_size(label, *size))
    if size is not None:
        _check_pixels(label, *size)
    pillow = _pillow(label)
    try:
        image = pillow.open(io.BytesIO(content))
    except Exception as error:  # UnidentifiedImageError, DecompressionBombError, ...
        raise InvalidInput(
            f"{label}cannot be decoded ({type(error).__name__})"
        ) from None
    return _from_pillow(image, label, resize)


def encoded_size(content: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a PNG or JPEG file; None for anything else."""
    if content.startswith(_PNG):
        if content[12:16] != b"IHDR" or len(content) < 24:
            return None
        return int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(content)
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Walks the segments to the frame header (ITU-T T.81, B.2.2)."""
    place = 2
    while place + 9 <= len(content):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # stand alone, without a length
            place += 2
            continue
        length = int.from_bytes(content[place + 2 : place + 4])
        if length < 2 or marker in (0xD9, 0xDA):  # end, or the scan without a frame
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(content[place + 5 : place + 7])
            return int.from_bytes(content[place + 7 : place + 9]), height
        place += 2 + length
    return None


def _wrong_size(label: str, width: int, height: int) -> str:
    return (
        f"{label}the image is {width} x {height}, the model takes {_WIDTH} x {_HEIGHT}; "
        "resize it, or use resize=True (--resize), which needs Pillow"
    )


def _not_an_image(content: bytes, label: str) -> str:
    if not content:
        return f"{label}the file is empty"
    if len(content) == _WIDTH * _HEIGHT * 3:
        return (
            f"{label}{len(content):,} bytes are no PNG or JPEG file; raw pixels are "
            "given as numpy.frombuffer(pixels, 'uint8').reshape(32, 32, 3)"
        )
    return (
        f"{label}neither a PNG nor a JPEG file; other formats need resize=True "
        "(--resize) and Pillow"
    )


def _check_pixels(label: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise InvalidInput(
            f"{label}{width} x {height} pixels are more than {MOST_PIXELS:,}"
        )


def _pillow(label: str) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise InvalidInput(
            f"{label}resizing needs Pillow: pip install pillow"
        ) from None
    return Image
