"""What a Trainer's step has started, written down beside the checkpoints.

A step that is tried again reads here which job is its own. Each attempt is written down
before its job is asked for, so that one whose name the service never told is known to be
looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Attempt:
    """A job that was asked for."""

    token: str  # its label, and the name of its folders
    work: str  # digest of what it does; another one is no substitute
    since: float  # seconds since 1970
    outputs: dict[str, str]  # key of an output -> the attempt's own folder
    job: str | None = None  # the service's name, once it is known


class Record(Protocol):
    """Where a step's attempts are written down."""

    def read(self) -> list[Attempt]:
        """All attempts, in the order in which they began."""
        ...

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Replaces what is there, as a whole."""
        ...
