"""Measures what honest clients of the embedded server feel of hostile ones.

    python -m benchmarks.serve_hostile [--quick | --each] [--output FILE]

Of 64 clients a tenth is hostile: half-sent bodies, slow readers, gzip bombs, long names,
wrong reloads, idle sockets, malformed heads and huge tensors in turn, by REST and gRPC.
Phases without them, with a second between two attacks of each, and with none take turns;
the honest ones send the same in all: a share of what the server bears when each asks again
at once, measured first. Server and all clients share the machine. Takes ten minutes on 2
cores with nothing else running. Writes benchmarks/results/serve_hostile.json and prints the
table of docs/security.md. `--quick`
shows in half a minute that all of it works, `--each` in three minutes what each kind of
attack does by itself; these write nothing unless `--output` is given.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import serve
from benchmarks.serve_hostile_load import ATTACKS
from benchmarks.train import machine

PROTOCOLS = {"grpc": "gRPC", "rest": "REST"}
ALONE = "alone"
RESULT = Path(__file__).parent / "results" / "serve_hostile.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    network: str = "preact_resnet20"
    largest_batch: int = 64
    honest: int = 58
    hostile: int = 6
    load: float = 0.5  # of the capacity: what all honest clients send together
    # Name: seconds between two attacks, which ones (all, if none is named).
    attacks: tuple[tuple[str, float, tuple[str, ...]], ...] = (
        ("attacks 1 s apart", 1.0, ()),
        ("attacks 0 s apart", 0.0, ()),
    )
    rounds: int = 6  # of a phase of each kind
    seconds: float = 27.0  # of a phase
    rest_seconds: float = 3.0  # after one, until what was held has gone


QUICK = Plan(
    network="preact_resnet8", largest_batch=32, honest=12, hostile=9, rounds=1,
    seconds=5.0, rest_seconds=1.0,
)  # fmt: skip
EACH = Plan(
    attacks=tuple((attack.__name__, 0.0, (attack.__name__,)) for attack, _ in ATTACKS),
    rounds=2, seconds=8.0,
)  # fmt: skip


def main() -> None:
    """Runs the benchmark, prints the table and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    short = parser.add_mutually_exclusive_group()
    short.add_argument("--quick", action="store_true", help="a trial of half a minute")
    short.add_argument("--each", action="store_true", help="attacks one by one")
    parser.add_argument("--output", type=Path, help=f"default: {RESULT}")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else EACH if arguments.each else Plan()
    output = arguments.output or (RESULT if plan == Plan() else None)
    result = measure(plan)
    print(markdown(result))
    if output:
        output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
        print(f"wrote {output}")


class Clients(serve.Process):
    """See benchmarks.serve_hostile_load."""

    def __init__(self, role: str, server: serve.Server):
        super().__init__(
            "benchmarks.serve_hostile_load",
            role, server.address, str(server.rest_port), serve.MODEL,
        )  # fmt: skip

    def begin(self, **order: Any) -> None:
        """Starts what `end` waits for."""
        self._order(**order)

    def end(self) -> dict[str, Any]:
        """What has happened since."""
        return self._answer()


