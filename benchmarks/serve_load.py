"""A process that loads a server with Predict calls, as cheaply as Python can.

    python -m benchmarks.serve_load ADDRESS MODEL

For each line on stdin it answers with one JSON line. The calls carry ready-made bytes and
their answers are looked at as bytes only, except for the model's version: on the few
cores that it shares with the server, a client's own work would count against it.

{"rows": n, "callers": c, "seconds": s}   closed loop: c calls in flight
{"rows": n, "rate": r, "seconds": s}      open loop: r calls per second, at even times;
                                          latencies count from when a call was due
Answer: {"seconds": wall, "latencies": [...], "at": [...], "versions": [...],
"failures": {code: count}}; latencies in seconds, `at` on the clock of time.time().
"""

from __future__ import annotations

import collections
import json
import sys
import threading
import time
from typing import Any

import grpc
import numpy as np

from serving.client import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def main() -> None:
    """Answers until stdin ends."""
    address, model = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(PREDICT)  # bytes to bytes
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            load = _one_after_the_other if order.get("callers") == 1 else _load
            found = load(call, request(model, order["rows"]), order)
            print(json.dumps(found), flush=True)


def request(model: str, rows: int) -> bytes:
    """A Predict request of random images."""
    images = np.random.default_rng(0).integers(0, 256, (rows, 32, 32, 3), np.uint8)
    message = messages.PredictRequest()
    message.model_spec.name = model
    tensor = message.inputs["images"]
    tensor.dtype = 4  # DT_UINT8
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = images.tobytes()
    return message.SerializeToString()


def version(answer: bytes) -> int:
    """Which version of the model answered."""
    return messages.PredictResponse.FromString(answer).model_spec.version.value


def _one_after_the_other(
    call: Any, body: bytes, order: dict[str, Any]
) -> dict[str, Any]:
    """A single caller needs no second thread, which would cost it 0.1 ms."""
    latencies, finished = [], []
    start = time.perf_counter()
    while time.perf_counter() - start < order["seconds"]:
        due = time.perf_counter()
        call(body, timeout=60)
        latencies.append(time.perf_counter() - due)
        finished.append(time.time())
    return {
        "seconds": time.perf_counter() - start,
        "latencies": latencies,
        "at": finished,
        "versions": [],
        "failures": {},
    }


def _load(call: Any, body: bytes, order: dict[str, Any]) -> dict[str, Any]:
    latencies: list[float] = []
    finished: list[float] = []
    versions: collections.Counter[int] = collections.Counter()
    failures: collections.Counter[str] = collections.Counter()
    in_flight = threading.Semaphore(order.get("callers", 10**6))
    lock = threading.Lock()
    pending = 0
    idle = threading.Condition(lock)

    def done(future: Any, due: float) -> None:
        nonlocal pending
        now = time.perf_counter()
        in_flight.release()
        code = future.code()
        with lock:
            if code is grpc.StatusCode.OK:
                latencies.append(now - due)
                finished.append(time.time())
                # Every answer would cost more than the rest; a swap takes seconds.
                if len(latencies) % 16 == 0:
                    versions[version(future.result())] += 1
            else:
                failures[code.name] += 1
            pending -= 1
            if not pending:
                idle.notify()

    start = time.perf_counter()
    end = start + order["seconds"]
    count = 0
    while True:
        if "rate" in order:
            due = start + count / order["rate"]
            if due >= end:
                break
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
        else:
            in_flight.acquire()
            due = time.perf_counter()
            if due >= end:
                break
        count += 1
        with lock:
            pending += 1
        future = call.future(body, timeout=60)
        future.add_done_callback(lambda f, due=due: done(f, due))
    with idle:
        while pending:
            idle.wait()
    return {
        "seconds": time.perf_counter() - start,
        "latencies": latencies,
        "at": finished,
        "versions": sorted(versions),
        "failures": failures,
    }


if __name__ == "__main__":
    main()
