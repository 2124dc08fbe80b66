"""The golden files: compiled jobs as they must be, byte for byte.

    python -m tests.pipeline.vertex.golden            # writes them again
    python -m tests.pipeline.vertex.golden FOLDER     # writes them somewhere else

A change of the DAG, of TFX or of the tables of hardware changes them: look at the
difference, then commit it.
"""

import sys
from pathlib import Path

from contract.fields import parse_assignment
from pipeline.resolve import resolve
from pipeline.vertex import rules as vertex_rules

GOLDEN = Path(__file__).with_name("golden")
COMMON = ("vertex.project=my-project", "output_root=gs://my-bucket/cifar")
CASES = {
    "cpu": (),
    "gpu8": (
        "vertex.hardware=gpu8",
        "vertex.spot=true",
        "vertex.region=europe-west4",
        "vertex.service_account=runner@my-project.iam.gserviceaccount.com",
        "vertex.network=projects/123456789012/global/networks/private",
        "vertex.beam=dataflow",
        "serving.push=endpoint",
        "serving.canary_percent=25",
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


def main(folder: Path) -> None:
    """Writes every golden file."""
    from pipeline.vertex.compile import write

    for name, assignments in CASES.items():
        write(compiled(*assignments), str(folder / f"{name}.json"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
