"""Section `evaluation`: how the winner is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How the winner is chosen; always on the eval split, never on test."""

    policy: Literal["best", "superior", "non_inferior"] = setting(
        "best",
        "best: the lowest eval error is pushed; superior: another than the baseline only "
        "if it is better beyond doubt; non_inferior: only if it is worse by less than the "
        "margin",
    )
    margin: float = setting(
        0.01, "non_inferior: error rate that may be lost", low=0.0, high=1.0
    )
    max_error: float | None = setting(
        None,
        "no model with a higher error rate is pushed; none: that of always answering the "
        "most frequent class",
        low=0.0,
        high=1.0,
    )
    service_margin: float = setting(
        0.0,
        "error rate that may be lost, beyond doubt, to the model in service",
        low=0.0,
        high=1.0,
    )
    slice_margin: float = setting(
        0.05,
        "the same on any slice (class, brightness, contrast; data.encoded: size)",
        low=0.0,
        high=1.0,
    )
    max_ece: float | None = setting(
        0.3, "highest expected calibration error of a pushed model", low=0.0, high=1.0
    )
    crops: Literal["center", "ten", "multi_scale"] = setting(
        "center",
        "data.encoded: the middle of a picture; its corners and middle, mirrored, too; or "
        "these ten at five sizes. Probabilities are averaged",
    )
    batch_size: int = setting(128, "images per forward pass", low=1, high=65_536)
