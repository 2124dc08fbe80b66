"""Measures whether the server's own session through ctypes is worth its code.

    python -m benchmarks.serve_loaders [--quick] [--output FILE]

Two embedded servers in turns, of one model, with the same load: as it is
(serving/server/session.py), and with the signature functions of tf.saved_model.load
(benchmarks/serve_by_functions.py). Throughput at 1, 8 and 32 images per request, latency of
one image at a time against bare calls, and p99 of a steady load while versions change.
Two and a half minutes on 2 quiet cores with nothing else running. Writes
benchmarks/results/serve_loaders.json and prints the table of docs/serving.md; `--quick`
shows that it works, and writes nothing unless `--output` is given.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import serve
from benchmarks.train import machine

RESULT = Path(__file__).parent / "results" / "serve_loaders.json"
LOADERS = {"session": "serving.server", "functions": "benchmarks.serve_by_functions"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    network: str = "preact_resnet20"
    loads: tuple[tuple[int, int], ...] = (
        (1, 128),
        (8, 32),
        (32, 8),
    )  # images, in flight
    largest_batch: int = 64
    pairs: int = 4
    seconds: float = 2.0  # of each side of a pair
    swaps: int = 2
    swap_seconds: float = 7.0
    load: float = 0.3  # meanwhile, of the requests per second of the slower one


QUICK = Plan(
    network="preact_resnet8", loads=((8, 16),), pairs=1, seconds=0.5, swaps=1,
    swap_seconds=4.0,
)  # fmt: skip


def main() -> None:
    """Measures, prints the table and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a trial of a minute")
    parser.add_argument("--output", type=Path, help=f"default: {RESULT}")
    arguments = parser.parse_args()
    result = measure(QUICK if arguments.quick else Plan())
    print(markdown(result))
    output = arguments.output or (None if arguments.quick else RESULT)
    if output:
        output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")


def measure(plan: Plan) -> dict[str, Any]:
    """Everything, as JSON."""
    result: dict[str, Any] = {
        "benchmark": "serve_loaders",
        "plan": dataclasses.asdict(plan),
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory(prefix="bench-loaders-") as place:
        work = Path(place)
        folder = serve.version_folder(work, plan.network)
        with contextlib.ExitStack() as stack:
            servers, loads = {}, {}
            for name, module in LOADERS.items():
                own = work / name
                own.mkdir()
                server = serve.Server(
                    own, folder.parent, plan.largest_batch, module=module
                )
                servers[name] = stack.enter_context(server)
                loads[name] = stack.enter_context(serve.Load(server.address))
            bare = stack.enter_context(serve.Bare(folder))
            result["throughput"] = [
                throughput(plan, servers, loads, bare, rows, callers)
                for rows, callers in plan.loads
            ]
            result["latency"] = latency(plan, loads, bare)
        settings = serve.Plan(
            latency_network=plan.network, largest_batch=plan.largest_batch,
            swaps=plan.swaps, swap_seconds=plan.swap_seconds,
        )  # fmt: skip
        first = result["throughput"][0]
        slower = min(
            statistics.median(first["images_per_second"][name]) for name in LOADERS
        )
        result["rate"] = plan.load * slower / first["rows"]
        result["swap"] = {
            name: serve.swap(work, settings, result["rate"], module)
            for name, module in LOADERS.items()
        }
    return result


def throughput(
    plan: Plan,
    servers: dict[str, serve.Server],
    loads: dict[str, serve.Load],
    bare: serve.Bare,
    rows: int,
    callers: int,
) -> dict[str, Any]:
    """Images per second of both servers and of bare full batches, in turns.

    And the servers' processor time per image, to which other work on the machine matters
    less.
    """
    for load in loads.values():
        load.run(rows=rows, callers=callers, seconds=plan.seconds / 2)
    found: dict[str, list[float]] = {name: [] for name in ("bare", *loads)}
    spent: dict[str, list[float]] = {name: [] for name in loads}
    for i in range(plan.pairs):
        for name in list(found)[:: -1 if i % 2 else 1]:
            if name == "bare":
                times = bare.run("session", plan.largest_batch, plan.seconds)
                found[name].append(plan.largest_batch * len(times) / sum(times))
                continue
            cpu = serve.cpu_seconds(servers[name])
            told = loads[name].run(rows=rows, callers=callers, seconds=plan.seconds)
            cpu = serve.cpu_seconds(servers[name]) - cpu
            serve._none_failed(told)
            images = rows * len(told["latencies"])
            found[name].append(images / told["seconds"])
            spent[name].append(1000 * cpu / images)
    serve._progress(f"{rows} images, {callers} in flight: {found}, {spent} ms")
    return {
        "rows": rows,
        "callers": callers,
        "images_per_second": found,
        "cpu_milliseconds": spent,
    }


def latency(
    plan: Plan, loads: dict[str, serve.Load], bare: serve.Bare
) -> dict[str, dict[str, float]]:
    """Milliseconds of one image at a time, p50 and p99."""
    found: dict[str, list[float]] = {name: [] for name in ("bare", *loads)}
    for i in range(plan.pairs):
        for name in list(found)[:: -1 if i % 2 else 1]:
            if name == "bare":
                found[name] += bare.run("session", 1, plan.seconds)
            else:
                told = loads[name].run(rows=1, callers=1, seconds=plan.seconds)
                found[name] += told["latencies"]
    serve._progress("latency")
    return {
        name: {f"p{p}": 1000 * float(np.percentile(times, p)) for p in (50, 99)}
        | {"calls": len(times)}
        for name, times in found.items()
    }


def markdown(result: dict[str, Any]) -> str:
    """The table of docs/serving.md."""
    network = result["plan"]["network"]
    rows = []
    for each in result["throughput"]:
        what = f"{network}, {each['rows']} per request, {each['callers']} in flight"
        for key, unit, form in (
            ("images_per_second", "images/s", ",.0f"),
            ("cpu_milliseconds", "server's processor time per image, ms", ".2f"),
        ):
            own, by = (each[key][name] for name in LOADERS)
            ratios = [b / a for a, b in zip(own, by, strict=True)]
            rows.append((
                f"{what}: {unit}",
                *(format(statistics.median(side), form) for side in (own, by)),
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to "
                f"{max(ratios):.2f})",
            ))  # fmt: skip
    delay = result["latency"]
    for p in ("p50", "p99"):
        added = [delay[name][p] - delay["bare"][p] for name in LOADERS]
        rows.append((
            f"one image at a time: added to the bare call, {p}",
            *(f"{each:.2f} ms" for each in added),
            f"{added[1] - added[0]:+.2f} ms",
        ))  # fmt: skip
    swaps = result["swap"].values()
    rows.append((
        f"p99 while {result['plan']['swaps']} versions change, at "
        f"{result['rate']:.0f} requests/s, against before",
        *(f"{s['ratio']:.1f} x ({s['p99_swap']:.1f} against {s['p99_quiet']:.1f} ms)"
          for s in swaps),
        "",
    ))  # fmt: skip
    rows.append((
        "requests that failed meanwhile",
        *(f"{s['failed']} of {s['requests']:,}" for s in swaps),
        "",
    ))  # fmt: skip
    lines = ["| what | session.py | tf.saved_model.load | ratio |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    main()
