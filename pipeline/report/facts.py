"""What only the runner knows of a run: configuration, start, code, machine.

A leaf: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract import provenance


def run_facts(
    config: Mapping[str, Any],
    data_reason: str,
    began: float,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The facts of a run as plain values.

    Args:
        config: The whole RunConfig as a dictionary.
        data_reason: Why this data set.
        began: Start, seconds since the epoch.
        seconds: Duration of the run; None while it is not known.
    """
    return {
        "config": dict(config),
        "data_reason": data_reason,
        "started": began,
        "seconds": seconds,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "platform": provenance.machine(),
    }
