"""Section `canary`: what the winner must do before it is pushed."""

from __future__ import annotations

from dataclasses import dataclass

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """What the winner must do in a server of its own before it is pushed."""

    server: str = setting(
        "embedded",
        "embedded (serving.server), a tensorflow_model_server program, or docker:<image>",
    )
    max_load_seconds: float = setting(
        120.0, "from the server's start until the model answers", low=0.1, high=3600
    )
    max_p50_ms: float = setting(
        1000.0, "median of requests with one image, one at a time", low=0.01, high=1e6
    )
    max_p99_ms: float = setting(
        3000.0, "99th percentile of the same requests", low=0.01, high=1e6
    )
    answer_tolerance: float = setting(
        0.01,
        "largest difference of a probability from the training path's",
        low=0.0,
        high=1.0,
    )
    requests: int = setting(
        50, "requests with one image that are timed", low=1, high=10_000
    )
    max_latency_ms: float | None = setting(
        None,
        "median of requests with one image, the model and the one that it may replace "
        "taking turns",
        low=0.0,
        high=3_600_000,
    )
    max_latency_ratio: float | None = setting(
        5.0,
        "the same, in times of the model in service, or else of the baseline",
        low=0.1,
        high=1000,
    )
