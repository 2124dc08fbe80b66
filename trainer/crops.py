"""What a network is shown of a picture of any size: crops, for evaluation and for training.

In: files, PNG or JPEG, upright grey or RGB (serving/client/pictures.py makes them of all
else). Out: squares. Nothing but the part that is needed is scaled, and of a JPEG nothing
else is decoded. `resize` with `antialias` and the accurate inverse transform give Pillow's
values within 1 of 255; TensorFlow's defaults are up to 141 off.

Sizes: contract/crops.py. Colours: Krizhevsky et al. 2012, section 4.1.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false
# pyright: reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from contract.crops import EVALUATION_SIDE, TRAINING_SIDES, side_of

CHANCES = 4  # numbers that `random` takes: size, row, column, mirror

# No Python here depends on a tensor's value, and AutoGraph takes seconds to find that out.
_plain = tf.autograph.experimental.do_not_convert
_ACCURATE = "INTEGER_ACCURATE"
# Source pixels beside a part, besides the filter's reach: colours of a JPEG are
# interpolated between neighbours.
_MARGIN = 3


class _Window(NamedTuple):
    """Where the square lies: in the scaled picture, and in the picture as it is."""

    scale: tf.Tensor  # float32 [2]: rows, columns
    corner: tf.Tensor  # int32 [2]: of the square, in the scaled picture
    begin: tf.Tensor  # int32 [2]: of the part that is read, in the picture
    size: tf.Tensor  # int32 [2]: of that part


def center(files: tf.Tensor, crop: int) -> tf.Tensor:
    """The middle of each picture, its shorter side scaled to 256 / 224 of the crop.

    Args:
        files: string [n].
        crop: Side of the squares, in pixels.

    Returns:
        uint8 [n, crop, crop, 3].
    """

    def one(file: tf.Tensor) -> tf.Tensor:
        return rounded(middle(decode(file), side_of(EVALUATION_SIDE, crop), crop))

    return _each(one, files, (crop, crop, 3), tf.uint8)


def several(files: tf.Tensor, crop: int, sides: Sequence[int]) -> tf.Tensor:
    """Ten squares of each picture at each size: corners, middle, and these mirrored.

    Args:
        files: string [n].
        crop: Side of the squares, in pixels.
        sides: To which the shorter side is scaled, for crops of 224.

    Returns:
        uint8 [n, 10 * sides, crop, crop, 3].
    """

    def one(file: tf.Tensor) -> tf.Tensor:
        image, found = decode(file), []
        for side in sides:
            scaled = _scaled(tf.shape(image)[:2], side_of(side, crop))
            last = scaled - crop
            corners = [tf.stack([y, x]) for y in (0, last[0]) for x in (0, last[1])]
            for corner in (*corners, last // 2):
                cut = rounded(square(image, scaled, corner, crop))
                found += [cut, cut[:, ::-1]]
        return tf.stack(found)

    return _each(one, files, (10 * len(sides), crop, crop, 3), tf.uint8)


def random(files: tf.Tensor, chances: tf.Tensor, crop: int, *, flip: bool) -> tf.Tensor:
    """A square of each picture, at a random size and place; half of them mirrored.

    Args:
        files: string [n].
        chances: float32 [n, CHANCES] in [0, 1).
        crop: Side of the squares, in pixels.
        flip: Whether half of them are mirrored.

    Returns:
        float32 [n, crop, crop, 3], 0 to 255.
    """
    low, high = (side_of(side, crop) for side in TRAINING_SIDES)

    def one(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        file, chance = given
        side = low + tf.cast(chance[0] * (high - low + 1), tf.int32)
        size = _size(file)
        scaled = _scaled(size, side)
        corner = tf.cast(chance[1:3] * tf.cast(scaled - crop + 1, tf.float32), tf.int32)
        window = _window(size, scaled, corner, crop)
        image = _cut(_read(file, window), window, crop)
        return tf.where(flip & (chance[3] < 0.5), image[:, ::-1], image)

    return _each(one, (files, chances), (crop, crop, 3), tf.float32)


def shorter_sides(files: tf.Tensor) -> tf.Tensor:
    """Pixels along the shorter side of each picture, int64 [n], by its header."""

    def one(file: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.reduce_min(_size(file)), tf.int64)

    return tf.map_fn(_plain(one), files, fn_output_signature=tf.int64)


def tints(covariance: tf.Tensor, normal: tf.Tensor, noise: float) -> tf.Tensor:
    """Colours to be added to images, so that they vary as the colours of the set do.

    The paper adds P L a: eigenvectors P and eigenvalues L of the covariance C, a normal of
    deviation `noise`. C a has the same distribution, and needs no eigenvectors.

    Args:
        covariance: float32 [3, 3], pixel values 0 to 255; the paper's count 0 to 1.
        normal: float32 [n, 3], of deviation 1.
        noise: Deviation of a; 0.1 in the paper.

    Returns:
        float32 [n, 1, 1, 3].
    """
    colours = tf.matmul(normal, covariance) * (noise / 255)
    return colours[:, None, None, :]


def decode(file: tf.Tensor) -> tf.Tensor:
    """A PNG or JPEG file, string [], as uint8 [height, width, 3]."""
    return tf.io.decode_jpeg(file, channels=3, dct_method=_ACCURATE)  # or PNG


def middle(image: tf.Tensor, side: int, crop: int) -> tf.Tensor:
    """The middle square of an image whose shorter side is scaled to `side`.

    Args:
        image: uint8 [height, width, 3].
        side: At least `crop`.
        crop: Side of the square.

    Returns:
        float32 [crop, crop, 3].
    """
    size = tf.shape(image)[:2]
    scaled = _scaled(size, side)
    return square(image, scaled, (scaled - crop) // 2, crop)


def square(
    image: tf.Tensor, scaled: tf.Tensor, corner: tf.Tensor, crop: int
) -> tf.Tensor:
    """A square of an image that is scaled.

    Args:
        image: uint8 [height, width, 3].
        scaled: int32 [2], height and width after scaling.
        corner: int32 [2], where the square begins there.
        crop: Side of the square.

    Returns:
        float32 [crop, crop, 3].
    """
    size = tf.shape(image)[:2]
    whole = _Window(_scale(size, scaled), corner, tf.zeros_like(size), size)
    return _cut(image, whole, crop)


def rounded(image: tf.Tensor) -> tf.Tensor:
    """As uint8, which is what Pillow gives and clients send."""
    return tf.cast(tf.clip_by_value(tf.floor(image + 0.5), 0, 255), tf.uint8)


def _each(one, given, shape: Sequence[int], kind: tf.DType) -> tf.Tensor:  # noqa: ANN001
    """`one` of each, stacked; pictures have their own sizes, crops one shape."""
    images = tf.map_fn(_plain(one), given, fn_output_signature=kind)
    return tf.reshape(images, [-1, *shape])  # also when empty


def _size(file: tf.Tensor) -> tf.Tensor:
    """Height and width of a picture, int32 [2], by its header."""

    def of_png() -> tf.Tensor:
        # The first chunk is IHDR, which begins with width and height (PNG, 11.2.1).
        head = tf.strings.substr(file, 16, 8)
        return tf.io.decode_raw(head, tf.int32, little_endian=False)[::-1]

    return tf.cond(
        tf.io.is_jpeg(file), lambda: tf.io.extract_jpeg_shape(file)[:2], of_png
    )


def _scaled(size: tf.Tensor, side: tf.Tensor | int) -> tf.Tensor:
    """Height and width, int32 [2], if the shorter of them becomes `side`."""
    factor = tf.cast(side, tf.float64) / tf.cast(tf.reduce_min(size), tf.float64)
    return tf.cast(tf.round(tf.cast(size, tf.float64) * factor), tf.int32)


def _scale(size: tf.Tensor, scaled: tf.Tensor) -> tf.Tensor:
    return tf.cast(scaled, tf.float32) / tf.cast(size, tf.float32)


def _window(
    size: tf.Tensor, scaled: tf.Tensor, corner: tf.Tensor, crop: int
) -> _Window:
    """The part of a picture that a square depends on."""
    scale = _scale(size, scaled)
    reach = tf.maximum(1 / scale, 1) + _MARGIN  # of the filter, a triangle
    first = tf.floor(tf.cast(corner, tf.float32) / scale - reach)
    last = tf.math.ceil(tf.cast(corner + crop, tf.float32) / scale + reach)
    begin = tf.maximum(tf.cast(first, tf.int32), 0)
    return _Window(
        scale, corner, begin, tf.minimum(tf.cast(last, tf.int32), size) - begin
    )


def _read(file: tf.Tensor, window: _Window) -> tf.Tensor:
    """The pixels of a part of a picture, uint8 [height, width, 3]."""

    def of_jpeg() -> tf.Tensor:
        part = tf.concat([window.begin, window.size], axis=0)
        return tf.io.decode_and_crop_jpeg(file, part, channels=3, dct_method=_ACCURATE)

    def of_png() -> tf.Tensor:
        begin = tf.concat([window.begin, [0]], axis=0)
        return tf.slice(decode(file), begin, tf.concat([window.size, [3]], axis=0))

    return tf.cond(tf.io.is_jpeg(file), of_jpeg, of_png)


def _cut(image: tf.Tensor, window: _Window, crop: int) -> tf.Tensor:
    """The square out of the part that was read: float32 [crop, crop, 3].

    As `tf.image.resize` with `antialias` of the whole picture, of which the square is cut.
    """
    begin = tf.cast(window.begin, tf.float32)
    shift = window.scale * begin - tf.cast(window.corner, tf.float32)
    images = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[crop, crop],
        scale=window.scale,
        translation=shift,
        kernel_type="triangle",
        antialias=True,
    )
    return tf.reshape(images, [crop, crop, 3])
