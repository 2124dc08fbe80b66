"""The hardware that a person chooses by name.

Comes in: `vertex.hardware` and `vertex.machine_type`. Goes out: the machine of the
training jobs with the training settings that it implies, or one sentence that says why
there is no such machine. What every other step is given is in pipeline/nodes.py, what
Vertex AI offers at all in pipeline/vertex/machines.py. Standard library only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from contract.config.vertex import VertexConfig
from contract.fields import ConfigError
from pipeline.presets import Row
from pipeline.vertex.machines import (
    COMBINATIONS,
    CPU_MACHINES,
    MACHINES,
    MACHINES_PAGE,
)


@dataclass(frozen=True)
class Hardware:
    """The machines of one training job, and the settings that they imply."""

    machine_type: str
    accelerator_type: str | None  # a name of Vertex AI's AcceleratorType
    accelerator_count: int  # TPU v2 and v3: cores; else chips or cards
    tpu_topology: str | None  # TPU v5e only
    image: Literal["cpu", "gpu", "tpu"]
    row: Row  # of RunConfig fields; applied after the preset, before overrides
    environment: tuple[tuple[str, str], ...] = ()  # of the training's container
    machines: int = 1  # of this kind, which train one network together

    @property
    def devices(self) -> int:
        """How many replicas keep all of it busy."""
        return self.machines * max(1, self.accelerator_count)

    @property
    def machine_spec(self) -> dict[str, Any]:
        """Vertex AI's MachineSpec; of a TPU v5e, machine type and topology say it all."""
        spec: dict[str, Any] = {"machine_type": self.machine_type}
        if self.tpu_topology:
            return spec | {"tpu_topology": self.tpu_topology}
        if self.accelerator_type:
            spec["accelerator_type"] = self.accelerator_type
            spec["accelerator_count"] = self.accelerator_count
        return spec

    @property
    def accelerators(self) -> str:
        """Of each machine, for people: "8 NVIDIA_L4", or nothing."""
        if self.accelerator_type is None:
            return ""
        return f"{self.accelerator_count} {self.accelerator_type}"

    @property
    def machine(self) -> str:
        """For people: "g2-standard-96", or "2 x g2-standard-96"."""
        if self.machines == 1:
            return self.machine_type
        return f"{self.machines} x {self.machine_type}"


# A checkpoint in a bucket takes a second or two to write.
_ANY: Row = {"train.checkpoint_seconds": 120.0}
_ONE: Row = {**_ANY, "train.strategy": "single"}


def _mirrored(replicas: int) -> Row:
    # Incomplete batches cannot be shared out.
    return {
        **_ANY,
        "train.strategy": "mirrored",
        "train.replicas": replicas,
        "train.last_batch": "drop",
    }


def _together(replicas: int) -> Row:
    # Vertex AI tells the machines of one another: jobs.py.
    return {**_mirrored(replicas), "train.strategy": "multi_worker"}


def _tpu(replicas: int) -> Row:
    # A TPU multiplies in bfloat16 whatever the type of the activations; in bfloat16 they
    # take half the memory. Steps are short, so that the host hands out many at once.
    return {
        **_ANY,
        "train.strategy": "tpu",
        "train.tpu": "local",
        "train.replicas": replicas,
        "train.precision": "mixed_bfloat16",
        "train.last_batch": "drop",
        "train.steps_per_execution": 50,
    }


# TensorFlow reaches a TPU v5e by the PJRT interface, which it is told by the environment;
# v2 and v3 it drives itself, and must not be told. The library is where the image
# trainer-tpu has it (deploy/images/requirements-tpu.txt).
_PJRT = (
    ("NEXT_PLUGGABLE_DEVICE_USE_C_API", "true"),
    (
        "TF_PLUGGABLE_DEVICE_LIBRARY_PATH",
        "/opt/venv/lib/python3.11/site-packages/libtpu/libtpu.so",
    ),
)


def _v5e(chips: int, topology: str) -> Hardware:
    machine = f"ct5lp-hightpu-{chips}t"
    return Hardware(
        machine, "TPU_V5_LITEPOD", chips, topology, "tpu", _tpu(chips), _PJRT
    )


