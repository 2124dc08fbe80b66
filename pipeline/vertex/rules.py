"""What Vertex AI could not run is refused before anybody is asked, in one sentence.

A module of the form of `pipeline.resolve.Rules`; its answers depend on what was typed
alone, so that whoever compiles, and the container that resolves again in a run, get the
same ones. Machine types are checked where they are looked up (hardware.py), the forms of
names in names.py; here is what several fields say together. Quotas, rights and free
capacity only Google knows. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.example_gen import choice
from components.serving_canary import server
from contract.config.run import RunConfig
from contract.config.vertex import VertexConfig
from contract.fields import ConfigError, override, value_of
from pipeline.presets import Row
from pipeline.vertex import hardware, jobs, names
from pipeline.vertex.hardware import Hardware, did_you_mean
from pipeline.vertex.machines import (
    ACCELERATOR_REGIONS,
    CPU_MACHINES,
    ENDPOINT_MACHINES,
    FLEX_START,
    LOCATIONS_PAGE,
    NEVER_ON_DEMAND,
    READ_IN,
    REGIONS,
)


def places(
    asked: RunConfig,
    overrides: Mapping[str, str],
    environment: Mapping[str, str],  # noqa: ARG001
    directory: str,  # noqa: ARG001
) -> dict[str, str | None]:
    """Addresses in object storage, or nothing."""
    # Before anybody looks for it on this machine, and says how to prepare it there.
    if asked.data.tfds is not None:
        raise ConfigError(
            f"data.tfds={asked.data.tfds}: is read from this machine's disks and does not "
            "run on Vertex AI; run it locally, or choose data.name=cifar10 or cifar100"
        )
    if "output_root" not in overrides:
        raise ConfigError(
            "output_root is missing: on Vertex AI it must be a folder in Cloud Storage, "
            "gs://bucket/folder"
        )
    found: dict[str, str | None] = {}
    for field in names.ADDRESSES:
        value = value_of(asked, field)
        if value is not None:
            value = value.rstrip("/")
            names.check_address(field, value)
        found[field] = value
    return found


def data_set(path: str | None, tfds_dir: str | None) -> tuple[str, str]:
    """What the address of the data is called, or else CIFAR-10."""
    if path:
        return choice.resolve_auto(tfds_dir, path=path)
    return "cifar10", "what auto means on Vertex AI"


def row(asked: RunConfig) -> Row:
    """The hardware's."""
    return dict(hardware.of(asked.vertex).row)


def check(config: RunConfig) -> None:
    """Refuses what Vertex AI could not run, as far as that can be known offline.

    Args:
        config: Complete; presets and the hardware's row applied.

    Raises:
        ConfigError: One sentence with field, value, rule and remedy.
    """
    if config.canary.server != server.EMBEDDED:
        raise ConfigError(
            f"canary.server={config.canary.server}: the containers on Vertex AI have "
            "neither Docker nor this machine's programs; choose "
            f"canary.server={server.EMBEDDED}"
        )
    where = hardware.of(config.vertex)
    names.check(config)
    _check_region(config.vertex, where)
    _check_scheduling(config.vertex, where)
    _check_devices(config, where)
    _check_elsewhere(config)
    _check_push(config)


def check_beam(config: RunConfig) -> None:
    """The part of `check` that `predict` needs, where Beam is all that runs elsewhere."""
    names.check_forms(config, "vertex.")
    _check_region(config.vertex, hardware.HARDWARE["cpu"])
    _check_elsewhere(config)


def _check_elsewhere(config: RunConfig) -> None:
    """Where data and Beam are."""
    _check_places(config)
    _check_beam(config.vertex)
    _check_beam_arguments(config)


def _check_region(config: VertexConfig, where: Hardware) -> None:
    region = config.region
    if region not in REGIONS:
        raise ConfigError(
            f"vertex.region={region}: Vertex AI trains in no such region"
            f"{did_you_mean(region, REGIONS) or f'; {LOCATIONS_PAGE} lists them'}"
        )
    if where.accelerator_type is None:
        return
    there = ACCELERATOR_REGIONS[where.accelerator_type]
    if region not in there:
        raise ConfigError(
            f"vertex.region={region}: Vertex AI trains on no {where.accelerator_type} "
            f"there ({READ_IN}); choose one of {', '.join(there)}, or another "
            "vertex.hardware"
        )


