"""Measures ingestion: images per second from a source to TFRecords.

    python -m benchmarks.ingest [name=value ...]     values of the data section

for example `python -m benchmarks.ingest name=cifar10 tfds_dir=/data/tfds`. Without
arguments: 60,000 random images in the official binary layout, which GZIP cannot shrink,
so that anyone can repeat it. Each compression runs in turn, `repeats` times; the best
time counts. Writes benchmarks/results/ingest.json. Beside the time on the clock stands
the processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tfx.types import standard_artifacts

from components.beam import IN_PROCESS
from components.example_gen import executor, sources
from contract.config.data import DataConfig
from contract.config.run import RunConfig
from contract.fields import override, parse_assignment, to_json

RESULT = Path(__file__).parent / "results" / "ingest.json"
BEAM = [*IN_PROCESS]


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="name=value of the data section")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    chosen = dict(map(parse_assignment, arguments.settings))
    with tempfile.TemporaryDirectory(prefix="ingest-") as work:
        if not chosen:
            chosen = {
                "name": "cifar10",
                "path": write_random(Path(work, "cifar-10-batches-bin")),
                "allow_unverified": "true",
            }
        prefixed = {f"data.{name}": value for name, value in chosen.items()}
        data = override(RunConfig(), prefixed).data
        sources.find(data)  # refuses wrong settings before anything is measured
        rows = []
        for compression in ("gzip", "none"):
            settings = override(
                RunConfig(), prefixed | {"data.compression": compression}
            ).data
            runs = [measure(settings) for _ in range(arguments.repeats)]
            rows.append(min(runs, key=lambda run: run["seconds"]))
    for row in rows:
        print(
            f"{row['compression']:5} {row['images']:,} images in {row['seconds']:.1f} s "
            f"({row['images_per_second']:,.0f} per second, {row['cpu_seconds']:.1f} s of "
            f"processor time), {row['megabytes']:.0f} MB"
        )
    result = {
        "benchmark": "ingest",
        "source": "random images" if not arguments.settings else chosen,
        "repeats": arguments.repeats,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        "load_average": os.getloadavg(),
        "peak_memory_mb": _peak_memory_mb(),
        "runs": rows,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(f"wrote {RESULT}")


def write_random(folder: Path) -> str:
    """Writes 60,000 random images in the official layout; returns the folder."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = draw.integers(0, 256, (10_000, 3_073), np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    return str(folder)


def measure(data: DataConfig) -> dict[str, Any]:
    """Ingests once; times in seconds."""
    with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
        return measure_into(folder, data)


def measure_into(folder: str, data: DataConfig) -> dict[str, Any]:
    """Ingests into an empty folder, without TFX's orchestration; times in seconds."""
    artifact = standard_artifacts.Examples()
    artifact.uri = folder
    context = executor.Executor.Context(beam_pipeline_args=BEAM)
    work = executor.Executor(context)
    parameters = {
        "data": to_json(data),
        "fingerprint": sources.local_fingerprint(data),
    }
    cpu, start = time.process_time(), time.perf_counter()
    work.Do({}, {"examples": [artifact]}, parameters)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    images = sum(json.loads(artifact.get_string_custom_property("counts")).values())
    return {
        "compression": "none" if data.encoded else data.compression,
        "images": images,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "images_per_second": round(images / seconds, 1),
        "megabytes": round(size / 1e6, 1),
    }


def _peak_memory_mb() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


if __name__ == "__main__":
    main()
