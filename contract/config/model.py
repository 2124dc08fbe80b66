"""Sections `baseline` and `candidate`: the contenders."""

from __future__ import annotations

from dataclasses import dataclass

from contract import paths
from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One contender."""

    network: str = setting(
        "preact_resnet20", "name of a network, e.g. preact_resnet164"
    )
    initial_weights: str | None = setting(
        None,
        "what it starts from: a published version of the same network, the folder of a "
        "model's versions (the newest), or an .npz of weights; none: random numbers",
        problem=paths.pattern_problem,
    )
