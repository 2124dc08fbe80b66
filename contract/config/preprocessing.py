"""Section `preprocessing`: normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class PreprocessingConfig:
    """Normalisation, computed over the train split and served with the model."""

    statistics: Literal["per_channel", "per_pixel"] = setting(
        "per_channel", "one mean and deviation per channel, or per pixel and channel"
    )
    divide_by_std: bool = setting(
        True, "divide by the standard deviation (the paper only subtracts the mean)"
    )
