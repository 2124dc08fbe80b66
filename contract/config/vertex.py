"""Section `vertex`: where and on what a run on Vertex AI runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class VertexConfig:
    """Where and on what a run on Vertex AI runs; a local run ignores it."""

    project: str | None = setting(None, "Google Cloud project (--project)")
    region: str = setting("us-central1", "region (--region)")
    hardware: str = setting(
        "cpu", "what trains: row of pipeline/vertex/hardware.py, e.g. gpu8 or tpu-v3-8"
    )
    machine_type: str | None = setting(
        None, "of the training jobs (default: the hardware's)"
    )
    disk_gb: int = setting(
        100, "boot disk of the training jobs, in GB", low=100, high=64_000
    )
    spot: bool = setting(
        False, "train on spot capacity; a stopped job goes on from its checkpoint"
    )
    repository: str | None = setting(
        None,
        "of the images (default: <region>-docker.pkg.dev/<project>/cifar-resnet)",
    )
    image_tag: str = setting("0.1.0", "tag of the images: a release of this project")
    serving_image: str | None = setting(
        None,
        "registry, endpoint: image that serves the model (default: the pipeline's)",
    )
    service_account: str | None = setting(
        None, "whose rights the run has (default: the project's Compute Engine account)"
    )
    beam_service_account: str | None = setting(
        None, "dataflow: whose rights the workers have (default: the run's)"
    )
    network: str | None = setting(
        None, "VPC network, projects/<number>/global/networks/<name>"
    )
    beam: Literal["in_process", "dataflow", "flink", "spark"] = setting(
        "in_process",
        "what carries out Beam: the step's own machine (60,000 images need no more), "
        "Dataflow, or a Flink or Spark cluster at vertex.beam_endpoint",
    )
    beam_endpoint: str | None = setting(
        None, "flink, spark: host:port of the cluster's job service"
    )
    beam_machine_type: str = setting("n2-standard-4", "dataflow: of the workers")
    beam_max_workers: int = setting(
        4, "dataflow: most workers; flink, spark: parallelism", low=1, high=1000
    )
    budget_usd: float | None = setting(
        None,
        "a run that would cost more, by the estimate, is not submitted",
        low=0.01,
        high=1e6,
    )
