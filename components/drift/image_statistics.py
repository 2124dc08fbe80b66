"""Numbers that describe images, and TFDV's statistics of such numbers.

TFDV sees an image as one string of bytes; whether a data set became darker, lost
its colours or has red and blue exchanged is invisible to it. A few numbers per image
show that. The ExampleValidator compares them from run to run and from split to split;
baseline.py, for monitoring, tells by them the images that a server is asked about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import statistics_pb2

BRIGHTNESS, CONTRAST, SHARPNESS = "brightness", "contrast", "sharpness"
RED, GREEN, BLUE = "red", "green", "blue"

# Number -> end of its histogram, which starts at 0. Half of black and half of white, the
# richest contrast there is, deviates by 0.5. What exceeds its end counts in the last bin.
NUMBERS: dict[str, float] = {
    BRIGHTNESS: 1.0,
    CONTRAST: 0.5,
    RED: 1.0,
    GREEN: 1.0,
    BLUE: 1.0,
    SHARPNESS: 0.25,
}
BINS = 32

_CHUNK = 3 << 20  # values that exist as float32 at a time: 12 MiB


def numbers_of(channels: int) -> tuple[str, ...]:
    """The keys of `NUMBERS` that images have; grey ones have no colours."""
    colours = (RED, GREEN, BLUE)
    return tuple(name for name in NUMBERS if channels == 3 or name not in colours)


def measure(images: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of each image.

    Args:
        images: uint8 [n, height, width, channels], RGB or grey.

    Returns:
        `numbers_of` the channels, each float32 [n]: `brightness`, the mean of all values / 255;
        `contrast`, their standard deviation / 255; `red`, `green`, `blue`, the
        channels' means / 255; `sharpness`, the mean difference of neighbours / 255,
        which a blur lowers first; where there are none, as in a single row, that is 0.
    """
    chunk = max(_CHUNK // math.prod(images.shape[1:]), 1)
    parts = [
        _measure(images[first : first + chunk])
        for first in range(0, max(len(images), 1), chunk)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure(images: np.ndarray) -> dict[str, np.ndarray]:
    n, height, width, channels = images.shape
    # Sums of whole numbers: exact in float64, in any order; in float32 those of a row are, up
    # to 65,793 pixels.
    sums = np.zeros((n, channels))
    squares, down, right = np.zeros(n), np.zeros(n), np.zeros(n)
    # In rows: of small images all, of a photograph some.
    band = max(_CHUNK // max(n * width * channels, 1), 1)
    for first in range(0, height, band):
        values = images[:, first : first + band + 1].astype(np.float32)
        rows = values[:, :band]  # without the one that only differences need
        sums += np.einsum("nhwc->nhc", rows).sum(axis=1, dtype=np.float64)
        squares += np.einsum("nhwc,nhwc->n", rows, rows, dtype=np.float64)
        for total, each in (
            (down, values[:, 1:] - values[:, :-1]),
            (right, rows[:, :, 1:] - rows[:, :, :-1]),
        ):
            total += np.abs(each).sum(axis=(1, 2, 3), dtype=np.float64)
    brightness = sums.sum(axis=1) / (255 * height * width * channels)
    variance = squares / (255**2 * height * width * channels) - brightness**2
    steps = down / max((height - 1) * width * channels, 1)
    steps += right / max(height * (width - 1) * channels, 1)
    found = {BRIGHTNESS: brightness, CONTRAST: np.sqrt(np.maximum(variance, 0))}
    if channels == 3:
        means = sums / (255 * height * width)
        found |= dict(zip((RED, GREEN, BLUE), means.T, strict=True))
    found[SHARPNESS] = steps / (2 * 255)
    return {name: numbers.astype(np.float32) for name, numbers in found.items()}


def statistics(
    columns: Mapping[str, np.ndarray],
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """TFDV's statistics of named columns.

    A number of `NUMBERS` gets a histogram of equal bins from 0 to its end. TFDV's own
    reach from the smallest value found to the largest, and to compare two of them it has
    to divide bins, which makes equal distributions look different.

    Args:
        columns: Float [n], or objects (str) [n] for categories; n is at least 1.
    """
    import pandas as pd
    import tensorflow_data_validation as tfdv

    found = tfdv.generate_statistics_from_dataframe(
        pd.DataFrame(dict(columns)), n_jobs=1
    )
    for feature in found.datasets[0].features:
        name = feature.path.step[0]
        if name not in NUMBERS:
            continue
        (standard,) = (h for h in feature.num_stats.histograms if not h.type)
        del standard.buckets[:]
        end = NUMBERS[name]
        values = np.minimum(columns[name], end)
        counts, edges = np.histogram(values, BINS, (0, end))
        for low, high, count in zip(edges, edges[1:], counts, strict=False):
            standard.buckets.add(low_value=low, high_value=high, sample_count=count)
    return found