def _check_scheduling(config: VertexConfig, where: Hardware) -> None:
    way = config.scheduling
    if where.machine_type in NEVER_ON_DEMAND and way not in ("spot", "flex_start"):
        raise ConfigError(
            f"vertex.scheduling={way}: Google has {where.machine_type} "
            f"(vertex.hardware={config.hardware}) as spot or flex-start only; choose "
            "vertex.scheduling=spot or flex_start, or vertex.hardware=gpu8-h100"
        )
    if way == "flex_start" and where.accelerator_type not in FLEX_START:
        raise ConfigError(
            f"vertex.scheduling=flex_start: is for the GPUs L4, A100 and H100, and "
            f"vertex.hardware={config.hardware} has none of them; choose on_demand or spot"
        )
    if (way == "reservation") != (config.reservation is not None):
        raise ConfigError(
            f"vertex.scheduling={way}, vertex.reservation={config.reservation}: belong "
            "together; give both (vertex.scheduling=reservation), or neither"
        )


# Fields whose value names a region, and where in it: these must be the run's.
_REGIONAL = (
    ("vertex.reservation", r"/zones/(.+)-[a-z]/"),
    ("vertex.network_attachment", r"/regions/([^/]+)/"),
    ("vertex.beam_subnetwork", r"regions/([^/]+)/"),
    ("vertex.kms_key", r"/locations/([^/]+)/"),
    ("vertex.tensorboard", r"/locations/([^/]+)/"),
    ("vertex.repository", r"^([a-z]+-[a-z]+[0-9]+)-docker\.pkg\.dev/"),
    ("vertex.serving_image", r"^([a-z]+-[a-z]+[0-9]+)-docker\.pkg\.dev/"),
)


def _check_places(config: RunConfig) -> None:
    """What lies in a region must lie in the run's; of images, multi-regions fit all."""
    for field, pattern in _REGIONAL:
        value = value_of(config, field)
        found = re.search(pattern, value) if value else None
        if found and found[1] != config.vertex.region:
            raise ConfigError(
                f"{field}={value}: is in {found[1]}, and the run in "
                f"vertex.region={config.vertex.region}; both must be in one region"
            )
    vertex = config.vertex
    if vertex.network is not None and vertex.network_attachment is not None:
        raise ConfigError(
            f"vertex.network_attachment={vertex.network_attachment}: a job is either "
            "peered with vertex.network or connected by Private Service Connect; leave "
            "one out"
        )
    if vertex.tensorboard is not None and vertex.experiment is None:
        raise ConfigError(
            f"vertex.tensorboard={vertex.tensorboard}: gets the curves of an experiment's "
            "runs; give vertex.experiment, too, or leave it out"
        )


def _check_devices(config: RunConfig, where: Hardware) -> None:
    """Strategy, replicas and precision must use the hardware, and all of it."""
    train, name = config.train, config.vertex.hardware
    is_tpu = where.image == "tpu"
    if is_tpu != (train.strategy == "tpu" or train.tpu is not None):
        raise ConfigError(
            f"train.strategy={train.strategy}, train.tpu={train.tpu}: "
            + (
                f"vertex.hardware={name} is a TPU; leave both out"
                if is_tpu
                else f"vertex.hardware={name} is no TPU; choose one, e.g. tpu-v3-8"
            )
        )
    if is_tpu and (train.tpu != "local" or train.strategy not in ("auto", "tpu")):
        raise ConfigError(
            f"train.strategy={train.strategy}, train.tpu={train.tpu}: a training job of "
            "Vertex AI runs on the TPU's own host; leave both out"
        )
    replicas = train.replicas or (1 if train.strategy == "single" else where.devices)
    if replicas != where.devices:
        raise ConfigError(
            f"train.replicas={replicas}: vertex.hardware={name} has {where.devices} "
            f"device{'s' if where.devices > 1 else ''}, "
            + (
                "and no more replicas than that can train"
                if replicas > where.devices
                else "and the others would be paid for and stand idle"
            )
            + "; leave train.strategy and train.replicas out, or choose other hardware"
        )
    if train.global_batch_size % replicas:
        raise ConfigError(
            f"train.global_batch_size={train.global_batch_size}: must divide by the "
            f"{replicas} devices of vertex.hardware={name}"
        )
    if (where.machines > 1) != (train.strategy == "multi_worker"):
        raise ConfigError(
            f"train.strategy={train.strategy}: vertex.hardware={name} is {where.machine}, "
            "and multi_worker is for several machines, which train by nothing else; leave "
            "train.strategy out"
        )
    if train.precision == "mixed_float16" and where.image != "gpu":
        raise ConfigError(
            f"train.precision=mixed_float16: needs a GPU, and vertex.hardware={name} has "
            "none; choose train.precision=mixed_bfloat16"
        )


