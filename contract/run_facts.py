"""What only the runner knows of a run: configuration, start, code, machine.

Locally it stands with the run in ML Metadata (`PROPERTY`), on Vertex AI in the
RunConfiguration's run.json. A leaf: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.typed_json import Record, Size

PROPERTY = "run_facts"  # of the run's context: RunFacts as JSON


@dataclass(frozen=True, kw_only=True)
class RunFacts(Record):
    """The facts of a run."""

    # The whole RunConfig; of earlier versions with other fields, so not read as one.
    config: Mapping[str, Any]
    data_reason: str  # why this data set
    started: Size  # seconds since the epoch
    seconds: Size | None = None  # None while it is not known
    commit: str | None = None
    versions: Mapping[str, str]
    platform: str  # the machine in words


@dataclass(frozen=True, kw_only=True)
class RunRecord(Record):
    """A run on Vertex AI: run.json of the RunConfiguration."""

    run_id: str | None  # None: not started by Vertex AI
    facts: RunFacts
    overrides: Mapping[str, Any] = field(default_factory=dict)  # given at its start
    fixed: Mapping[str, Any] = field(default_factory=dict)  # when it was compiled
