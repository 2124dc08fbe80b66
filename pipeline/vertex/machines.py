"""What Vertex AI's custom training offers: machines, accelerators, regions. Tables alone.

Google's, as documented and read in November 2026: "Configure compute resources" (machine
types, valid numbers of accelerators) and "Locations", section "Using accelerators". When
Google adds a machine or a region, edit it here; estimate/prices.toml has what it costs.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

READ_IN = "November 2026"  # when the tables below were compared with the documentation
LOCATIONS_PAGE = "https://docs.cloud.google.com/vertex-ai/docs/general/locations"
MACHINES_PAGE = (
    "https://docs.cloud.google.com/vertex-ai/docs/training/configure-compute"
)


@dataclass(frozen=True)
class Machine:
    """What a machine type is, apart from its accelerators."""

    vcpus: int
    memory_gb: float


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _sizes(prefix: str, gb_per_vcpu: float, *sizes: int) -> dict[str, Machine]:
    return {f"{prefix}-{n}": Machine(n, n * gb_per_vcpu) for n in sizes}


# Machine types of custom training that need no accelerator. The memory-optimized m1 and
# those that are sold with a reservation only are left out: 60,000 small images need
# neither.
CPU_MACHINES: Mapping[str, Machine] = {
    **_sizes("e2-standard", 4, 4, 8, 16, 32),
    **_sizes("e2-highmem", 8, 2, 4, 8, 16),
    **_sizes("e2-highcpu", 1, 16, 32),
    **_sizes("n1-standard", 3.75, 4, 8, 16, 32, 64, 96),
    **_sizes("n1-highmem", 6.5, 2, 4, 8, 16, 32, 64, 96),
    **_sizes("n1-highcpu", 0.9, 16, 32, 64, 96),
    **_sizes("n2-standard", 4, 4, 8, 16, 32, 48, 64, 80),
    **_sizes("n2-highmem", 8, 2, 4, 8, 16, 32, 48, 64, 80),
    **_sizes("n2-highcpu", 1, 16, 32, 48, 64, 80),
    **_sizes("n4-standard", 4, 2, 4, 8, 16, 32, 48, 64, 80),
    **_sizes("n4-highmem", 8, 2, 4, 8, 16, 32, 48, 64, 80),
    **_sizes("n4-highcpu", 2, 2, 4, 8, 16, 32, 48, 64, 80),
    **_sizes("c2-standard", 4, 4, 8, 16, 30, 60),
}
# Those that come with theirs.
ACCELERATED_MACHINES: Mapping[str, Machine] = {
    **_sizes("g2-standard", 4, 4, 8, 12, 16, 24, 32, 48, 96),
    **{f"a2-highgpu-{n}g": Machine(12 * n, 85 * n) for n in (1, 2, 4, 8)},
    **{f"a2-ultragpu-{n}g": Machine(12 * n, 170 * n) for n in (1, 2, 4, 8)},
    **{f"a3-highgpu-{n}g": Machine(26 * n, 234 * n) for n in (1, 2, 4, 8)},
    "cloud-tpu": Machine(96, 335),  # the host of a v2-8 or v3-8
    "ct5lp-hightpu-1t": Machine(24, 48),
    "ct5lp-hightpu-4t": Machine(112, 192),
    "ct5lp-hightpu-8t": Machine(224, 384),
}
MACHINES: Mapping[str, Machine] = {**CPU_MACHINES, **ACCELERATED_MACHINES}

# Accelerator -> machine type -> how many of it that machine takes. For TPU v2 and v3 the
# number is of cores, for the others of chips or cards.
_T4_BY_VCPUS = {2: (1, 2, 4), 4: (1, 2, 4), 8: (1, 2, 4), 16: (1, 2, 4), 32: (2, 4)}
COMBINATIONS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "NVIDIA_TESLA_T4": {
        name: _T4_BY_VCPUS.get(machine.vcpus, (4,))
        for name, machine in CPU_MACHINES.items()
        if name.startswith("n1-")
    },
    "NVIDIA_L4": {
        **{f"g2-standard-{n}": (1,) for n in (4, 8, 12, 16, 32)},
        "g2-standard-24": (2,),
        "g2-standard-48": (4,),
        "g2-standard-96": (8,),
    },
    "NVIDIA_TESLA_A100": {f"a2-highgpu-{n}g": (n,) for n in (1, 2, 4, 8)},
    "NVIDIA_A100_80GB": {f"a2-ultragpu-{n}g": (n,) for n in (1, 2, 4, 8)},
    "NVIDIA_H100_80GB": {f"a3-highgpu-{n}g": (n,) for n in (1, 2, 4, 8)},
    "TPU_V2": {"cloud-tpu": (8,)},
    "TPU_V3": {"cloud-tpu": (8,)},
    "TPU_V5_LITEPOD": {f"ct5lp-hightpu-{n}t": (n,) for n in (1, 4, 8)},
}
# What an Endpoint's node may be (Google's "Machine types for inference"): also two cores.
ENDPOINT_MACHINES: Mapping[str, Machine] = {
    **CPU_MACHINES,
    **_sizes("e2-standard", 4, 2),
    **_sizes("n1-standard", 3.75, 2),
    **_sizes("n2-standard", 4, 2),
}
# Compute Engine sells A3 machines with fewer than 8 GPUs as spot or flex-start only
# ("Accelerator-optimized machine family": "you must create instances by using Spot VMs or
# Flex-start VMs").
NEVER_ON_DEMAND = frozenset(f"a3-highgpu-{n}g" for n in (1, 2, 4))
# Dynamic Workload Scheduler (flex-start) serves these; of T4, TPUs and CPUs its page
# "Schedule training jobs based on resource availability" knows nothing.
FLEX_START = frozenset(
    {"NVIDIA_L4", "NVIDIA_TESLA_A100", "NVIDIA_A100_80GB", "NVIDIA_H100_80GB"}
)


def boot_disk(machine_type: str) -> str:
    """The type of a boot disk: N4 machines take Hyperdisk alone."""
    return "hyperdisk-balanced" if machine_type.startswith("n4-") else "pd-ssd"


# Regions with custom training and Pipelines.
REGIONS = _words(
    """
    africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3
    asia-south1 asia-southeast1 asia-southeast2 australia-southeast1
    australia-southeast2 europe-central2 europe-north1 europe-southwest1 europe-west1
    europe-west12 europe-west2 europe-west3 europe-west4 europe-west6 europe-west8
    europe-west9 me-central1 me-central2 me-west1 northamerica-northeast1
    northamerica-northeast2 southamerica-east1 southamerica-west1 us-central1 us-east1
    us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4
    """
)
# Where custom training has an accelerator. Regions that have one for serving alone are
# left out; so is what a zone may have run out of, which nobody can know beforehand.
ACCELERATOR_REGIONS: Mapping[str, tuple[str, ...]] = {
    accelerator: _words(regions)
    for accelerator, regions in {
        "NVIDIA_TESLA_T4": """
            us-central1 us-east1 us-east4 us-west1 us-west2 us-west4
            northamerica-northeast1 southamerica-east1 europe-central2 europe-west1
            europe-west2 europe-west3 europe-west4 asia-east1 asia-east2 asia-northeast1
            asia-northeast3 asia-south1 asia-southeast1 asia-southeast2
            australia-southeast1
            """,
        "NVIDIA_L4": """
            us-central1 us-east1 us-east4 us-west1 northamerica-northeast2 europe-west2
            europe-west4 me-central2 asia-northeast3 asia-south1 asia-southeast1
            """,
        "NVIDIA_TESLA_A100": """
            us-central1 us-east1 us-west3 us-west4 europe-west4 me-west1 asia-northeast3
            asia-southeast1
            """,
        # Where Compute Engine has a2-ultragpu machines.
        "NVIDIA_A100_80GB": """
            us-central1 us-east4 us-east5 europe-west4 asia-southeast1
            """,
        "NVIDIA_H100_80GB": """
            us-central1 us-east4 us-east5 us-west1 us-west4 northamerica-northeast2
            europe-west1 europe-west2 europe-west3 europe-west4 asia-northeast1
            asia-northeast3 asia-south1 asia-southeast1
            """,
        "TPU_V2": "us-central1 europe-west4 asia-east1",
        "TPU_V3": "us-central1 europe-west4",
        "TPU_V5_LITEPOD": "us-central1 us-east1 us-west1 us-west4",
    }.items()
}
