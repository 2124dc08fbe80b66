"""The golden files: compiled jobs as they must be, byte for byte.

    python -m tests.pipeline.vertex.golden            # writes them again
    python -m tests.pipeline.vertex.golden FOLDER     # writes them somewhere else

hardware.json lists, for each row of the hardware, what a job has that one on CPUs has not.
A change of the DAG, of TFX or of the tables of hardware changes them: look at the
difference, then commit it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contract.fields import parse_assignment
from pipeline.resolve import resolve
from pipeline.vertex import hardware, machines
from pipeline.vertex import rules as vertex_rules

GOLDEN = Path(__file__).with_name("golden")
COMMON = ("vertex.project=my-project", "output_root=gs://my-bucket/cifar")
CASES = {
    "cpu": (),
    "gpu8": (
        "vertex.hardware=gpu8",
        "vertex.scheduling=spot",
        "vertex.region=europe-west4",
        "vertex.service_account=runner@my-project.iam.gserviceaccount.com",
        "vertex.network=projects/123456789012/global/networks/private",
        "vertex.beam=dataflow",
        "vertex.beam_subnetwork=regions/europe-west4/subnetworks/inner",
        "vertex.kms_key="
        "projects/my-project/locations/europe-west4/keyRings/ring/cryptoKeys/key",
        "serving.push=endpoint",
        "serving.canary_percent=25",
        "vertex.endpoint_projects=my-clients",
        "batch_predict.images=gs://my-bucket/photos",
        "vertex.experiment=cifar",
        "vertex.tensorboard=projects/my-project/locations/europe-west4/tensorboards/42",
        "preset=resnet164",
        "train.epochs=2.5",
    ),
    "tpu-v5e-8": (
        "vertex.hardware=tpu-v5e-8",
        "vertex.beam=flink",
        "vertex.beam_endpoint=10.0.0.8:8099",
        "serving.push=registry",
        "preset=resnet1001",
        "data.name=cifar100",
        "enable_cache=false",
    ),
}


def compiled(*assignments: str) -> dict:
    """A job, from what a person types."""
    from pipeline.vertex.compile import compile_job

    texts = [*COMMON, *assignments]
    config = resolve(texts, {}, "/", vertex_rules).config
    return compile_job(config, dict(map(parse_assignment, texts)))


def row(name: str) -> tuple[str, ...]:
    """What a person types for a row of the hardware, as far as Google sells it."""
    kind = hardware.HARDWARE[name]
    typed = [f"vertex.hardware={name}"]
    if kind.machine_type in machines.NEVER_ON_DEMAND:
        typed.append("vertex.scheduling=spot")
    return tuple(typed)


def hardware_changes() -> dict[str, dict[str, Any]]:
    """Row -> path in the job -> value that a job on CPUs has not (null: has alone)."""
    usual = dict(_leaves(compiled(), ""))
    found = {}
    for name in hardware.HARDWARE:
        here = dict(_leaves(compiled(*row(name)), ""))
        found[name] = {
            path: here.get(path)
            for path in sorted(usual.keys() | here.keys())
            if usual.get(path) != here.get(path)
        }
    return found


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Everything in a job, also in the JSON that it holds as text."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value) if value != "{{$}}" else value
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}/{key}")
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from _leaves(entry, f"{path}/{position}")
    else:
        yield path, value


def main(folder: Path) -> None:
    """Writes every golden file."""
    from pipeline.vertex.compile import write

    for name, assignments in CASES.items():
        write(compiled(*assignments), str(folder / f"{name}.json"))
    write(hardware_changes(), str(folder / "hardware.json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
