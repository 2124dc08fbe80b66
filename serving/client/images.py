"""Whatever holds an image, as what one of the model's signatures takes.

In: numpy arrays, Pillow images, file paths, bytes of files; the shape that the model takes,
as its metadata have it. Out: per chunk of at most a batch, requests for `serving_default`
(pixels) and `encoded_images` (files as they are, decoded by the server). What is no finished
picture is made one by `serving.client.pictures`.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from serving.client import headers, pictures
from serving.client.errors import InvalidInput

Shape = tuple[int, int, int]  # height, width, channels: 3, RGB, or 1, grey


class Crop(NamedTuple):
    """A `Shape`, of a model that cuts such images out of pictures of any size itself."""

    height: int
    width: int
    channels: int


# Of the files in one request. Photographs travel whole to a model that takes any size: more
# of them take the server longer than a request may, and memory here and there.
_MOST_BYTES, _MOST_PIXELS = 32 << 20, 1 << 25

# Red, green and blue of 2^16: the luminance of ITU-R BT.601, as Pillow's "L" counts it.
_LUMINANCE = np.array([19_595, 38_470, 7_471], np.uint32)

# Names in the exported SavedModel; contract/features.py has the same, and a test compares.
SIGNATURE_IMAGES, INPUT_IMAGES = "serving_default", "images"
SIGNATURE_ENCODED, INPUT_ENCODED = "encoded_images", "encoded"
SIGNATURE_ANY_SIZE = "any_size"  # where it is, `encoded_images` takes any size


@dataclass(frozen=True)
class Request:
    """Images of a chunk that go to one signature."""

    signature: str
    input: str
    value: np.ndarray  # uint8 [n, height, width, channels], or object [n] of bytes
    places: tuple[int, ...]  # of the images in their chunk


@dataclass(frozen=True)
class Prepared:
    """A chunk: its requests, and the images that cannot be sent."""

    size: int
    shape: Shape  # of the model's images
    requests: tuple[Request, ...]
    errors: dict[int, InvalidInput]  # by place


def blank(shape: Shape) -> bytes:
    """A PNG file of black pixels, which a model of such images takes."""
    height, width, _ = shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return (
            struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    rows = bytes(height * (1 + 3 * width))  # each begins with its filter, none
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
        return len(shape) != 3
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
                f"images have shape {list(array.shape)}; uint8 [n, height, width, "
                "channels], or [height, width, channels] for one, is needed"
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


def prepare(chunk: Any, shape: Shape, *, resize: bool) -> Prepared:
    """Makes a chunk's requests; a bad image becomes an error at its place.

    Args:
        chunk: From `chunks`.
        shape: Of the model's images.
        resize: Bring other sizes to that one.
    """
    if (
        isinstance(chunk, np.ndarray)
        and _array_fault(chunk.shape[1:], chunk.dtype, shape) is None
    ):
        whole = Request(SIGNATURE_IMAGES, INPUT_IMAGES, chunk, tuple(range(len(chunk))))
        return Prepared(len(chunk), shape, (whole,), {})
    pixels: dict[int, np.ndarray] = {}
    files: dict[int, bytes] = {}
    errors: dict[int, InvalidInput] = {}
    for place, image in enumerate(chunk):
        try:
            loaded = load(image, shape, resize=resize)
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
    for places in _together(files):
        encoded = np.empty(len(places), dtype=object)
        encoded[:] = [files[place] for place in places]
        requests.append(Request(SIGNATURE_ENCODED, INPUT_ENCODED, encoded, places))
    return Prepared(len(chunk), shape, tuple(requests), errors)


def _together(files: Mapping[int, bytes]) -> Iterator[tuple[int, ...]]:
    """Places of the files of each request; one that is beyond a limit goes alone."""
    places: list[int] = []
    size = pixels = 0
    for place, content in files.items():
        header = headers.read(content)
        more = header.width * header.height if header else 0
        size, pixels = size + len(content), pixels + more
        if places and (size > _MOST_BYTES or pixels > _MOST_PIXELS):
            yield tuple(places)
            places, size, pixels = [], len(content), more
        places.append(place)
    if places:
        yield tuple(places)


def load(image: Any, shape: Shape, *, resize: bool) -> np.ndarray | bytes:
    """One image as uint8 of `shape`, or as the bytes of its PNG or JPEG file.

    A file travels as it is only if every decoder gives its pixels alike; all else is
    made by the rule of `serving.client.pictures`. A grey model gets the luminance of what
    has colours. A model that cuts images out of pictures itself gets whole pictures, and
    arrays of its crops' shape as they are.

    Raises:
        InvalidInput: It cannot be used; the message names file or shape, and the remedy.
    """
    if isinstance(shape, Crop):
        return _whole(image, shape)
    if isinstance(image, (str, os.PathLike)):
        return _from_file(pictures.read_file(image), os.fsdecode(image), shape, resize)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_file(bytes(image), "", shape, resize)
    if _is_pillow(image):
        _check_size("", image.size, shape, resize)
        return _finished(pictures.upright(image), shape)
    return _from_array(image, shape, resize)


def _whole(image: Any, shape: Crop) -> np.ndarray | bytes:
    """A picture of any size as a file; pixels of a crop as they are."""
    if isinstance(image, (str, os.PathLike)):
        return pictures.encoded(pictures.read_file(image), name=os.fsdecode(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return pictures.encoded(bytes(image))
    if not _is_pillow(image):
        image = _array(image)
        fault = _array_fault(image.shape, image.dtype, shape)
        if fault is None:
            return image
        if image.dtype != np.uint8 or not _is_resizable(image.shape, shape):
            raise InvalidInput(fault)
    return pictures.png(pictures.upright(image))


def _from_array(image: Any, shape: Shape, resize: bool) -> np.ndarray:
    array = _array(image)
    fault = _array_fault(array.shape, array.dtype, shape)
    if fault is None:
        return array
    if array.dtype == np.uint8 and array.shape == (*shape[:2], 3):
        return _luminance(array)
    if resize and _is_resizable(array.shape, shape) and array.dtype == np.uint8:
        grey = array.shape[2] == 1
        return _finished(pictures.upright(array[..., 0] if grey else array), shape)
    raise InvalidInput(fault)


def _is_resizable(given: tuple[int, ...], shape: Shape) -> bool:
    """Of colours, or grey as the model."""
    return len(given) == 3 and 0 not in given and given[2] in (3, shape[2])


def _luminance(pixels: np.ndarray) -> np.ndarray:
    """Grey, uint8 [..., 1], of uint8 [..., 3]."""
    return (pixels.astype(np.uint32) @ _LUMINANCE + 0x8000 >> 16).astype(np.uint8)[
        ..., None
    ]


def _array(image: Any) -> np.ndarray:
    try:
        return np.asarray(image)
    except Exception as error:  # whatever an array-like raises when it is converted
        raise InvalidInput(
            f"{type(image).__name__} is no image ({error}); give an array, a Pillow "
            "image, a path or a file's bytes"
        ) from None


def _array_fault(given: tuple[int, ...], dtype: np.dtype, shape: Shape) -> str | None:
    """What is wrong with one image's shape or dtype, as a sentence."""
    if dtype.kind in "OSU":
        return "no image; give an array, a Pillow image, a path or a file's bytes"
    if given != shape:
        remedy = "; resize=True resizes it" if _is_resizable(given, shape) else ""
        return f"an image has shape {list(given)}; {list(shape)} is needed{remedy}"
    if dtype != np.uint8:
        return (
            f"an image has dtype {dtype}; uint8 from 0 to 255 is needed "
            "(of 0 to 1: (255 * image).round().astype('uint8'))"
        )
    return None