HARDWARE: Mapping[str, Hardware] = {
    "cpu": Hardware("n2-standard-16", None, 0, None, "cpu", _ONE),
    "cpu-x2": Hardware(
        "n2-standard-16", None, 0, None, "cpu", _together(2), machines=2
    ),
    "gpu": Hardware("g2-standard-8", "NVIDIA_L4", 1, None, "gpu", _ONE),
    "gpu8": Hardware("g2-standard-96", "NVIDIA_L4", 8, None, "gpu", _mirrored(8)),
    "gpu8-x2": Hardware(
        "g2-standard-96", "NVIDIA_L4", 8, None, "gpu", _together(16), machines=2
    ),
    "gpu-t4": Hardware("n1-standard-8", "NVIDIA_TESLA_T4", 1, None, "gpu", _ONE),
    "gpu-a100": Hardware("a2-highgpu-1g", "NVIDIA_TESLA_A100", 1, None, "gpu", _ONE),
    "gpu8-a100": Hardware(
        "a2-highgpu-8g", "NVIDIA_TESLA_A100", 8, None, "gpu", _mirrored(8)
    ),
    "gpu8-a100-x2": Hardware(
        "a2-highgpu-8g", "NVIDIA_TESLA_A100", 8, None, "gpu", _together(16), machines=2
    ),
    "gpu-a100-80": Hardware("a2-ultragpu-1g", "NVIDIA_A100_80GB", 1, None, "gpu", _ONE),
    # On spot or flex-start alone: rules.py.
    "gpu-h100": Hardware("a3-highgpu-1g", "NVIDIA_H100_80GB", 1, None, "gpu", _ONE),
    "gpu8-h100": Hardware(
        "a3-highgpu-8g", "NVIDIA_H100_80GB", 8, None, "gpu", _mirrored(8)
    ),
    "gpu8-h100-x2": Hardware(
        "a3-highgpu-8g", "NVIDIA_H100_80GB", 8, None, "gpu", _together(16), machines=2
    ),
    "tpu-v2-8": Hardware("cloud-tpu", "TPU_V2", 8, None, "tpu", _tpu(8)),
    "tpu-v3-8": Hardware("cloud-tpu", "TPU_V3", 8, None, "tpu", _tpu(8)),
    # One core per chip. Later TPUs are not here: Vertex AI runs no TensorFlow on them.
    "tpu-v5e-1": _v5e(1, "1x1"),
    "tpu-v5e-4": _v5e(4, "2x2"),
    "tpu-v5e-8": _v5e(8, "2x4"),
}


def of(config: VertexConfig) -> Hardware:
    """The machine of the training jobs, `vertex.machine_type` applied.

    Raises:
        ConfigError: There is no such row, no such machine type, or the machine does not
            take the row's accelerators.
    """
    row = HARDWARE.get(config.hardware)
    if row is None:
        raise ConfigError(
            f"vertex.hardware={config.hardware}: must be one of {', '.join(HARDWARE)}"
            f"{did_you_mean(config.hardware, HARDWARE)}"
        )
    machine = config.machine_type
    if machine is None or machine == row.machine_type:
        return row
    if row.accelerator_type is None:
        fitting: Iterable[str] = CPU_MACHINES
    else:
        fitting = [
            name
            for name, counts in COMBINATIONS[row.accelerator_type].items()
            if row.accelerator_count in counts
        ]
    if machine not in fitting:
        raise ConfigError(_wrong_machine(config, row, list(fitting)))
    return replace(row, machine_type=machine)


def _wrong_machine(config: VertexConfig, row: Hardware, fitting: list[str]) -> str:
    machine = str(config.machine_type)
    start = f"vertex.machine_type={machine}: "
    if machine not in MACHINES:
        return (
            f"{start}Vertex AI trains on no such machine type"
            f"{did_you_mean(machine, MACHINES) or '; ' + MACHINES_PAGE + ' lists them'}"
        )
    if row.accelerator_type is None:
        return (
            f"{start}comes with accelerators, and vertex.hardware={config.hardware} has "
            "none; choose the vertex.hardware that has them"
        )
    return (
        f"{start}does not take {row.accelerators} (vertex.hardware={config.hardware}); "
        f"must be one of {', '.join(fitting)}"
    )


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """A hint at the closest name, or nothing."""
    close = difflib.get_close_matches(value, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
