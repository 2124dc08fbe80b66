"""What keeping every request costs those who ask: latency with the log and without.

    python -m benchmarks.request_log [--pairs 5] [--seconds 3] [--network NAME] [--output FILE]

Two servers with the same model, one of them with --request_log_sampling_rate=1; one image
a request over gRPC, one request at a time. They are asked in turns, in alternating order;
the medians of the pairs' p50 and p99 are compared.

Writes benchmarks/results/request_log.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.serve import Load, Server, version_folder
from benchmarks.train import machine

RESULT = Path(__file__).parent / "results" / "request_log.json"
PERCENTS = (50, 99)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.request_log")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each side")
    parser.add_argument("--network", default="preact_resnet20")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    result = measure(options.pairs, options.seconds, options.network)
    options.output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    for percent in PERCENTS:
        found = result[f"p{percent}"]
        print(
            f"p{percent}: {found['without']:.2f} ms without, {found['with']:.2f} ms with "
            f"the log: {found['ratio']:.3f} times"
        )
    return 0


def measure(pairs: int, seconds: float, network: str) -> dict:
    """Milliseconds, medians over the pairs; `ratio` is that of each pair's two sides."""
    found: dict[str, list[list[float]]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory(prefix="bench-request-log-") as folder:
        work = Path(folder)
        places = {side: work / side for side in found}
        for place in places.values():
            place.mkdir()
        base = version_folder(work, network).parent
        log = ("--request_log_sampling_rate=1", f"--request_log_dir={work / 'log'}")
        with (
            Server(places["without"], base, 32) as plain,
            Server(places["with"], base, 32, *log) as logging,
            Load(plain.address) as ask_plain,
            Load(logging.address) as ask_logging,
        ):
            asked = {"without": ask_plain, "with": ask_logging}
            for load in asked.values():
                load.run(rows=1, callers=1, seconds=seconds / 2)
            for number in range(pairs):
                for side in sorted(asked, reverse=bool(number % 2)):
                    calls = asked[side].run(rows=1, callers=1, seconds=seconds)
                    if calls["failures"]:
                        raise RuntimeError(f"requests failed: {calls['failures']}")
                    milliseconds = 1000 * np.array(calls["latencies"])
                    found[side].append(
                        [float(np.percentile(milliseconds, p)) for p in PERCENTS]
                    )
        kept = sum(path.stat().st_size for path in (work / "log").iterdir())
    result: dict = {
        "benchmark": "request_log",
        "network": network,
        "machine": machine(),
        "pairs": found,
        "seconds": seconds,
        "log_bytes": kept,
    }
    for place, percent in enumerate(PERCENTS):
        sides = {side: [each[place] for each in found[side]] for side in found}
        both = zip(sides["with"], sides["without"], strict=True)
        result[f"p{percent}"] = {
            **{side: statistics.median(values) for side, values in sides.items()},
            "ratio": statistics.median(a / b for a, b in both),
        }
    return result


if __name__ == "__main__":
    raise SystemExit(main())
