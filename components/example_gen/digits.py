"""scikit-learn's handwritten digits, in the form of CIFAR's images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from components.example_gen.errors import DataError
from components.example_gen.formats import PUBLISHED_BYTES, Records
from contract.features import TEST, TRAIN

# Over scikit-learn's 1,797 images (uint8 [n, 8, 8], 0 to 16) and labels (uint8 [n]).
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def load() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's digits: uint8 [1797, 8, 8] in 0 to 16, and labels int64 [1797].

    Raises:
        DataError: The installed scikit-learn has other digits.
    """
    from sklearn.datasets import load_digits  # a second

    bunch: Any = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    content = images.tobytes() + labels.astype(np.uint8).tobytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != SHA256:
        raise DataError(
            f"digits: scikit-learn's images have SHA-256 {actual}, must be "
            f"{SHA256}; install the version of scikit-learn in requirements.txt"
        )
    return images, labels


def pixels(images: np.ndarray) -> np.ndarray:
    """Brings digits to CIFAR's form: uint8 [n, 8, 8] in 0 to 16 -> [n, PUBLISHED_BYTES].

    Exact: value * 255 // 16, each pixel 4 x 4 times, three equal channels.
    """
    scaled = (images.astype(np.uint16) * 255 // 16).astype(np.uint8)
    large = scaled.repeat(4, axis=1).repeat(4, axis=2)  # [n, 32, 32]
    return np.repeat(large[..., None], 3, axis=-1).reshape(len(images), PUBLISHED_BYTES)


def read() -> Iterator[tuple[str, Records]]:
    """Yields (split, all its records); every fifth image is of `test`.

    Raises:
        DataError: As `load`.
    """
    images, labels = load()
    rows = pixels(images)
    test = np.arange(len(images)) % 5 == 0
    for split, chosen in ((TRAIN, ~test), (TEST, test)):
        yield split, Records(rows[chosen], labels[chosen], None)
