"""Work that a step hands to somebody else: training jobs, and Beam's own clusters.

Data for the client libraries that start it; nothing is started here.
"""

from __future__ import annotations

from typing import Any

from components.beam import IN_PROCESS
from contract.config.run import RunConfig
from pipeline.vertex import hardware, images

# What trains needs its own image; CPUs take the one of the steps.
_TRAINER_IMAGES: dict[str, images.Kind] = {
    "cpu": "pipeline",
    "gpu": "trainer-gpu",
    "tpu": "trainer-tpu",
}

# Vertex AI's own limit. A run-time override may make training longer than it looked when
# the specification was compiled; what stops an expensive run is vertex.budget_usd.
_TIMEOUT_SECONDS = 7 * 86_400


def training_job(config: RunConfig, role: str) -> dict[str, Any]:
    """The CustomJob in which a Trainer's `run_fn` runs.

    Args:
        config: Complete and checked.
        role: "baseline" or "candidate".

    Returns:
        google.cloud.aiplatform's CustomJob as plain values; TFX adds the command.
    """
    vertex = config.vertex
    where = hardware.of(vertex)
    specification: dict[str, Any] = {
        "worker_pool_specs": [
            {
                "machine_spec": where.machine_spec,
                "replica_count": 1,
                "disk_spec": {
                    "boot_disk_type": "pd-ssd",
                    "boot_disk_size_gb": vertex.disk_gb,
                },
                "container_spec": {
                    "image_uri": images.image(vertex, _TRAINER_IMAGES[where.image])
                },
            }
        ],
        "scheduling": {
            "strategy": "SPOT" if vertex.spot else "STANDARD",
            "timeout": f"{_TIMEOUT_SECONDS}s",
            # A preempted machine comes back, and training goes on from its checkpoint.
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
    return {
        "display_name": f"{config.pipeline_name}-{role}",
        "job_spec": specification,
        "labels": {"pipeline": config.pipeline_name[:63], "role": role},
    }


def beam_arguments(config: RunConfig) -> list[str]:
    """Command-line options of Beam, for the steps that use it."""
    return _BEAM[config.vertex.beam](config)


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
    if vertex.network is not None:
        # Dataflow wants the name alone; in a network of one's own no machine is public.
        arguments += [f"--network={vertex.network.split('/')[-1]}"]
        arguments += ["--no_use_public_ips"]
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
