"""What the contenders answered, image by image: predictions.npz and the like.

Answers of one model, and the Evaluator for all of them, write it; Evaluator, report and
monitoring read it, also where another version of the project wrote it. A leaf: standard
library and NumPy.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Self

import numpy as np

from contract import arrays, features, stored
from contract.typed_json import REMEDY, RecordError, inside, refused

_IDS, _LABELS, _SIZES = "ids", "labels", "sizes"
_BAND, _PROBABILITIES = "band/", "probabilities/"
_WORDS = {"S": "bytes", "i": "whole numbers", "f": "numbers"}  # of numpy.dtype's kinds
_MOST_BYTES = 1 << 30
_MOST_PIXELS = 2**31 - 1  # along a side (PNG, 11.2.1)
_MOST_PROBABILITY = 1.01  # the Evaluator lets a model's sums pass 1 a little


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The images of a split in one order, and what was answered to them."""

    ids: np.ndarray  # bytes [n]
    labels: np.ndarray  # int64 [n], in [0, classes)
    bands: Mapping[str, np.ndarray]  # of contract.features.BANDS -> int64 [n]
    # By role -> float32 [n, classes]; of those without a problem.
    probabilities: Mapping[str, np.ndarray]
    # Pixels along the shorter side of encoded images, before the crop: int64 [n].
    sizes: np.ndarray | None = None

    def are_of_the_images_of(self, other: Predictions) -> bool:
        """Whether both are answers to the same images, in the same order."""
        return np.array_equal(self.ids, other.ids) and np.array_equal(
            self.labels, other.labels
        )

    def write(self, file: IO[bytes]) -> None:
        """Writes what `read` reads."""
        named: dict[str, Any] = {
            _IDS: self.ids.astype(np.bytes_),
            _LABELS: self.labels,
            **({} if self.sizes is None else {_SIZES: self.sizes}),
            **{_BAND + name: band for name, band in self.bands.items()},
            **{
                _PROBABILITIES + role: each for role, each in self.probabilities.items()
            },
        }
        # By way of memory: the format seeks, which files in object stores cannot.
        buffer = io.BytesIO()
        np.savez(buffer, **named)
        file.write(buffer.getvalue())

    @classmethod
    def read(cls, file: IO[bytes], where: str, classes: int) -> Self:
        """Reads what `write` wrote; keys that are not known are skipped.

        Args:
            file: Opened; of more than 1 GiB it is refused.
            where: Its path, for messages.
            classes: How many the comparison beside it has.

        Raises:
            RecordError: It is no such file.
        """
        try:
            content = stored.content(file, _MOST_BYTES)
            found = arrays.read(io.BytesIO(content), _MOST_BYTES)
        except stored.Unreadable as problem:
            raise RecordError(f"{where}: {problem}{REMEDY}") from None
        for name in (_IDS, _LABELS):
            if name not in found:
                raise RecordError(f"{inside(where, name)} is missing{REMEDY}")
        images, last_band = found[_LABELS].size, len(features.BAND_NAMES) - 1
        for name, array in found.items():
            place = inside(where, name)
            if name == _IDS:
                _check(array, place, "S", (images,))
            elif name == _LABELS:
                _check(array, place, "i", (images,), classes - 1)
            elif name == _SIZES:
                _check(array, place, "i", (images,), _MOST_PIXELS)
            elif name.startswith(_BAND):
                _check(array, place, "i", (images,), last_band)
            elif name.startswith(_PROBABILITIES):
                _check(array, place, "f", (images, classes), _MOST_PROBABILITY)
        return cls(
            ids=found[_IDS],
            labels=found[_LABELS],
            bands=_below(_BAND, found),
            probabilities=_below(_PROBABILITIES, found),
            sizes=found.get(_SIZES),
        )


def _below(start: str, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(start): array
        for name, array in found.items()
        if name.startswith(start)
    }


def _check(
    array: np.ndarray,
    place: str,
    kind: str,
    shape: tuple[int, ...],
    most: float | None = None,
) -> None:
    """Raises a RecordError unless it has this kind, shape and range."""
    if array.dtype.kind != kind or array.shape != shape or not array.size:
        there = f"{array.dtype} {list(array.shape)}"
        needed = f"must be {_WORDS[kind]} {list(shape)}, and not empty"
        raise refused(place, there, needed)
    if most is None:
        return
    outside = array[~((array >= 0) & (array <= most))]  # NaN too
    if outside.size:
        raise refused(place, outside[0], f"must be at least 0 and at most {most:g}")
