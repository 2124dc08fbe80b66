"""All that is promised about speed, in one table: measured, target, verdict.

    python -m benchmarks                   what was measured last
    python -m benchmarks --run             measures all of it first; an hour and a half
    python -m benchmarks --run train serve measures these; some minutes each

Every figure is a ratio to a rival or to a bare call in the same run, so that it can be
compared between machines; bytes, and seconds of ingestion and of a whole run, are not. Exits
with 1 if a target is missed or its figure is not there. The benchmarks themselves are the
other files here; each can be run alone, and most have a `--quick`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from contract.config.data import DataConfig

RESULTS = Path(__file__).parent / "results"
# Minutes on two cores with nothing else running.
BENCHMARKS: Mapping[str, float] = {
    "train": 25, "verdict": 25, "serve": 9, "serve_hostile": 10, "request_log": 2,
    "ingest": 2, "predict": 3, "whole_run": 8,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """A promise."""

    what: str
    benchmark: str  # whose JSON has it
    value: Callable[[Any], float]  # from that JSON
    least: float | None = None
    most: float | None = None

    @property
    def target(self) -> str:
        """In words."""
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"

    def met(self, value: float) -> bool:
        """Whether it is kept."""
        if self.least is not None:
            return value >= self.least
        return self.most is None or value <= self.most


def _served(network: str, images: int) -> Callable[[Any], float]:
    def value(result: Any) -> float:
        loads = {(row["network"], row["rows"]): row for row in result["throughput"]}
        return loads[network, images]["server_ratio"]

    return value


def _hostile(protocol: str) -> Callable[[Any], float]:
    def value(result: Any) -> float:
        found = dict(result[protocol]["p99"])
        alone = found.pop("alone")
        return max(found.values()) / alone

    return value


def _ingested(result: Any) -> float:
    """As a run does it unless told otherwise."""
    kinds = {run["compression"]: run["seconds"] for run in result["runs"]}
    return kinds[DataConfig().compression]


ROWS: tuple[Row, ...] = (
    Row(what="preset=fast on digits: seconds beyond the training steps",
        benchmark="whole_run", value=lambda r: r["overhead_seconds"], most=30),
    Row(what="ResNet-164, float32: steps against eager PyTorch", benchmark="train",
        value=lambda r: r["throughput"]["torch_float32"]["ratio"], least=1.4),
    Row(what="ResNet-164, bfloat16: steps against eager PyTorch", benchmark="train",
        value=lambda r: r["throughput"]["torch_bfloat16"]["ratio"], least=1.15),
    Row(what="ResNet-1001, float32: steps against eager PyTorch", benchmark="train",
        value=lambda r: r["deep"]["against_torch"]["step"], least=1.4),
    Row(what="ResNet-1001, bfloat16: steps against eager PyTorch", benchmark="train",
        value=lambda r: r["deep"]["against_torch_bfloat16"]["step"], least=1.15),
    Row(what="ResNet-1001, float32: start to first step against eager PyTorch",
        benchmark="train",
        value=lambda r: r["deep"]["against_torch"]["first_step"], least=1),
    Row(what="ResNet-1001, bfloat16: start to first step against eager PyTorch",
        benchmark="train",
        value=lambda r: r["deep"]["against_torch_bfloat16"]["first_step"], least=1),
    Row(what="ResNet-1001, rematerialised: time of a step against a kept one",
        benchmark="train", value=lambda r: r["deep"]["rematerialisation_price"], most=1.25),
    Row(what="ResNet-1001, rematerialised: memory, GB", benchmark="train",
        value=lambda r: r["deep"]["rematerialised"]["memory_gb"], most=4),
    Row(what="evaluating 10,000 images against the bare forward pass, ResNet-20",
        benchmark="verdict", value=lambda r: r["cost_resnet20"]["ratio"], most=1.3),
    Row(what="the same, ResNet-164", benchmark="verdict",
        value=lambda r: r["cost_resnet164"]["ratio"], most=1.1),
    Row(what="serving ResNet-20, 1 image per request, against bare batches",
        benchmark="serve", value=_served("preact_resnet20", 1), least=0.8),
    Row(what="the same, 8 images", benchmark="serve",
        value=_served("preact_resnet20", 8), least=0.95),
    Row(what="the same, 32 images", benchmark="serve",
        value=_served("preact_resnet20", 32), least=0.95),
    Row(what="serving: p99 while versions change against before", benchmark="serve",
        value=lambda r: r["swap"]["ratio"], most=3),
    Row(what="serving: p99 of honest clients beside hostile ones, gRPC",
        benchmark="serve_hostile", value=_hostile("grpc"), most=3),
    Row(what="the same, REST", benchmark="serve_hostile", value=_hostile("rest"), most=3),
    Row(what="request log: p50 with against without", benchmark="request_log",
        value=lambda r: r["p50"]["ratio"], most=1.1),
    Row(what="the same, p99", benchmark="request_log",
        value=lambda r: r["p99"]["ratio"], most=1.1),
    Row(what="ingestion of 60,000 images, seconds", benchmark="ingest",
        value=_ingested, most=8),
    Row(what="pipeline.py predict against the bare model", benchmark="predict",
        value=lambda r: r["ratio"], least=0.85),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measures what is asked for, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--run", nargs="*", metavar="NAME", choices=list(BENCHMARKS))
    options = parser.parse_args(arguments)
    failed = []
    if options.run is not None:
        for name in options.run or list(BENCHMARKS):
            print(f"{name}: about {BENCHMARKS[name]:g} minutes", flush=True)
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}"], check=False
            )
            if done.returncode:
                failed.append(name)
    missed = [row for row, value in table() if value is None or not row.met(value)]
    for name in failed:
        print(f"{name}: failed; what stands above is from an earlier run")
    return 1 if missed or failed else 0


def table(results: Path = RESULTS) -> list[tuple[Row, float | None]]:
    """Prints it; the rows with what was measured, None where nothing was."""
    shown = Table(box=None, pad_edge=False)
    for title in ("what", "measured", "target", "", "load"):
        shown.add_column(
            title, justify="right" if title in ("measured", "load") else "left"
        )
    found: list[tuple[Row, float | None]] = []
    for row in ROWS:
        value, load, verdict = None, "", "not measured"
        file = results / f"{row.benchmark}.json"
        # PyTorch was not installed, or the processor has no bfloat16.
        with contextlib.suppress(FileNotFoundError, KeyError):
            result = json.loads(file.read_text())
            value, load = row.value(result), _load(result)
            verdict = "kept" if row.met(value) else "[bold]missed[/bold]"
        found.append((row, value))
        number = "-" if value is None else f"{value:.2f}"
        shown.add_row(row.what, number, row.target, verdict, load)
    Console().print(shown)
    return found


def _load(result: Mapping[str, Any]) -> str:
    """The load average of the minute before the end: above the cores, it is no measure."""
    loads = result.get("load_average_after") or result.get("load_average")
    loads = loads or result.get("machine", {}).get("load_average")
    return f"{loads[0]:.1f}" if loads else ""


if __name__ == "__main__":
    sys.exit(main())
