"""Where weights start from, as numbers that depend on a seed and a name alone.

Comes in: a weight of `trainer.program` and the flat name of the tensor. Goes out: a float32
array. Every tensor is drawn from a stream of its own, so that it starts from the same
numbers stacked or not, at any depth, on any backend. NumPy only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping

import numpy as np

from trainer.program import Section, Weight

# Row -> (fan of the convolutions, distribution of the dense kernel). Normal distributions are
# not truncated and have variance 2 / (k * k * channels of the fan).
INITIALISERS: Mapping[str, tuple[str, str]] = {
    "he_fan_in": ("in", "normal"),  # He et al. 2015 (arXiv:1502.01852), Eq. 10
    "released": ("out", "uniform"),  # resnet-1k-layers; dense: +-1 / sqrt(fan_in)
}

ZERO_STARTS = ("kernel", "gamma")


def initial_value(
    section: Section,
    weight: Weight,
    *,
    initialiser: str,
    zero_start: str = "none",
    seed: int,
) -> np.ndarray:
    """The array a weight starts from, stacked where the section is.

    Args:
        section: Says for which units; a stacked one gives [units, ...].
        weight: One of `section.weights`.
        initialiser: Row of INITIALISERS.
        zero_start: What is 0 at first in a residual branch: "none", its last "kernel", or
            the "gamma" of its last batch norm.
        seed: Any integer.
    """
    if weight.name == last_of_branch(section, zero_start):
        weight = dataclasses.replace(weight, start=0.0)
    parts = [
        _draw(weight, initialiser, number(seed, f"{prefix}{weight.name}"))
        for prefix in section.prefixes
    ]
    return np.stack(parts) if section.stacked else parts[0]


def last_of_branch(section: Section, role: str) -> str | None:
    """Name of the weight that makes a residual unit the identity while it is 0.

    The last kernel of the branch, or gamma of its last batch norm: behind it stand only
    what keeps a 0 (beta starts at 0, and convolutions have no bias). None: the section has
    no branch, or no such weight on it.
    """
    op = {"kernel": "conv", "gamma": "bn"}.get(role)
    steps = [s for s in section.program if s.op == op and s.writes == "branch"]
    return f"{steps[-1].name}/{role}" if steps else None


def number(seed: int, name: str) -> int:
    """A 128-bit number for each pair; the same in every process and version."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:16], "big")


def _draw(weight: Weight, initialiser: str, stream_key: int) -> np.ndarray:
    """One unit's part of a weight, float32."""
    if weight.start is not None:
        return np.full(weight.shape, weight.start, np.float32)
    fan, dense = INITIALISERS[initialiser]
    stream = np.random.Generator(np.random.Philox(stream_key))
    *window, fan_in, fan_out = weight.shape
    if not window and dense == "uniform":
        limit = 1 / math.sqrt(fan_in)
        return stream.uniform(-limit, limit, weight.shape).astype(np.float32)
    channels = fan_out if window and fan == "out" else fan_in
    deviation = math.sqrt(2 / (math.prod(window) * channels))
    return deviation * stream.standard_normal(weight.shape, np.float32)
