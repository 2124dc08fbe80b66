"""What Model Registry and Endpoint need of a run's configuration. Loads nothing heavy."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from contract.config.run import RunConfig
from contract.fields import ConfigError, to_json
from pipeline.vertex import images

# Google's prebuilt images know their own routes and read $AIP_STORAGE_URI themselves; those of
# the optimized TensorFlow runtime (tf_opt) are in vertex-ai-restricted.
_PREBUILT = re.compile(r"-docker\.pkg\.dev/vertex-ai(-restricted)?/prediction/")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One registration; a run of its own needs nothing else."""

    project: str
    region: str
    model_name: str  # id of the model in the registry, and in the container's addresses
    alias: str
    image: str
    own_image: bool  # this project's, started by pipeline/vertex/steps/push/serve.py
    deploy: bool
    endpoint: str | None  # id or resource name; None: the one named like the model
    canary_percent: int
    machine_type: str  # of each node of the endpoint
    kms_key: str | None
    endpoint_projects: str | None  # divided by commas; they alone reach a new endpoint

    @property
    def parent(self) -> str:
        """Resource name of the location."""
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def prebuilt_image(self) -> bool:
        """Whether the image is one of Google's."""
        return bool(_PREBUILT.search(self.image))


def encode(config: RunConfig) -> str:
    """Canonical JSON of what `decode` reads.

    Raises:
        ConfigError: vertex.project is missing.
    """
    vertex, serving = config.vertex, config.serving
    if vertex.project is None:
        raise ConfigError(
            "vertex.project=none: must be the Google Cloud project of the registry; give "
            "it with --project or vertex.project"
        )
    settings = Settings(
        project=vertex.project,
        region=vertex.region,
        model_name=serving.model_name,
        alias=serving.registry_alias,
        image=vertex.serving_image or images.image(vertex, "pipeline"),
        own_image=vertex.serving_image is None,
        deploy=serving.push == "endpoint",
        endpoint=serving.endpoint,
        canary_percent=serving.canary_percent,
        machine_type=vertex.endpoint_machine_type,
        kms_key=vertex.kms_key,
        endpoint_projects=vertex.endpoint_projects,
    )
    return to_json(settings)


def decode(text: str) -> Settings:
    """Reads what `encode` wrote."""
    return Settings(**json.loads(text))
