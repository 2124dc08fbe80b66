"""Sections `baseline` and `candidate`: the contenders."""

from __future__ import annotations

from dataclasses import dataclass

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One contender."""

    network: str = setting(
        "preact_resnet20", "name of a network, e.g. preact_resnet164"
    )
