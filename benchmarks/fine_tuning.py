"""What starting from a trained network is worth on a small folder: k-fold over all images.

    python -m benchmarks.fine_tuning FOLDER WEIGHTS NETWORK [--folds 5] [name=value ...]

FOLDER holds class folders, at any depth below train/, val/ or none; all its images are dealt
into folds by the SHA-256 of their contents, class by class. For each fold, one run of the
pipeline trains NETWORK twice on the others: from random weights (the baseline) and from
WEIGHTS (the candidate; `candidate.initial_weights`), by the same recipe, and asks both for the
fold. Prints both errors over all images, and the mean difference of the folds with Student's
interval; folds share training images, so that it is somewhat too narrow. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.train import machine
from benchmarks.whole_run import reported
from components.example_gen import own_files


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all folds and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("network")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args(arguments)
    folds = deal(options.folder, options.folds)
    settings = [
        "data.encoded=true",
        f"baseline.network={options.network}",
        f"candidate.network={options.network}",
        f"candidate.initial_weights={options.weights.resolve()}",
        *options.settings,
    ]
    began = time.perf_counter()
    found = [_run(folds, number, settings) for number in range(len(folds))]
    images = sum(each["images"] for each in found)
    print(
        json.dumps(
            {
                "images": images,
                "settings": settings,
                "folds": found,
                "scratch": sum(each["scratch"] for each in found) / images,
                "fine_tuned": sum(each["fine_tuned"] for each in found) / images,
                "difference": difference(found),
                "seconds": time.perf_counter() - began,
                "machine": machine(),
            }
        )
    )
    return 0


def deal(folder: Path, folds: int) -> list[list[tuple[Path, str]]]:
    """Files and their classes, dealt class by class in the order of their SHA-256."""
    classes: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in own_files.ENDINGS:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            classes.setdefault(path.parent.name, {})[digest] = path
    dealt: list[list[tuple[Path, str]]] = [[] for _ in range(folds)]
    for name, files in sorted(classes.items()):
        for number, digest in enumerate(sorted(files)):
            dealt[number % folds].append((files[digest], name))
    return dealt


def difference(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Error rate of the fine-tuned minus that from random weights, over folds."""
    each = [(fold["fine_tuned"] - fold["scratch"]) / fold["images"] for fold in found]
    mean = statistics.fmean(each)
    wide = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    return {"mean": mean, "ci95": [mean - wide, mean + wide]}


def _run(
    folds: list[list[tuple[Path, str]]], number: int, settings: Sequence[str]
) -> dict[str, Any]:
    """Trains on all folds but one, and counts both networks' errors on that."""
    with tempfile.TemporaryDirectory(prefix="fold-") as work:
        pictures = Path(work, "pictures")
        table = pictures / "images.csv"  # paths begin in its folder
        pictures.mkdir()
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split"])
            for index, fold in enumerate(folds):
                split = "test" if index == number else "train"
                for place, (path, name) in enumerate(fold):
                    copy = f"{index}-{place}{path.suffix}"
                    shutil.copyfile(path, pictures / copy)
                    writer.writerow([copy, name, split])
        report = reported([f"data.path={table}", *settings], f"{work}/output")
    images = len(folds[number])
    errors = {
        name: round(report["models"][role]["test"]["error"] * images)
        for name, role in (("scratch", "baseline"), ("fine_tuned", "candidate"))
    }
    return {"images": images, **errors}


if __name__ == "__main__":
    sys.exit(main())
