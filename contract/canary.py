"""What a server made of the winner: canary.json of an InfraBlessing.

The ServingCanary writes it, the report reads it. A leaf: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.typed_json import Count, Record, Size


@dataclass(frozen=True, kw_only=True)
class SignatureCheck(Record):
    """What one signature answered, held against the training path."""

    ok: bool
    max_abs_difference: Size | None  # of a probability; None: there is no such number
    reason: str | None  # the first thing that is wrong, as a sentence


@dataclass(frozen=True, kw_only=True)
class CanaryResult(Record):
    """The verdict about serving a model, with its figures."""

    passed: bool
    reasons: tuple[str, ...]  # against the model, each a sentence
    server: str | None  # CanaryConfig.server; None: not known
    load_seconds: Size | None = None  # None: it never became ready, or was not tried
    p50_ms: Size | None = None  # of requests with one image; None: there were none
    p99_ms: Size | None = None
    requests: Count = 0  # of those
    # Median of requests with one image, the models taking turns: of the winner, by its
    # name, and of "in_service" or else "baseline", unless that won.
    latency_ms: Mapping[str, Size] = field(default_factory=dict)
    max_abs_difference: Size | None = None  # the largest of all signatures
    signatures: Mapping[str, SignatureCheck] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.passed == bool(self.reasons):
            raise ValueError(
                "passed must be true if there is no reason against the model, and only then"
            )
