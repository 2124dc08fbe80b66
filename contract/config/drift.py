"""Section `drift`: how far data may be from those of earlier runs."""

from __future__ import annotations

from dataclasses import dataclass

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """How far data may be from those of the last accepted run, and split from split.

    Labels: change of a class's share of all images, in even shares (1 / classes).
    Images: Jensen-Shannon divergence of brightness, contrast, colours and sharpness.
    Smaller changes pass, and so do larger ones that chance explains in small splits.
    """

    labels: float | None = setting(
        0.5,
        "a class's change since the last accepted run, in even shares; none: off",
        low=0.0,
        high=1000.0,
    )
    images: float | None = setting(
        0.02,
        "divergence of the images from the last accepted run's; none: off",
        low=0.0,
        high=1.0,
    )
    skew_labels: float | None = setting(
        0.5,
        "a class's difference of eval or test from train, in even shares; none: off",
        low=0.0,
        high=1000.0,
    )
    skew_images: float | None = setting(
        0.02,
        "divergence of the images of eval or test from train's; none: off",
        low=0.0,
        high=1.0,
    )
