"""Measures training: throughput, the cost of depth, and the input pipeline, in one run.

    python -m benchmarks.train [--quick] [--skip-torch] [--skip-unrolled] [--output FILE]

1. ResNet-164 (pre-activation), batch 128: seconds of a training step against the same
   network of plain Keras layers, in eager PyTorch and by torch.compile. Two contenders
   take turns of a few steps, each in its own process; a pair gives one ratio, the median
   of them counts.
2. ResNet-1001, batch 64: the same against eager PyTorch, and from the start of the
   process to the end of the first step, in turns; peak memory, the price of
   rematerialisation, graph size, export and loading.
3. The input pipeline alone.

Ratios are of speed: 2 means that ours takes half of the time. bfloat16 is measured where
the processor has instructions for it (AVX512_BF16, AMX); elsewhere both sides emulate it.
Takes about half an hour on 2 cores, with nothing else running. Writes
benchmarks/results/train.json and prints the table of docs/networks.md. `--quick` takes
small networks and few steps, to show that all of it works, and writes nothing unless
`--output` is given.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "train.json"
PACKAGES = ("tensorflow", "keras", "torch", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    depth: int = 164
    batch_size: int = 128
    pairs: int = 5
    steps: int = 3  # of each contender in a pair
    warm_up: int = 2  # steps of each contender before the first pair, besides the first
    deep_depth: int = 1001
    deep_batch_size: int = 64
    deep_runs: int = 3  # processes of each kind
    deep_steps: int = 2  # after the first
    unrolled_limit: float = 200.0  # seconds that the deep unrolled network gets
    input_images: int = 45_000
    input_seconds: int = 10


# As few units as have loops: TensorFlow writes one of a single iteration out, which begins
# with a stage's second unit and is two units where they are recomputed.
QUICK = Plan(
    depth=29, batch_size=8, pairs=2, steps=1, warm_up=1,
    deep_depth=56, deep_batch_size=8, deep_runs=1, deep_steps=1,
    input_images=1_000, input_seconds=1,
)  # fmt: skip

# Of section 1: a name, what ours is compared with, and in which precision.
DUELS = (
    ("unrolled_keras_float32", "unrolled_keras", "float32"),
    ("torch_float32", "torch", "float32"),
    ("torch_compile_float32", "torch_compile", "float32"),
    ("torch_bfloat16", "torch", "mixed_bfloat16"),
    ("torch_compile_bfloat16", "torch_compile", "mixed_bfloat16"),
)
# Of section 2: a name, and the fields of `benchmarks.contender.Setting`.
STARTS: Mapping[str, Mapping[str, Any]] = {
    "kept": {"contender": "ours"},
    "rematerialised": {"contender": "ours", "rematerialise": True},
    "torch": {"contender": "torch"},
    "kept_bfloat16": {"contender": "ours", "precision": "mixed_bfloat16"},
    "torch_bfloat16": {"contender": "torch", "precision": "mixed_bfloat16"},
}
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # of /proc/cpuinfo


def main() -> None:
    """Runs the benchmark, prints the table and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a trial of a minute")
    parser.add_argument("--skip-torch", action="store_true")
    parser.add_argument("--skip-unrolled", action="store_true", help="plain Keras")
    parser.add_argument("--output", type=Path, help=f"default: {RESULT}")
    arguments = parser.parse_args()
    skipped = set()
    if arguments.skip_torch or importlib.util.find_spec("torch") is None:
        skipped |= {"torch", "torch_compile"}
    if _BFLOAT16.isdisjoint(_cpu_line("flags").split()):
        _progress("no instructions for bfloat16 here: not measured")
        skipped.add("mixed_bfloat16")
    if arguments.skip_unrolled:
        skipped.add("unrolled_keras")
    plan = QUICK if arguments.quick else Plan()
    load = os.getloadavg()[0]
    if load > 0.5:
        _progress(
            f"the load average is {load:.1f}: other work will disturb the figures"
        )
    result = measure(plan, skipped)
    print(markdown(result))
    output = arguments.output or (None if arguments.quick else RESULT)
    if output:
        output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
        print(f"wrote {output}")


def measure(plan: Plan, skipped: set[str]) -> dict[str, Any]:
    """All three sections; a skipped contender's entries are missing."""
    result = {
        "benchmark": "train",
        "plan": dataclasses.asdict(plan),
        "machine": machine(),
        "throughput": {},
    }
    for name, rival, precision in DUELS:
        if not {rival, precision} & skipped:
            _progress(f"ResNet-{plan.depth}: {name.replace('_', ' ')}")
            result["throughput"][name] = duel(plan, rival, precision)
    _progress(f"ResNet-{plan.deep_depth}: start-up, memory, steps")
    result["deep"] = deep(plan, skipped)
    _progress("graphs, export, loading")
    costs = {depth: depth_cost(depth) for depth in (plan.depth, plan.deep_depth)}
    result["deep"] |= costs[plan.deep_depth]
    nodes = [costs[d]["training_nodes"] for d in (plan.deep_depth, plan.depth)]
    result["deep"]["training_nodes_ratio"] = nodes[0] / nodes[1]
    _progress("input pipeline")
    result["input"] = _output_of(
        "benchmarks.input_rate", str(plan.input_images), str(plan.input_seconds)
    )
    result["load_average_after"] = os.getloadavg()
    return result


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": _cpu_line("model name") or platform.processor(),
        "cores": _cores(),
        "versions": versions,
        "load_average": os.getloadavg(),
    }


