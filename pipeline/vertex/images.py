"""Which container image a step or a job runs in. A leaf."""

from __future__ import annotations

from typing import Literal

from contract.config.vertex import VertexConfig
from contract.fields import ConfigError

# pipeline: every step, and training on CPUs; beam-worker: Dataflow, Flink and Spark.
Kind = Literal["pipeline", "trainer-gpu", "trainer-tpu", "beam-worker"]

_REPOSITORY = "cifar-resnet"  # of Artifact Registry


def repository(config: VertexConfig) -> str:
    """Where the images are.

    Raises:
        ConfigError: Neither repository nor project is configured.
    """
    if config.repository:
        return config.repository.rstrip("/")
    if config.project is None:
        raise ConfigError(
            "vertex.project=none: must be the Google Cloud project, in which the images "
            "are; give it with --project or vertex.project"
        )
    return f"{config.region}-docker.pkg.dev/{config.project}/{_REPOSITORY}"


def image(config: VertexConfig, kind: Kind) -> str:
    """Address of an image, with its tag.

    Raises:
        ConfigError: As `repository`.
    """
    return f"{repository(config)}/{kind}:{config.image_tag}"
