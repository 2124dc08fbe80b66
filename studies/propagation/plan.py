"""What is measured, and what was said about it before: the tables of this study.

Standard library only. A claim's bounds stand here, before anything is measured; a row is a
network by name, so one more network is one line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CLASSES = 10
IMAGES = 16  # of normal noise: batch norm takes away what else images have
SEED = 1

# Growth of a squared gradient per batch norm behind a ReLU: pi / (pi - 1), Yang et al. 2019,
# "A Mean Field Theory of Batch Normalization" (arXiv:1902.08129).
GROWTH = math.pi / (math.pi - 1)

# What must hold whatever the weights are: the papers' equations, in float32 and float64.
EQUATION = 1e-5
SHARE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network that is measured at initialisation."""

    network: str
    # Bounds of the median of measured over law, stated before measuring; None: no law.
    law: tuple[float, float] | None = None
    equations: bool = True  # whether Eq. 4 and 5 are checked
    broken: bool = False  # whether they are expected not to hold: f is not the identity


_SCALED = "preact_resnet110:shortcut=constant_scaling:residual_scale=1:shortcut_scale="
_BASIC = (0.9, 1.1)
# Of a bottleneck the widths differ and the 1x1 convolutions mix few channels, and three
# convolutions follow each other: twice the width of the basic nets' band.
_BOTTLENECK = (0.8, 1.2)

ROWS = (
    Row(network="preact_resnet20", law=_BASIC),
    Row(network="preact_resnet110", law=_BASIC),
    Row(network="preact_resnet164", law=_BOTTLENECK),
    Row(network="preact_resnet1001", law=_BOTTLENECK),
    Row(network="resnet110", broken=True),
)
# Eq. 6 to 8: a constant on every shortcut. 1 is the identity by another way.
LAMBDAS = (0.5, 0.9, 1.0, 1.1)
SCALED = tuple(Row(network=f"{_SCALED}{each:g}") for each in LAMBDAS)
# Gates of Table 1 at their initial bias b_g, on pre-activation units, where f is the
# identity and nothing but the gate stands on the shortcut.
GATED = tuple(
    Row(network=f"preact_resnet110:shortcut={kind}:gate_bias={bias}", equations=False)
    for kind in ("exclusive_gating", "shortcut_only_gating")
    for bias in (0, -6)
)


@dataclass(frozen=True, kw_only=True)
class PlainRow:
    """A plain network, whose kernels' deviation is `factor` times He et al.'s (2015)."""

    network: str
    batch_norm: bool
    factor: float


PLAIN = tuple(
    PlainRow(network=network, batch_norm=batch_norm, factor=factor)
    for network in ("plain20", "plain56")
    for batch_norm in (False, True)
    for factor in (0.7, 1.0, 1.4)
)
DEEPEST_PLAIN = "plain56"
VANISHED, EXPLODED = 1e-6, 1e6  # 54 convolutions: 0.7 ** 54 and 1.4 ** 54 are beyond
INVARIANT = 1e-3  # batch norm takes the factor out again, but for its epsilon


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim, and what came of it."""

    about: str  # network, or what else
    claim: str
    value: float
    low: float | None = None
    high: float | None = None
    exact: bool = False  # an equation: that it fails is a fault of the program

    @property
    def holds(self) -> bool:
        """Whether the value is within the bounds; not a number is not."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return low <= self.value <= high
