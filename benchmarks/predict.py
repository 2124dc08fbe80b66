"""Throughput of `pipeline.py predict` against the bare model, in one run.

Writes 10,000 PNG files of noise, has `predict` answer them in a process of its own, and asks
the same model's signature about the same files, which are in memory, before and after it. The
first batches of either, and what loads, do not count: a second process answers 500 of the
files, and the difference is what the others took. Needs a published model:

    make run preset=fast data.name=digits
    python -m benchmarks.predict

Result: benchmarks/results/predict.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.train import machine

PROJECT = Path(__file__).parents[1]
_BATCH = 250
_FEW = 500  # images, of the run that shows what loading takes
_SECONDS = re.compile(r"version \d+, ([\d.]+) s:")


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_root", default="output")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32, help="pixels, of the model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            options.output_root, Path(folder), options.images, options.side
        )
    path = PROJECT / "benchmarks" / "results" / "predict.json"
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


def measure(root: str, folder: Path, count: int, side: int) -> dict[str, Any]:
    """The ratio, and what it comes from."""
    import numpy as np
    import tensorflow as tf

    stream = np.random.default_rng(0)
    few, many = folder / "few", folder / "many"
    few.mkdir()
    many.mkdir()
    contents = []
    for number in range(count):
        pixels = stream.integers(0, 256, (side, side, 3), dtype=np.uint8)
        contents.append(tf.io.encode_png(pixels).numpy())
        (many / f"{number:06d}.png").write_bytes(contents[-1])
        if number < _FEW:
            (few / f"{number:06d}.png").write_bytes(contents[-1])
    version, model = _in_service(root)
    before = _bare(model, contents)
    loading = _predict(root, few, _FEW)
    whole = _predict(root, many, count)
    after = _bare(model, contents)
    predicted = (count - _FEW) / (whole - loading)
    bare = statistics.mean([before, after])
    return {
        "images": count,
        "version": version,
        "predict_seconds": whole,
        "predict_seconds_of_500": loading,
        "predict_images_per_second": predicted,
        "bare_images_per_second": [before, after],
        "ratio": predicted / bare,
        "ratio_with_loading": count / whole / bare,
        "machine": machine(),
    }


def _predict(root: str, images: Path, count: int) -> float:
    """Seconds that the command says it took, loading of the model included."""
    output = images.with_suffix(".jsonl")
    command = [
        *(sys.executable, str(PROJECT / "pipeline.py"), "predict"),
        *("--images", str(images), "--output", str(output)),
        f"output_root={os.path.abspath(root)}",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = _SECONDS.search(done.stdout)
    assert found, done.stdout
    assert len(output.read_text("utf-8").splitlines()) == count
    return float(found[1])


def _in_service(root: str) -> tuple[int, str]:
    """Number and folder of the newest version of `cifar`."""
    folder = Path(root, "serving", "cifar")
    versions = [int(each.name) for each in folder.iterdir() if each.name.isdigit()]
    return max(versions), str(folder / str(max(versions)))


def _bare(folder: str, contents: list[bytes]) -> float:
    """Images per second of the signature alone."""
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    ask = model.signatures["encoded_images"]
    for start in (0, _BATCH):
        ask(encoded=tf.constant(contents[start : start + _BATCH]))
    began = time.perf_counter()
    for start in range(0, len(contents), _BATCH):
        ask(encoded=tf.constant(contents[start : start + _BATCH]))[
            "probabilities"
        ].numpy()
    return len(contents) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