def _check_beam(config: VertexConfig) -> None:
    portable = config.beam in ("flink", "spark")
    if portable and config.beam_endpoint is None:
        raise ConfigError(
            f"vertex.beam={config.beam}: needs the cluster's job service, host:port, in "
            "vertex.beam_endpoint"
        )
    if not portable and config.beam_endpoint is not None:
        raise ConfigError(
            f"vertex.beam_endpoint={config.beam_endpoint}: vertex.beam={config.beam} has no "
            "job service; choose vertex.beam=flink or spark, or leave it out"
        )
    if config.beam_service_account is not None and config.beam != "dataflow":
        raise ConfigError(
            f"vertex.beam_service_account={config.beam_service_account}: is that of "
            f"Dataflow's workers, and vertex.beam={config.beam} has none; leave it out, or "
            "choose vertex.beam=dataflow"
        )
    if config.beam_subnetwork is not None and config.beam != "dataflow":
        raise ConfigError(
            f"vertex.beam_subnetwork={config.beam_subnetwork}: is that of Dataflow's "
            f"workers, and vertex.beam={config.beam} has none; leave it out, or choose "
            "vertex.beam=dataflow"
        )
    if config.beam_machine_type not in CPU_MACHINES:
        raise ConfigError(
            f"vertex.beam_machine_type={config.beam_machine_type}: must be a machine type "
            "without accelerators, such as n2-standard-4"
            f"{did_you_mean(config.beam_machine_type, CPU_MACHINES)}"
        )


# What Beam calls an option besides, or what undoes it.
_SAME_OPTION = {
    "--worker_machine_type": "--machine_type",
    "--no_use_public_ips": "--use_public_ips",
}


def _check_beam_arguments(config: RunConfig) -> None:
    """What other fields set must not be given again; `--experiments` is a list."""
    given = config.vertex.beam_arguments
    others = jobs.beam_arguments(override(config, {"vertex.beam_arguments": None}))
    taken = {each.partition("=")[0] for each in others} - {"--experiments"}
    taken |= {_SAME_OPTION[each] for each in taken if each in _SAME_OPTION}
    if config.vertex.beam == "dataflow":
        taken.add("--job_name")  # by which `cancel` finds the job
    for option in given.split(",") if given else ():
        if (name := option.partition("=")[0]) in taken:
            raise ConfigError(
                f"vertex.beam_arguments={given}: {name} comes from the fields vertex.beam "
                "and those beside it; leave it out"
            )


# Fields that only some ways to push read: field, its default, the ways.
_PUSH_FIELDS = (
    ("serving.registry_alias", "champion", ("registry", "endpoint")),
    ("serving.endpoint", None, ("endpoint",)),
    ("serving.canary_percent", 10, ("endpoint",)),
    ("vertex.serving_image", None, ("registry", "endpoint")),
    ("vertex.endpoint_machine_type", "n1-standard-2", ("endpoint",)),
    ("vertex.endpoint_projects", None, ("endpoint",)),
)


def _check_push(config: RunConfig) -> None:
    push = config.serving.push
    for field, default, ways in _PUSH_FIELDS:
        value = value_of(config, field)
        if value != default and push not in ways:
            raise ConfigError(
                f"{field}={value}: serving.push={push} does not read it; leave it out, or "
                f"choose serving.push={' or '.join(ways)}"
            )
    machine = config.vertex.endpoint_machine_type
    if machine not in ENDPOINT_MACHINES:
        raise ConfigError(
            f"vertex.endpoint_machine_type={machine}: must be a machine type without "
            f"accelerators{did_you_mean(machine, ENDPOINT_MACHINES)}"
        )
    endpoint = config.serving.endpoint
    if endpoint and config.vertex.endpoint_projects:
        raise ConfigError(
            f"vertex.endpoint_projects={config.vertex.endpoint_projects}: is for an "
            f"endpoint that the push makes, and serving.endpoint={endpoint} is there "
            "already; leave one out"
        )
    if endpoint and "/" in endpoint:
        region = endpoint.split("/")[3]
        if region != config.vertex.region:
            raise ConfigError(
                f"serving.endpoint={endpoint}: is in {region}, and the run in "
                f"vertex.region={config.vertex.region}; both must be in one region"
            )