def _is_pillow(image: Any) -> bool:
    return all(hasattr(image, name) for name in ("mode", "size", "convert", "resize"))


def _from_file(
    content: bytes, name: str, shape: Shape, resize: bool
) -> np.ndarray | bytes:
    height, width, _ = shape
    label = f"{name}: " if name else ""
    header = headers.read(content)
    if header is not None:
        if header.plain and (header.width, header.height) == (width, height):
            return content
        _check_size(label, (header.width, header.height), shape, resize)
    elif len(content) == math.prod(shape):
        raise InvalidInput(
            f"{label}{len(content):,} bytes are no file of a picture; raw pixels are "
            f"given as numpy.frombuffer(pixels, 'uint8').reshape{shape}"
        )
    picture = pictures.upright(content, name=name)
    _check_size(label, picture.size, shape, resize)
    return _finished(picture, shape)


def _check_size(label: str, size: tuple[int, int], shape: Shape, resize: bool) -> None:
    height, width, _ = shape
    if size != (width, height) and not resize:
        raise InvalidInput(
            f"{label}the picture has {size[0]} x {size[1]} pixels, the model takes "
            f"{width} x {height}; --resize (in Python resize=True) scales "
            "its middle square"
        )


def _finished(picture: Any, shape: Shape) -> np.ndarray:
    """An upright picture as uint8 of `shape`."""
    height, width, channels = shape
    if picture.size != (width, height):
        picture = pictures.fit(picture, (width, height))
    pixels = np.asarray(picture)
    return pixels if channels == 3 else _luminance(pixels)
