"""What gRPC itself costs on a server in Python, by the way it is served.

    python -m benchmarks.transport [--seconds 4] [--pairs 5]

Three servers answer Predict calls of one image with 150 ready-made bytes: `grpc.server`
with 256 threads, `grpc.aio` with a coroutine, and serving/server/grpc_core.py. Measured is
processor time of the server per call, 128 calls in flight, and the time of a single call.
They take turns. The load is made by h2load if it is installed (Debian's nghttp2-client),
else by Python. Writes benchmarks/results/transport.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from benchmarks import serve, serve_load
from benchmarks.train import machine

RESULT = Path(__file__).parent / "results" / "transport.json"
# A message with a field that no reader knows, as long as a prediction.
ANSWER = b"\xfa\x01\x93\x01" + bytes(147)
WAYS = ("grpc.server", "grpc.aio", "grpc_core")
CALLERS = 128
_SERVICE, _METHOD = serve_load.PREDICT[1:].split("/")


def main() -> None:
    """Measures, prints a table and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each server")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        {"grpc.server": _threads, "grpc.aio": _event_loop, "grpc_core": _queue}[
            arguments.serve
        ]()
        return
    result = measure(arguments.seconds, arguments.pairs)
    print("| server | processor time per call | one call alone, p50 |\n|---|---|---|")
    for way, found in result["servers"].items():
        print(f"| {way} | {found['cpu_ms']:.3f} ms | {found['p50_ms']:.2f} ms |")
    arguments.output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(f"wrote {arguments.output}")


def measure(seconds: float, pairs: int) -> dict[str, Any]:
    """Medians over the turns, by server."""
    by_h2load = shutil.which("h2load") is not None
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    single: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(pairs):
            for way in WAYS:
                server = serve.Process("benchmarks.transport", f"--serve={way}")
                with server, serve.Load(server.ready["address"]) as load:
                    load.run(rows=1, callers=1, seconds=seconds / 4)
                    found = load.run(rows=1, callers=1, seconds=seconds)
                    single[way].append(1000 * statistics.median(found["latencies"]))
                    used = serve.cpu_seconds(server)
                    if by_h2load:
                        calls, _ = serve.h2load(
                            Path(folder), server.ready["address"], CALLERS, seconds
                        )
                    else:
                        found = load.run(rows=1, callers=CALLERS, seconds=seconds)
                        calls = len(found["latencies"])
                    used = serve.cpu_seconds(server) - used
                    cpu[way].append(1000 * used / calls)
    return {
        "benchmark": "transport",
        "machine": machine(),
        "load": "h2load" if by_h2load else "Python",
        "seconds": seconds,
        "turns": pairs,
        "servers": {
            way: {
                "cpu_ms": statistics.median(cpu[way]),
                "cpu_ms_all": cpu[way],
                "p50_ms": statistics.median(single[way]),
            }
            for way in WAYS
        },
    }


def _ready(port: int) -> None:
    print(json.dumps({"ready": True, "address": f"127.0.0.1:{port}"}), flush=True)


def _handlers(answer: Any) -> tuple[grpc.GenericRpcHandler]:
    method = grpc.unary_unary_rpc_method_handler(answer)
    return (grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method}),)


def _threads() -> None:
    def answer(*_: object) -> bytes:
        return ANSWER

    server = grpc.server(ThreadPoolExecutor(256))
    server.add_generic_rpc_handlers(_handlers(answer))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _ready(port)
    sys.stdin.read()


def _event_loop() -> None:
    async def answer(*_: object) -> bytes:
        return ANSWER

    async def run() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(_handlers(answer))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        _ready(port)
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(run())


def _queue() -> None:
    from serving.server import grpc_core

    def answer(_: bytes, call: grpc_core.Call) -> None:
        call.reply(ANSWER)

    server = grpc_core.Server({serve_load.PREDICT: answer}, 10_000, {})
    port = server.add_port("127.0.0.1:0")
    server.start()
    _ready(port)
    sys.stdin.read()


if __name__ == "__main__":
    main()
