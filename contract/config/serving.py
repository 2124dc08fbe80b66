"""Section `serving`: where the winner goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract import paths
from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Where the winner goes."""

    model_name: str = setting("cifar", "name under which TF Serving finds the model")
    base_directory: str | None = setting(
        None,
        "folder of model folders (default: <output_root>/serving)",
        problem=paths.pattern_problem,
    )
    push: Literal["directory", "registry", "endpoint"] = setting(
        "directory",
        "directory: a folder that TF Serving watches; on Vertex AI also registry: Model "
        "Registry, or endpoint: registry and a share of an Endpoint's traffic",
    )
    registry_alias: str = setting(
        "champion", "registry: alias that moves to the newest version"
    )
    endpoint: str | None = setting(
        None, "endpoint: its resource name or number; none: made on the first push"
    )
    canary_percent: int = setting(
        10, "endpoint: share of the traffic for the new version", low=1, high=100
    )
