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
    scheduling: Literal["on_demand", "spot", "flex_start", "reservation"] = setting(
        "on_demand",
        "how the training jobs get their machines: spot may be taken away (a stopped job "
        "goes on from its checkpoint), flex_start waits until GPUs are free, reservation "
        "takes those of vertex.reservation",
    )
    wait_hours: float = setting(
        24.0,
        "flex_start: how long a job waits for its machine; 0: for ever",
        low=0.0,
        high=8760.0,
    )
    reservation: str | None = setting(
        None,
        "reservation: projects/<project>/zones/<zone>/reservations/<name> of Compute Engine",
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
    network_attachment: str | None = setting(
        None,
        "Private Service Connect in place of peering: "
        "projects/<project>/regions/<region>/networkAttachments/<name>",
    )
    kms_key: str | None = setting(
        None,
        "key of your own (CMEK) for what the run makes on Google Cloud: "
        "projects/<project>/locations/<region>/keyRings/<ring>/cryptoKeys/<key>",
    )
    endpoint_machine_type: str = setting(
        "n1-standard-2", "endpoint: of each node that answers"
    )
    endpoint_projects: str | None = setting(
        None,
        "endpoint: ids of projects, divided by commas, that reach it by Private Service "
        "Connect; nobody else does then, and it has no public address",
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
    beam_subnetwork: str | None = setting(
        None,
        "dataflow: of the workers, regions/<region>/subnetworks/<name> or the whole "
        "address (a shared network); they get no public addresses then",
    )
    beam_max_workers: int = setting(
        4, "dataflow: most workers; flink, spark: parallelism", low=1, high=1000
    )
    beam_arguments: str | None = setting(
        None,
        "more options of Beam and its runner, divided by commas, such as "
        "--number_of_worker_harness_threads=4",
    )
    experiment: str | None = setting(
        None, "Vertex AI Experiment that gets parameters and metrics of each network"
    )
    tensorboard: str | None = setting(
        None,
        "experiment: projects/<project>/locations/<region>/tensorboards/<number>, which "
        "gets the learning curves",
    )
    budget_usd: float | None = setting(
        None,
        "a run that would cost more, by the estimate, is not submitted",
        low=0.01,
        high=1e6,
    )
