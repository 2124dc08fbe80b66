"""The facts of a run, gathered where it is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract import provenance
from contract.run_facts import RunFacts


def run_facts(
    config: Mapping[str, Any],
    data_reason: str,
    began: float,
    seconds: float | None = None,
) -> RunFacts:
    """What this process, machine and code add to a run's configuration.

    Args:
        config: The whole RunConfig as a dictionary.
        data_reason: Why this data set.
        began: Start, seconds since the epoch.
        seconds: Duration of the run; None while it is not known.
    """
    return RunFacts(
        config=dict(config),
        data_reason=data_reason,
        started=began,
        seconds=seconds,
        commit=provenance.commit(),
        versions=provenance.versions(),
        platform=provenance.machine(),
    )
