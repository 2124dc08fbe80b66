"""Work that a step hands to somebody else: training jobs, and Beam's own clusters.

Data for the client libraries that start it; nothing is started here.
"""

from __future__ import annotations

from typing import Any

from components.beam import IN_PROCESS
from contract.config.run import RunConfig
from contract.config.vertex import VertexConfig
from pipeline.vertex import hardware, images
from pipeline.vertex.machines import boot_disk

# What trains needs its own image; CPUs take the one of the steps.
_TRAINER_IMAGES: dict[str, images.Kind] = {
    "cpu": "pipeline",
    "gpu": "trainer-gpu",
    "tpu": "trainer-tpu",
}

# Vertex AI's own limit. A run-time override may make training longer than it looked when
# the specification was compiled; what stops an expensive run is vertex.budget_usd.
TIMEOUT_SECONDS = 7 * 86_400

# vertex.scheduling -> Vertex AI's Scheduling.Strategy.
_STRATEGIES = {
    "on_demand": "STANDARD",
    "spot": "SPOT",
    "flex_start": "FLEX_START",
    "reservation": "STANDARD",
}


def training_job(config: RunConfig, role: str) -> dict[str, Any]:
    """The CustomJob in which a Trainer's `run_fn` runs.

    Args:
        config: Complete and checked.
        role: Name of the contender.

    Returns:
        google.cloud.aiplatform's CustomJob as plain values; TFX adds the command.
    """
    vertex = config.vertex
    where = hardware.of(vertex)
    container: dict[str, Any] = {
        "image_uri": images.image(vertex, _TRAINER_IMAGES[where.image])
    }
    if where.environment:
        container["env"] = [
            {"name": name, "value": value} for name, value in where.environment
        ]
    pool = {
        "machine_spec": where.machine_spec | _reserved(vertex),
        "replica_count": 1,
        "disk_spec": {
            "boot_disk_type": boot_disk(where.machine_type),
            "boot_disk_size_gb": vertex.disk_gb,
        },
        "container_spec": container,
    }
    # The first pool is the chief, and the second one has the other machines. All of them get
    # TF_CONFIG, which names the pools chief and worker: section "Environment variables for
    # your cluster" of https://cloud.google.com/vertex-ai/docs/training/distributed-training
    pools = [pool]
    if where.machines > 1:
        pools.append(pool | {"replica_count": where.machines - 1})
    specification: dict[str, Any] = {
        "worker_pool_specs": pools,
        "scheduling": {
            "strategy": _STRATEGIES[vertex.scheduling],
            "timeout": f"{TIMEOUT_SECONDS}s",
            # A preempted machine comes back, and training goes on from its checkpoint; of
            # several, all begin again.
            "restart_job_on_worker_restart": True,
        },
        "base_output_directory": {
            "output_uri_prefix": f"{config.output_root}/jobs/{role}"
        },
    }
    if vertex.service_account is not None:
        specification["service_account"] = vertex.service_account
    if vertex.network is not None:
        specification["network"] = vertex.network
    if vertex.network_attachment is not None:
        specification["psc_interface_config"] = {
            "network_attachment": vertex.network_attachment
        }
    if vertex.scheduling == "flex_start":
        seconds = round(3600 * vertex.wait_hours)
        specification["scheduling"]["max_wait_duration"] = f"{seconds}s"
    job: dict[str, Any] = {
        "display_name": f"{config.pipeline_name}-{role}",
        "job_spec": specification,
        "labels": {"pipeline": config.pipeline_name[:63], "role": role},
    }
    if vertex.kms_key is not None:
        job["encryption_spec"] = {"kms_key_name": vertex.kms_key}
    return job


def _reserved(vertex: VertexConfig) -> dict[str, Any]:
    """For a MachineSpec: which reservation of Compute Engine the machine comes from."""
    if vertex.reservation is None:
        return {}
    affinity = {
        "reservation_affinity_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [vertex.reservation],
    }
    return {"reservation_affinity": affinity}


def beam_arguments(config: RunConfig) -> list[str]:
    """Command-line options of Beam, for the steps that use it."""
    more = config.vertex.beam_arguments
    return [*_BEAM[config.vertex.beam](config), *(more.split(",") if more else ())]


def _in_process(_: RunConfig) -> list[str]:
    return [*IN_PROCESS]


def _dataflow(config: RunConfig) -> list[str]:
    vertex = config.vertex
    arguments = [
        "--runner=DataflowRunner",
        f"--project={vertex.project}",
        f"--region={vertex.region}",
        f"--temp_location={config.output_root}/dataflow/temp",
        f"--staging_location={config.output_root}/dataflow/staging",
        f"--sdk_container_image={images.image(vertex, 'beam-worker')}",
        "--sdk_location=container",
        "--experiments=use_runner_v2",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        f"--max_num_workers={vertex.beam_max_workers}",
        f"--worker_machine_type={vertex.beam_machine_type}",
    ]
    account = vertex.beam_service_account or vertex.service_account
    if account is not None:
        arguments.append(f"--service_account_email={account}")
    if vertex.beam_subnetwork is not None:
        arguments.append(f"--subnetwork={vertex.beam_subnetwork}")
    elif vertex.network is not None:
        # Dataflow wants the name alone.
        arguments.append(f"--network={vertex.network.split('/')[-1]}")
    if vertex.beam_subnetwork is not None or vertex.network is not None:
        # In a network of one's own no machine is public; its subnetwork needs Private
        # Google Access, without which workers reach no bucket.
        arguments.append("--no_use_public_ips")
    if vertex.kms_key is not None:
        arguments.append(f"--dataflow_kms_key={vertex.kms_key}")
    return arguments


def _portable(config: RunConfig) -> list[str]:
    # The cluster's machines have a pool of workers beside them, from the same image.
    return [
        "--runner=PortableRunner",
        f"--job_endpoint={config.vertex.beam_endpoint}",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
        f"--parallelism={config.vertex.beam_max_workers}",
    ]


_BEAM = {
    "in_process": _in_process,
    "dataflow": _dataflow,
    "flink": _portable,
    "spark": _portable,
}
