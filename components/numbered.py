"""Inputs that there may be many of: `answers_000`, `answers_001` and so on.

TFX compiles neither a union of channels nor a list of them for Vertex AI; numbered
optional inputs it does. Numbers give an order and nothing else: whose an artifact is, it
says itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# As many artifacts as a task of Vertex AI takes.
MOST = 100


def inputs(name: str, kind: Any, most: int = MOST) -> dict[str, Any]:
    """What stands in the annotation of a function's `**inputs`, see components.declaration.

    Each of them may be missing.
    """
    return {key(name, number): kind | None for number in range(most)}


def given(name: str, channels: Iterable[Any]) -> dict[str, Any]:
    """What a node is given for them, in their order."""
    return {key(name, number): channel for number, channel in enumerate(channels)}


def key(name: str, number: int) -> str:
    """Name of one of them."""
    return f"{name}_{number:03d}"