def duel(plan: Plan, rival: str, precision: str) -> dict[str, Any]:
    """Ours against a rival in turns; who begins changes from pair to pair."""
    common = {
        "depth": plan.depth, "batch_size": plan.batch_size, "precision": precision
    }  # fmt: skip
    with (
        Contender(contender="ours", **common) as ours,
        Contender(contender=rival, **common) as other,
    ):
        if ours.parameters != other.parameters:
            raise RuntimeError(
                f"{rival} has {other.parameters:,} parameters, ours {ours.parameters:,}"
            )
        for contender in (ours, other):
            contender.run(plan.warm_up)
        pairs = []
        for i in range(plan.pairs):
            order = (ours, other) if i % 2 == 0 else (other, ours)
            seconds = {id(c): statistics.median(c.run(plan.steps)) for c in order}
            pairs.append((seconds[id(ours)], seconds[id(other)]))
            _progress("  ours {:.3f} s, rival {:.3f} s".format(*pairs[-1]))
        return {
            "parameters": ours.parameters,
            "ours_seconds": statistics.median(own for own, _ in pairs),
            "rival_seconds": statistics.median(theirs for _, theirs in pairs),
            "ratio": statistics.median(theirs / own for own, theirs in pairs),
            "ratios": [theirs / own for own, theirs in pairs],
        }


def deep(plan: Plan, skipped: set[str]) -> dict[str, Any]:
    """Fresh processes of the deep network, in turns; medians."""
    common = {"depth": plan.deep_depth, "batch_size": plan.deep_batch_size}
    kinds = {
        name: common | dict(setting)
        for name, setting in STARTS.items()
        if not {setting["contender"], setting.get("precision")} & skipped
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for _ in range(plan.deep_runs):
        for name, found in runs.items():
            with Contender(**kinds[name]) as contender:
                seconds = statistics.median(contender.run(plan.deep_steps))
            found.append(
                {
                    "first_step_seconds": contender.first_step_seconds,
                    "ready_seconds": contender.ready_seconds,
                    "step_seconds": seconds,
                    "memory_gb": contender.memory_gb,
                }
            )
            _progress(f"  {name}: {found[-1]}")
    result: dict[str, Any] = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }
    result["rematerialisation_price"] = _ratio(
        runs["rematerialised"], runs["kept"], "step_seconds"
    )
    for suffix in ("", "_bfloat16"):
        if f"torch{suffix}" in runs:
            ours, theirs = runs[f"kept{suffix}"], runs[f"torch{suffix}"]
            result[f"against_torch{suffix}"] = {
                key.removesuffix("_seconds"): _ratio(theirs, ours, key)
                for key in ("first_step_seconds", "step_seconds")
            }
    if "unrolled_keras" not in skipped:
        try:
            with Contender(
                limit=plan.unrolled_limit, contender="unrolled_keras", **common
            ) as other:
                result["unrolled_keras"] = {
                    "first_step_seconds": other.first_step_seconds,
                    "memory_gb": other.memory_gb,
                }
        except TimeoutError:
            result["unrolled_keras"] = {"first_step_more_than": plan.unrolled_limit}
        _progress(f"  unrolled Keras: {result['unrolled_keras']}")
    return result


def _ratio(
    above: list[dict[str, float]], below: list[dict[str, float]], key: str
) -> float:
    """The median over rounds."""
    pairs = zip(above, below, strict=True)
    return statistics.median(one[key] / other[key] for one, other in pairs)


def depth_cost(depth: int) -> dict[str, Any]:
    """Graph nodes, export and loading of our network of that depth."""
    return _output_of("benchmarks.depth_cost", "ours", str(depth))


class Contender:
    """A process of `benchmarks.contender`; alive, with its first step done, in `with`.

    Args:
        limit: Seconds until the end of the first step, else TimeoutError.
        setting: Fields of `benchmarks.contender.Setting`.
    """

    def __init__(self, *, limit: float = 900.0, **setting: Any):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._name = str(setting["contender"])
        start = time.monotonic()
        self._process = _start(
            "benchmarks.contender", json.dumps(setting), errors=self._errors
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            first = self._next(limit)
        except BaseException:
            self._stop()
            raise
        self.first_step_seconds = first["finished"] - start
        # Imported and built; nothing is traced or computed yet.
        self.ready_seconds = first["ready"] - start
        self.parameters: int = first["parameters"]
        self.memory_gb: float = first["memory_gb"]

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, steps: int) -> list[float]:
        """Seconds of each of the next training steps."""
        assert self._process.stdin
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._next(limit=1800.0)
        self.memory_gb = answer["memory_gb"]
        return answer["seconds"]

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                self._lines.put(line)
        self._lines.put("")

    def _next(self, limit: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError(f"{self._name}: no answer in {limit:g} s") from None
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self._name} ended:\n{self._errors.read()[-2000:]}")
        return json.loads(line)

    def _stop(self) -> None:
        self._process.kill()  # it holds nothing worth an orderly end
        self._process.wait()
        self._errors.close()


