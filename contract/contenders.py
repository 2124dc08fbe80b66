"""Who takes part in a run: the baseline, the candidate, and more if asked.

Their names are in ids of nodes, in files and in reports. Fixed when a pipeline is compiled.
A leaf: standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BASELINE, CANDIDATE, IN_SERVICE = "baseline", "candidate", "in_service"
# A task of Vertex AI takes 100 artifacts; one is the model in service.
MOST_CONTENDERS = 99
_NAME = re.compile(r"[a-z][a-z0-9]{0,29}")
# What would be mistaken for another node, model or split.
_RESERVED = (BASELINE, CANDIDATE, "inservice", "train", "eval", "test")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A network that is trained, evaluated, and pushed if it wins."""

    name: str  # "baseline", "candidate", or a name of one's own
    network: str  # as trainer.units.parse_network takes it
    seed: int  # of initialisation, order and augmentation
    initial_weights: str | None = None  # path; None: random numbers


def title(name: str) -> str:
    """As the ids of a contender's nodes begin: "Baseline" of BaselineTrainer."""
    return name.capitalize()


def name_problem(name: str) -> str | None:
    """Why a further contender cannot have this name, as a rule; None if it can."""
    if name in _RESERVED:
        return f"must not be one of {', '.join(_RESERVED)}, which mean something else"
    if not _NAME.fullmatch(name):
        return (
            "the name must be lower-case letters and digits, a letter first, at most 30"
        )
    return None


def in_order(names: list[str]) -> list[str]:
    """The baseline first, the model in service last, the others by name."""
    rank = {BASELINE: 0, IN_SERVICE: 2}
    return sorted(names, key=lambda name: (rank.get(name, 1), name))


def names_in(config: Mapping[str, Any]) -> list[str]:
    """The contenders of a recorded configuration, in order.

    Args:
        config: contract.config.run.RunConfig as plain values; of an earlier version too.
    """
    return in_order([BASELINE, CANDIDATE, *config.get("contenders", {})])
