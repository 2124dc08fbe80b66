"""From the published form of an image to the shape it is ingested in.

First the size: each pixel is the mean over a whole block of published ones, channel by
channel, exact and rounded once, halves to even. Then the channels: grey is the luminance of
ITU-R BT.601 in the integers of Pillow's `convert("L")` (src/libImaging/Convert.c, L24 with
rounding). Digits stand in blocks of equal pixels and equal channels, so that both steps are
exact for them. NumPy and the standard library only.
"""

from __future__ import annotations

import numpy as np

from contract.datasets import LUMINANCE, PUBLISHED_SHAPE

Shape = tuple[int, int, int]  # height, width, channels


def reduced(pixels: np.ndarray, shape: Shape) -> np.ndarray:
    """Brings published images to `shape`.

    Args:
        pixels: uint8 [n, 32 * 32 * 3], row-major [32, 32, 3], RGB.
        shape: Height and width that divide 32; 1 or 3 channels.

    Returns:
        uint8 [n, height * width * channels], row-major.
    """
    images = pixels.reshape(-1, *PUBLISHED_SHAPE)
    count, height, width, channels = images.shape
    if shape[:2] != (height, width):
        rows, columns = height // shape[0], width // shape[1]
        blocks = images.reshape(count, shape[0], rows, shape[1], columns, channels)
        # A sum of at most 1,024 bytes; its quotient by a power of two is exact in float32.
        total = blocks.sum(axis=(2, 4), dtype=np.uint32).astype(np.float32)
        images = np.rint(total / (rows * columns)).astype(np.uint8)
    if shape[2] != channels:
        images = luminance(images)
    return images.reshape(count, -1)


def luminance(images: np.ndarray) -> np.ndarray:
    """Grey images as Pillow's "L": uint8 [..., 3], RGB -> uint8 [..., 1]."""
    weighted = images.astype(np.uint32) @ np.array(LUMINANCE, np.uint32)
    return (weighted + 0x8000 >> 16).astype(np.uint8)[..., None]