def _start(module: str, *arguments: str, errors: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def _output_of(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON line that a module prints."""
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(module, *arguments, errors=errors)
        output, _ = process.communicate()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{module} failed:\n{errors.read()[-2000:]}")
    return json.loads(output.splitlines()[-1])


def markdown(result: dict[str, Any]) -> str:
    """The table of docs/networks.md."""
    plan = result["plan"]
    deep, throughput = result["deep"], result["throughput"]
    shallow = f"ResNet-{plan['depth']}, batch {plan['batch_size']}"
    steep = f"ResNet-{plan['deep_depth']}, batch {plan['deep_batch_size']}"
    rows: list[tuple[str, str, str]] = []
    for name, found in throughput.items():
        ratios = found["ratios"]
        rows.append(
            (
                f"{shallow}: speed against {TITLES[name]}",
                f"{found['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
                f"{found['ours_seconds']:.2f} s against {found['rival_seconds']:.2f} s",
                TARGETS[name],
            )
        )
    for suffix, precision in (("", "float32"), ("_bfloat16", "bfloat16")):
        if ratios := deep.get(f"against_torch{suffix}"):
            kept, torch = deep[f"kept{suffix}"], deep[f"torch{suffix}"]
            for key, what, target in (
                ("step", "speed", ">= 1.15" if suffix else ""),
                ("first_step", "process start to the end of the first step", ">= 1"),
            ):
                own, other = kept[f"{key}_seconds"], torch[f"{key}_seconds"]
                rows.append(
                    (f"{steep}: {what} against eager PyTorch, {precision}",
                     f"{ratios[key]:.2f}; {own:.1f} s against {other:.1f} s", target)
                )  # fmt: skip
    again, kept = deep["rematerialised"], deep["kept"]
    rows += [
        (f"{steep}: process start to first step, rematerialised",
         f"{again['first_step_seconds']:.0f} s", "<= 25 s"),
        ("the same, activations kept", f"{kept['first_step_seconds']:.0f} s", ""),
    ]  # fmt: skip
    if "unrolled_keras" in deep:
        other = deep["unrolled_keras"]
        seconds = other.get("first_step_seconds")
        cell = (
            f"more than {other['first_step_more_than']:.0f} s (stopped)"
            if seconds is None
            else f"{seconds:.0f} s"
        )
        rows.append(("the same, plain Keras layers", cell, ""))
    price, nodes = deep["rematerialisation_price"], deep["training_nodes_ratio"]
    rows += [
        ("peak memory, rematerialised", f"{again['memory_gb']:.1f} GB", "<= 4 GB"),
        ("peak memory, activations kept", f"{kept['memory_gb']:.1f} GB", ""),
        ("step, rematerialised against kept", f"{price:.2f} x", "<= 1.25 x"),
        (f"nodes in the training graph, {plan['deep_depth']} against {plan['depth']}",
         f"{nodes:.2f} x ({deep['training_nodes']:,})", "<= 1.1 x"),
        ("export, four signatures", f"{deep['export_seconds']:.1f} s", "<= 3 s"),
        ("saved_model.pb", f"{deep['saved_model_megabytes']:.2f} MB", "<= 1.5 MB"),
        ("load", f"{deep['load_seconds']:.2f} s", "<= 1 s"),
        ("input pipeline alone",
         f"{result['input']['images_per_second']:,.0f} images/s", ""),
    ]  # fmt: skip
    lines = ["| what | measured | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


TITLES = {
    "unrolled_keras_float32": "plain Keras layers, float32",
    "torch_float32": "eager PyTorch, float32",
    "torch_compile_float32": "torch.compile, float32",
    "torch_bfloat16": "eager PyTorch, bfloat16 autocast",
    "torch_compile_bfloat16": "torch.compile, bfloat16 autocast",
}
TARGETS = {
    "unrolled_keras_float32": ">= 2",
    "torch_float32": ">= 1.4",
    "torch_compile_float32": "",
    "torch_bfloat16": ">= 1.15",
    "torch_compile_bfloat16": "",
}


def _cpu_line(name: str) -> str:
    """Of /proc/cpuinfo; empty where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


_STARTED = time.monotonic()


def _progress(text: str) -> None:
    print(f"[{time.monotonic() - _STARTED:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
