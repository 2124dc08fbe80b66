"""Whatever holds an image, as what one of the model's signatures takes.

In: numpy arrays, Pillow images, file paths, bytes of files. Out: per chunk of at most a
batch, requests for `serving_default` (pixels) and `encoded_images` (files as they are,
decoded by the server). What is no finished picture is made one by
`serving.client.pictures`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.client import headers, pictures
from serving.client.errors import InvalidInput

IMAGE_SHAPE = (32, 32, 3)  # of the networks: height, width, RGB
_HEIGHT, _WIDTH, _ = IMAGE_SHAPE

# Names in the exported SavedModel; contract/features.py has the same, and a test compares.
SIGNATURE_IMAGES, INPUT_IMAGES = "serving_default", "images"
SIGNATURE_ENCODED, INPUT_ENCODED = "encoded_images", "encoded"


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
        headers.PNG
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
        resize: Bring other sizes to 32 x 32.
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

    A file travels as it is only if every decoder gives its pixels alike; all else is
    made by the rule of `serving.client.pictures`.

    Raises:
        InvalidInput: It cannot be used; the message names file or shape, and the remedy.
    """
    if isinstance(image, (str, os.PathLike)):
        return _from_file(pictures.read_file(image), os.fsdecode(image), resize)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_file(bytes(image), "", resize)
    if _is_pillow(image):
        _check_size("", image.size, resize)
        return _finished(pictures.upright(image))
    return _from_array(image, resize)


def _from_array(image: Any, resize: bool) -> np.ndarray:
    array = _array(image)
    fault = _array_fault(array.shape, array.dtype)
    if fault is None:
        return array
    resizable = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    if resize and resizable and 0 not in array.shape:
        return _finished(pictures.upright(array))
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


def _from_file(content: bytes, name: str, resize: bool) -> np.ndarray | bytes:
    label = f"{name}: " if name else ""
    header = headers.read(content)
    if header is not None:
        if header.plain and (header.width, header.height) == (_WIDTH, _HEIGHT):
            return content
        _check_size(label, (header.width, header.height), resize)
    elif len(content) == _WIDTH * _HEIGHT * 3:
        raise InvalidInput(
            f"{label}{len(content):,} bytes are no file of a picture; raw pixels are "
            "given as numpy.frombuffer(pixels, 'uint8').reshape(32, 32, 3)"
        )
    picture = pictures.upright(content, name=name)
    _check_size(label, picture.size, resize)
    return _finished(picture)


def _check_size(label: str, size: tuple[int, int], resize: bool) -> None:
    if size != (_WIDTH, _HEIGHT) and not resize:
        raise InvalidInput(
            f"{label}the picture has {size[0]} x {size[1]} pixels, the model takes "
            f"{_WIDTH} x {_HEIGHT}; --resize (in Python resize=True) scales "
            "its middle square"
        )


def _finished(picture: Any) -> np.ndarray:
    """An upright picture as uint8 [32, 32, 3]."""
    if picture.size != (_WIDTH, _HEIGHT):
        picture = pictures.fit(picture, (_WIDTH, _HEIGHT))
    return np.asarray(picture)
