"""What a run of the pipeline costs beyond its training steps.

    python -m benchmarks.whole_run [--repeats 3] [--output FILE] [name=value ...]

Each repeat is `python pipeline.py run` in a process and an empty folder of its own, with
preset=fast on scikit-learn's digits unless other settings are given. Overhead is the wall
time from the process's start to its end, less what both contenders spent in training steps.
Takes three minutes a repeat on 2 cores with nothing else running. Prints each node's seconds
(medians) and writes benchmarks/results/whole_run.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.train import machine

PROJECT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "whole_run.json"
SETTINGS = ("preset=fast", "data.name=digits")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("settings", nargs="*", default=list(SETTINGS))
    options = parser.parse_args(arguments)
    runs = [_run(options.settings) for _ in range(options.repeats)]
    nodes = {
        name: statistics.median(run["nodes"][name] for run in runs)
        for name in runs[0]["nodes"]
    }
    result: dict[str, Any] = {
        "benchmark": "whole_run",
        "settings": options.settings,
        "machine": machine(),
        "load_average_after": os.getloadavg(),
        "runs": runs,
        "nodes": nodes,
        **{
            key: statistics.median(run[key] for run in runs)
            for key in ("seconds", "train_seconds", "overhead_seconds")
        },
    }
    options.output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    _print(result)
    print(f"wrote {options.output}")
    return 0


def _run(settings: Sequence[str]) -> dict[str, Any]:
    """One repeat: seconds of all, of training steps, beyond them, and by node."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        began = time.perf_counter()
        report = reported(settings, folder)
        seconds = time.perf_counter() - began
    trained = sum(
        model["train_seconds"]
        for name, model in report["models"].items()
        if model and name != "in_service"
    )
    nodes = {each["id"]: each["seconds"] or 0.0 for each in report["components"]}
    return {
        "seconds": seconds,
        "train_seconds": trained,
        "overhead_seconds": seconds - trained,
        "nodes": nodes,
        "load_average": os.getloadavg(),
    }


def reported(settings: Sequence[str], folder: str) -> dict[str, Any]:
    """Runs the pipeline in a process of its own; returns the report.json of that run.

    Args:
        settings: name=value each, without output_root.
        folder: Becomes output_root.
    """
    command = [sys.executable, "pipeline.py", "run", *settings]
    subprocess.run([*command, f"output_root={folder}"], cwd=PROJECT, check=True)
    return json.loads(Path(folder, "report", "report.json").read_text())


def _print(result: dict[str, Any]) -> None:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("node")
    shown.add_column("seconds", justify="right")
    for name, seconds in result["nodes"].items():
        shown.add_row(name, f"{seconds:.1f}")
    shown.add_row("loading, and between nodes", f"{_between(result):.1f}")
    shown.add_row("the whole run", f"{result['seconds']:.1f}")
    shown.add_row("training steps", f"{result['train_seconds']:.1f}")
    shown.add_row("all but training steps", f"{result['overhead_seconds']:.1f}")
    Console().print(shown)


def _between(result: dict[str, Any]) -> float:
    return result["seconds"] - sum(result["nodes"].values())


if __name__ == "__main__":
    sys.exit(main())
