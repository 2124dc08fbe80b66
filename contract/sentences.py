"""How texts for people are put together. A leaf: standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def enumeration(parts: Sequence[str]) -> str:
    """Like "a", "a and b", "a, b and c"; "" of none."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