def measure(plan: Plan) -> dict[str, Any]:
    """Phases in turns."""
    phases: list[dict[str, Any]] = []
    latencies: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    attacks: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    unexpected: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as folder:
        work = Path(folder)
        base = serve.version_folder(work, plan.network).parent
        with (
            serve.Server(work, base, plan.largest_batch) as server,
            Clients("honest", server) as honest,
            Clients("hostile", server) as hostile,
        ):
            honest.begin(clients=plan.honest, rate=None, seconds=plan.seconds / 3)
            found = honest.end()
            capacity = sum(len(found[protocol]) for protocol in PROTOCOLS)
            capacity /= plan.seconds / 3
            rate = plan.load * capacity

            def phase(
                name: str, pause: float, kinds: tuple[str, ...], seconds: float
            ) -> dict[str, Any]:
                processes = {"server": server, "honest": honest, "hostile": hostile}
                before = {who: serve.cpu_seconds(it) for who, it in processes.items()}
                honest.begin(clients=plan.honest, rate=rate, seconds=seconds)
                if name != ALONE:
                    hostile.begin(
                        clients=plan.hostile,
                        seconds=seconds,
                        pause=pause,
                        attacks=kinds,
                    )
                found = honest.end()
                found |= hostile.end() if name != ALONE else {}
                for who, process in processes.items():
                    used = serve.cpu_seconds(process) - before[who]
                    found[f"{who}_cores"] = round(used / seconds, 3)
                time.sleep(plan.rest_seconds)
                return found | {"phase": name, "megabytes": server.megabytes()}

            kinds = ((ALONE, 0.0, ()), *plan.attacks)
            for kind in kinds:  # pools and buffers fill once
                phase(*kind, plan.seconds / 3)
            for number in range(plan.rounds):
                for kind in kinds[:: -1 if number % 2 else 1]:
                    found = phase(*kind, plan.seconds)
                    for protocol in PROTOCOLS:
                        latencies[protocol, found["phase"]] += found[protocol]
                        found[f"{protocol}_p99"] = p(99, found[protocol])
                        found[protocol] = len(found[protocol])
                    for name, outcomes in found.pop("attacks", {}).items():
                        attacks[name].update(outcomes)
                    unexpected += found.pop("unexpected", [])
                    phases.append(found)
                    print(json.dumps(found), flush=True)
            lines = (work / "server.log").read_text().splitlines()
    # After an attack some of it is still held; what stays shows without one.
    sizes = [found["megabytes"] for found in phases if found["phase"] == ALONE]
    result: dict[str, Any] = {
        "benchmark": "serve_hostile",
        "plan": dataclasses.asdict(plan),
        "machine": machine(),
        "capacity": capacity,  # requests per second
        "phases": phases,
        "attacks": attacks,
        "unexpected": unexpected,
        "requests": sum(map(len, latencies.values())),
        "failed": sum(sum(found["failures"].values()) for found in phases),
        "tracebacks": sum("Traceback" in line for line in lines),
        "growth_second_half": sizes[-1] - sizes[(len(sizes) - 1) // 2],
        "load_average_after": os.getloadavg(),
    }
    for protocol in PROTOCOLS:
        result[protocol] = {
            f"p{percent}": {
                name: p(percent, latencies[protocol, name]) for name, *_ in kinds
            }
            for percent in (50, 99)
        }
    return result


def p(percent: float, seconds: list[float]) -> float:
    """A percentile, in milliseconds."""
    return 1000 * float(np.percentile(seconds, percent))


def markdown(result: dict[str, Any]) -> str:
    """The table of docs/security.md."""
    made = sum(sum(outcomes.values()) for outcomes in result["attacks"].values())
    wrong = f"{len(result['unexpected'])} of {made:,}"
    rows = [
        (
            "honest requests that failed",
            f"{result['failed']} of {result['requests']:,}",
            "0",
        ),
        ("attacks answered otherwise than they should be", wrong, "0"),
        ("tracebacks in the log", f"{result['tracebacks']}", "0"),
    ]
    for protocol, title in PROTOCOLS.items():
        for percent, target in (("p50", ""), ("p99", "< 3 x")):
            found = dict(result[protocol][percent])
            alone = found.pop(ALONE)
            for name, took in found.items():
                rows.append((
                    f"{title}, {percent}, {name}",
                    f"{took / alone:.1f} x ({took:.1f} against {alone:.1f} ms)",
                    target,
                ))  # fmt: skip
    sizes = [phase["megabytes"] for phase in result["phases"]]
    rows.append((
        "memory, second half",
        f"{result['growth_second_half']:+.1f} MB; at most {max(sizes):.0f}",
        "no growth",
    ))  # fmt: skip
    lines = ["| what | measured | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
