"""Measures the embedded server against bare calls of the same SavedModel, in one run.

    python -m benchmarks.serve [--quick] [--output FILE]

1. Throughput: many callers through gRPC and dynamic batching, against one caller who has
   all images at hand and calls the SavedModel in full batches. Both take turns; so does,
   with single images, a gRPC server that answers at once.
2. Latency of one image at a time: what the server adds to the bare call. Both take turns.
3. Hot swap: a steady load at 40 % of the capacity while new versions are published.
4. Memory: a steady load at 80 % of the capacity for a bounded number of requests.
5. A thousand malformed requests.

Server, load and bare calls have the same cores; a client on the server's machine is part
of what is measured. Where h2load is installed (Debian's nghttp2-client), single images
are sent by it as well, which costs less than by Python. "Bare" is the faster of two ways
to call: the signature function of tf.saved_model.load and a v1 session. Takes about nine
minutes on 2 cores with nothing else running. Writes benchmarks/results/serve.json and
prints the table of docs/serving.md. `--quick` shows in a minute that all of it works, and
writes nothing unless `--output` is given.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks import serve_load
from benchmarks.train import ROOT, machine
from contract.datasets import PUBLISHED_SHAPE
from serving.client import messages

RESULT = Path(__file__).parent / "results" / "serve.json"
MODEL = "cifar"
PARAMETERS = """\
max_batch_size { value: %d }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    # Network, images per request, requests in flight.
    throughput: tuple[tuple[str, int, int], ...] = (
        ("preact_resnet20", 1, 128),
        ("preact_resnet20", 8, 32),
        ("preact_resnet20", 32, 8),
        ("preact_resnet164", 1, 128),
    )
    pairs: int = 5
    seconds: float = 4.0  # of each side of a pair
    largest_batch: int = 64
    latency_network: str = "preact_resnet20"
    latency_pairs: int = 10
    latency_seconds: float = 2.0
    swaps: int = 3
    swap_seconds: float = 10.0  # per swap, and as long before the first one
    memory_seconds: float = 60.0
    malformed: int = 1000


QUICK = Plan(
    throughput=(("preact_resnet8", 8, 16), ("preact_resnet8", 1, 16)),
    pairs=1, seconds=1.0, largest_batch=32,
    latency_network="preact_resnet8", latency_pairs=1, latency_seconds=0.5,
    swaps=1, swap_seconds=4.0, memory_seconds=3.0, malformed=100,
)  # fmt: skip


def main() -> None:
    """Runs the benchmark, prints the table and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a trial of a minute")
    parser.add_argument("--output", type=Path, help=f"default: {RESULT}")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    load = os.getloadavg()[0]
    if load > 0.5:
        _progress(
            f"the load average is {load:.1f}: other work will disturb the figures"
        )
    result = measure(plan)
    print(markdown(result))
    output = arguments.output or (None if arguments.quick else RESULT)
    if output:
        output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
        print(f"wrote {output}")


def measure(plan: Plan) -> dict[str, Any]:
    """All five sections."""
    result: dict[str, Any] = {
        "benchmark": "serve",
        "plan": dataclasses.asdict(plan),
        "machine": machine(),
        "throughput": [],
    }
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        work = Path(folder)
        for network, rows, callers in plan.throughput:
            _progress(f"throughput: {network}, {rows} images per request")
            result["throughput"].append(throughput(work, plan, network, rows, callers))
        _progress("latency")
        result["latency"] = latency(work, plan)
        capacity = result["latency"]["capacity"]
        _progress(f"hot swap under load (capacity {capacity:.0f} requests/s)")
        result["swap"] = swap(work, plan, 0.4 * capacity)
        _progress("memory")
        result["memory"] = memory(work, plan, 0.8 * capacity)
        _progress("malformed requests")
        result["malformed"] = malformed(work, plan)
    result["load_average_after"] = os.getloadavg()
    return result


def throughput(
    work: Path, plan: Plan, network: str, rows: int, callers: int
) -> dict[str, Any]:
    """Images per second, batched by the server and in bare batches, in turns."""
    folder = version_folder(work, network)
    with (
        Server(work, folder.parent, plan.largest_batch) as server,
        Bare(folder) as bare,
    ):
        how = bare.faster(plan.largest_batch, plan.seconds / 2)
        with contextlib.ExitStack() as stack:
            loads: dict[str, tuple[Server | Process, Load]] = {}
            loads["server"] = server, stack.enter_context(Load(server.address))
            if rows == 1:
                echo = stack.enter_context(Process("benchmarks.serve_echo", "400"))
                loads["echo"] = echo, stack.enter_context(Load(echo.ready["address"]))
            for _, load in loads.values():
                load.run(rows=rows, callers=callers, seconds=plan.seconds / 2)
            sides = ["bare", *loads]
            if rows == 1 and shutil.which("h2load"):
                sides.append("h2load")
            pairs: list[dict[str, tuple[float, float]]] = []
            for i in range(plan.pairs):
                pair = {}
                for side in sides[:: -1 if i % 2 else 1]:
                    if side == "bare":
                        cpu = cpu_seconds(bare)
                        seconds = bare.run(how, plan.largest_batch, plan.seconds)
                        images = plan.largest_batch * len(seconds)
                        wall = sum(seconds)
                        cpu = cpu_seconds(bare) - cpu
                    elif side in loads:
                        cpu = cpu_seconds(*loads[side])
                        found = loads[side][1].run(
                            rows=rows, callers=callers, seconds=plan.seconds
                        )
                        _none_failed(found)
                        images = rows * len(found["latencies"])
                        wall = found["seconds"]
                        cpu = cpu_seconds(*loads[side]) - cpu
                    else:
                        cpu = cpu_seconds(server) + _children_seconds()
                        images, wall = h2load(
                            work, server.address, callers, plan.seconds
                        )
                        cpu = cpu_seconds(server) + _children_seconds() - cpu
                    pair[side] = (images / wall, 1000 * cpu / images)
                pairs.append(pair)
                _progress(
                    "  {} images/s".format(
                        ", ".join(f"{side} {pair[side][0]:.0f}" for side in sides)
                    )
                )
    result: dict[str, Any] = {
        "network": network,
        "rows": rows,
        "callers": callers,
        "bare_how": how,
    }
    for side in sides:
        result[f"{side}_images_per_second"] = statistics.median(
            p[side][0] for p in pairs
        )
        result[f"{side}_cpu_milliseconds"] = statistics.median(
            p[side][1] for p in pairs
        )
        if side == "echo":
            # If all that a server did besides the model was to be called.
            result["grpc_limit"] = statistics.median(
                p["bare"][1] / (p["bare"][1] + p[side][1]) for p in pairs
            )
        elif side != "bare":
            ratios = [pair[side][0] / pair["bare"][0] for pair in pairs]
            result[f"{side}_ratios"] = ratios
            result[f"{side}_ratio"] = statistics.median(ratios)
            # Of processor time per image: other work on the machine matters less to it.
            result[f"{side}_cpu_ratio"] = statistics.median(
                p["bare"][1] / p[side][1] for p in pairs
            )
    return result


def h2load(work: Path, address: str, callers: int, seconds: float) -> tuple[int, float]:
    """A load of single images made by a program in C, nghttp2's h2load.

    It takes a tenth of the processor time of Python's client, so that what remains is the
    server's.

    Returns:
        Answered requests, and the seconds that they took.

    Raises:
        RuntimeError: Not all were answered with a prediction.
    """
    body = serve_load.request(MODEL, 1)
    with grpc.insecure_channel(address) as channel:
        expected = len(channel.unary_unary(serve_load.PREDICT)(body, timeout=60))
    file = work / "request.grpc"
    # gRPC's frame: not compressed, length, message.
    file.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
    clients = 4
    text = subprocess.run(
        [
            "h2load", f"--duration={max(1, round(seconds))}", "--threads=1",
            f"--clients={clients}",
            f"--max-concurrent-streams={max(1, callers // clients)}", f"--data={file}",
            "--header=content-type: application/grpc", "--header=te: trailers",
            f"http://{address}{serve_load.PREDICT}",
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    done = re.search(r"(\d+) succeeded", text)
    wall = re.search(r"finished in ([\d.]+)(ms|s)", text)
    sent = re.search(r"\((\d+)\) data", text)
    if not done or not wall or not sent:
        raise RuntimeError(f"h2load says what is not understood:\n{text}")
    answered = int(done[1])
    # An error has no message: its status is in the trailers, which h2load does not read.
    # Equal requests have answers of equal length, each behind 5 bytes of gRPC's frame.
    if not answered or int(sent[1]) < (expected + 5) * answered:
        raise RuntimeError(f"h2load was not answered with predictions:\n{text}")
    return answered, float(wall[1]) / (1000 if wall[2] == "ms" else 1)


def _children_seconds() -> float:
    """Processor time of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds(*processes: Process | Server) -> float:
    """Processor time that these processes and their children have used."""
    ticks = 0
    for pid in [
        pid for process in processes for pid in (process.pid, *children(process.pid))
    ]:
        text = Path(f"/proc/{pid}/stat").read_text()
        # Its own, user and system, and that of children that have ended.
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Processes that this one has started and that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def latency(work: Path, plan: Plan) -> dict[str, Any]:
    """One image at a time, in milliseconds; and the requests per second at most."""
    folder = version_folder(work, plan.latency_network)
    served: list[float] = []
    called: list[float] = []
    with (
        Server(work, folder.parent, plan.largest_batch) as server,
        Bare(folder) as bare,
        Load(server.address) as load,
    ):
        how = bare.faster(1, plan.latency_seconds)
        load.run(rows=1, callers=1, seconds=plan.latency_seconds)
        for i in range(plan.latency_pairs):
            for side in ("bare", "server") if i % 2 else ("server", "bare"):
                if side == "bare":
                    called += bare.run(how, 1, plan.latency_seconds)
                else:
                    found = load.run(rows=1, callers=1, seconds=plan.latency_seconds)
                    served += found["latencies"]
        found = load.run(rows=1, callers=64, seconds=2 * plan.latency_seconds)
    result: dict[str, Any] = {
        "network": plan.latency_network,
        "bare_how": how,
        "calls": len(served),
        "capacity": len(found["latencies"]) / found["seconds"],
    }
    for percent in (50, 99):
        pair = [1000 * float(np.percentile(side, percent)) for side in (served, called)]
        result[f"p{percent}"] = {
            "server": pair[0], "bare": pair[1], "added": pair[0] - pair[1]
        }  # fmt: skip
    return result


def swap(work: Path, plan: Plan, rate: float) -> dict[str, Any]:
    """Percentiles of a steady load while versions are published, and without."""
    source = version_folder(work, plan.latency_network)
    base = Path(tempfile.mkdtemp(prefix="swapped-", dir=work))
    publish(source, base, 1)
    total = plan.swap_seconds * (plan.swaps + 1)
    with (
        Server(work, base, plan.largest_batch) as server,
        Load(server.address) as load,
    ):
        load.run(rows=1, rate=rate, seconds=2.0)
        load.begin(rows=1, rate=rate, seconds=total)
        began = time.time()
        spans = []
        for number in range(2, plan.swaps + 2):
            time.sleep(max(0.0, began + plan.swap_seconds * (number - 1) - time.time()))
            start = time.time()
            publish(source, base, number)
            server.wait_for_version(number)
            # The old version is unloaded after that.
            spans.append((start, time.time() + 1.0))
        found = load.end()
    _none_failed(found)
    quiet, busy = [], []
    for at, seconds in zip(found["at"], found["latencies"], strict=True):
        inside = any(start <= at <= end for start, end in spans)
        (busy if inside else quiet).append(1000 * seconds)
    return {
        "swaps": plan.swaps,
        "requests": len(found["latencies"]),
        "rate": rate,
        "failed": sum(found["failures"].values()),
        "versions": found["versions"],
        "requests_during_swaps": len(busy),
        "seconds_to_swap": statistics.median(b - a - 1.0 for a, b in spans),
        "p99_quiet": float(np.percentile(quiet, 99)),
        "p99_swap": float(np.percentile(busy, 99)),
        "ratio": float(np.percentile(busy, 99) / np.percentile(quiet, 99)),
    }


def memory(work: Path, plan: Plan, rate: float) -> dict[str, Any]:
    """The server's resident memory during a steady load, in MB."""
    folder = version_folder(work, plan.latency_network)
    sizes = []
    requests = 0
    with (
        Server(work, folder.parent, plan.largest_batch) as server,
        Load(server.address) as load,
    ):
        # Pools of threads and of TensorFlow's memory have to be filled once.
        load.run(rows=1, callers=128, seconds=plan.memory_seconds / 6)
        for _ in range(6):
            sizes.append(server.megabytes())
            found = load.run(rows=1, rate=rate, seconds=plan.memory_seconds / 6)
            _none_failed(found)
            requests += len(found["latencies"])
        sizes.append(server.megabytes())
    return {
        "requests": requests,
        "rate": rate,
        "megabytes": sizes,
        "growth": sizes[-1] - sizes[0],
        "growth_second_half": sizes[-1] - sizes[3],
    }


def malformed(work: Path, plan: Plan) -> dict[str, Any]:
    """Requests that are wrong in every way, each followed by the question "and now?"."""
    folder = version_folder(work, plan.latency_network)
    answers: collections.Counter[str] = collections.Counter()
    unexpected: list[str] = []
    with Server(work, folder.parent, plan.largest_batch) as server:
        kinds = list(_malformed(server))
        with grpc.insecure_channel(server.address) as channel:
            predict = channel.unary_unary(serve_load.PREDICT)
            good = serve_load.request(MODEL, 1)

            def send(i: int) -> None:
                name, expected, ask = kinds[i % len(kinds)]
                got = ask(predict, np.random.default_rng(i))
                answers[got] += 1
                if got not in expected:
                    unexpected.append(f"{name}: {got}")
                if i % 10 == 0:
                    predict(good, timeout=60)

            for i in range(2 * len(kinds)):
                send(i)
            before = server.megabytes()
            for i in range(plan.malformed):
                send(i)
            predict(good, timeout=60)
            after = server.megabytes()
    return {
        "requests": plan.malformed,
        "answers": answers,
        "unexpected": unexpected,
        "growth_megabytes": after - before,
    }


def _malformed(server: Server) -> Iterator[tuple[str, set[str], Any]]:
    """Names, statuses that are right, and functions that send one and return the status."""
    good = serve_load.request(MODEL, 1)
    invalid = {"INVALID_ARGUMENT"}

    def over_grpc(make: Any) -> Any:
        def ask(predict: Any, random: np.random.Generator) -> str:
            try:
                predict(make(random), timeout=60)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        return ask

    def changed(change: Any) -> Any:
        def make(random: np.random.Generator) -> bytes:
            message = messages.PredictRequest.FromString(good)
            change(message, random)
            return message.SerializeToString()

        return over_grpc(make)

    def set_shape(*sizes: int) -> Any:
        def change(message: Any, _: Any) -> None:
            del message.inputs["images"].tensor_shape.dim[:]
            for size in sizes:
                message.inputs["images"].tensor_shape.dim.add(size=size)

        return change

    def rename(message: Any, _: Any) -> None:
        message.inputs["pixels"].CopyFrom(message.inputs["images"])
        del message.inputs["images"]

    def set_field(path: str, value: Any) -> Any:
        def change(message: Any, _: Any) -> None:
            *outer, last = path.split(".")
            for name in outer:
                message = (
                    message.inputs["images"]
                    if name == "images"
                    else getattr(message, name)
                )
            setattr(message, last, value)

        return change

    def over_http(body: bytes, path: str = f"/v1/models/{MODEL}:predict") -> Any:
        def ask(_: Any, random: np.random.Generator) -> str:
            data = body or random.bytes(200)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {len(data)}\r\n\r\n"
            )
            return server.http(head.encode() + data)

        return ask

    def half_closed(_: Any, random: np.random.Generator) -> str:
        return server.http(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"
            + random.bytes(20),
            half_close=True,
        )

    # A parser's own refusal of bytes that are no message is INTERNAL in gRPC.
    yield (
        "random bytes",
        {"INTERNAL", *invalid},
        over_grpc(lambda r: b"\xff" + r.bytes(99)),
    )
    yield (
        "truncated",
        {"INTERNAL", *invalid},
        over_grpc(lambda r: good[: r.integers(1, len(good) - 1)]),
    )
    yield "rank 3", invalid, changed(set_shape(*PUBLISHED_SHAPE))
    yield "rank 0", invalid, changed(set_shape())
    yield "huge shape", invalid, changed(set_shape(2**40, 32, 32, 3))
    yield "negative shape", invalid, changed(set_shape(-1, 32, 32, 3))
    yield "dtype", invalid, changed(set_field("images.dtype", 1))
    yield "unknown dtype", invalid, changed(set_field("images.dtype", 999))
    yield "input's name", invalid, changed(rename)
    yield "model's name", {"NOT_FOUND"}, changed(set_field("model_spec.name", "../etc"))
    yield (
        "signature's name",
        {"FAILED_PRECONDITION", *invalid},
        changed(set_field("model_spec.signature_name", "none")),
    )
    yield "random JSON", {"400"}, over_http(b"")
    yield "JSON of another shape", {"400"}, over_http(b'{"instances": [[1, 2], [3]]}')
    yield "NaN", {"400"}, over_http(b'{"instances": [NaN]}')
    yield "path", {"400"}, over_http(b"{}", "/v1/models/../../etc/passwd")
    yield "half-closed", {"400", "404", "closed"}, half_closed


def version_folder(work: Path, network: str) -> Path:
    """<work>/<network>/1, written at its first use."""
    folder = work / network / "1"
    if not folder.exists():
        subprocess.run(
            [sys.executable, "-m", "benchmarks.serve_model", network, str(folder)],
            cwd=ROOT, env=_environment(), check=True, capture_output=True,
        )  # fmt: skip
    return folder


def publish(source: Path, base: Path, number: int) -> None:
    """As components.atomic_pusher does: a copy that gets its name when complete."""
    growing = base / f".tmp-{number}"
    shutil.copytree(source, growing)
    growing.rename(base / str(number))


class Process:
    """A Python module with JSON lines on both of its ends."""

    def __init__(self, module: str, *arguments: str):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=_environment(), text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.pid = self._process.pid
        self.ready = self._answer()  # the first line

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # it holds nothing worth an orderly end
        self._process.communicate()
        self._errors.close()

    def _order(self, **order: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        self._errors.seek(0)
        raise RuntimeError(f"a process ended:\n{self._errors.read()[-2000:]}")


class Bare(Process):
    """Calls without a server."""

    def __init__(self, folder: Path):
        super().__init__("benchmarks.serve_bare", str(folder))

    def run(self, how: str, rows: int, seconds: float) -> list[float]:
        """Seconds of each call."""
        self._order(how=how, rows=rows, seconds=seconds)
        return self._answer()["seconds"]

    def faster(self, rows: int, seconds: float) -> str:
        """Which way to call is faster."""
        return min(
            ("function", "session"),
            key=lambda how: statistics.median(self.run(how, rows, seconds)),
        )


class Load(Process):
    """A client."""

    def __init__(self, address: str):
        super().__init__("benchmarks.serve_load", address, MODEL)

    def run(self, **order: Any) -> dict[str, Any]:
        """See benchmarks.serve_load."""
        self.begin(**order)
        return self.end()

    def begin(self, **order: Any) -> None:
        """Starts what `end` waits for."""
        self._order(**order)

    def end(self) -> dict[str, Any]:
        """What the load begun last has measured."""
        return self._answer()


class Server:
    """`python -m serving.server` with batching, in `with`."""

    def __init__(self, work: Path, base: Path, largest_batch: int, *flags: str):
        parameters = work / "batching.txt"
        parameters.write_text(PARAMETERS % largest_batch)
        self._errors = (work / "server.log").open("w+")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "serving.server", "--port=0",
                "--rest_api_port=-1", f"--model_name={MODEL}",
                f"--model_base_path={base}", "--enable_batching",
                f"--batching_parameters_file={parameters}", *flags,
            ],
            cwd=ROOT, env=_environment(), stderr=self._errors,
        )  # fmt: skip
        self.pid = self._process.pid
        end = time.monotonic() + 120
        while not (match := re.search(
            r"^serving .* on (\S+) \(gRPC\), http://\S+:(\d+) ", self._log(), re.MULTILINE
        )):  # fmt: skip
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                raise RuntimeError(f"the server did not start:\n{self._log()[-2000:]}")
            time.sleep(0.1)
        self.address = match[1]
        self.rest_port = int(match[2])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _log(self) -> str:
        return Path(self._errors.name).read_text()

    def megabytes(self) -> float:
        """Resident memory, with that of child processes."""
        pages = 0
        for pid in (self.pid, *children(self.pid)):
            with contextlib.suppress(FileNotFoundError):  # it has ended
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def wait_for_version(self, number: int) -> None:
        """Returns when that version answers and no other does."""
        message = messages.PredictRequest.FromString(serve_load.request(MODEL, 1))
        body = message.SerializeToString()
        with grpc.insecure_channel(self.address) as channel:
            predict = channel.unary_unary(serve_load.PREDICT)
            end = time.monotonic() + 60
            while serve_load.version(predict(body, timeout=60)) != number:
                if time.monotonic() > end:
                    raise RuntimeError(f"version {number} was not served in 60 s")
                time.sleep(0.05)

    def http(self, data: bytes, *, half_close: bool = False) -> str:
        """The status of the answer to raw bytes; "closed" if there is none."""
        with socket.create_connection(("127.0.0.1", self.rest_port), 30) as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                line = connection.recv(64).split(b" ")
                if len(line) > 1:
                    return line[1].decode()
        return "closed"


def _none_failed(found: dict[str, Any]) -> None:
    if found["failures"]:
        raise RuntimeError(f"requests failed: {found['failures']}")


def _environment() -> dict[str, str]:
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}


def markdown(result: dict[str, Any]) -> str:
    """The table of docs/serving.md."""
    rows = []
    for found in result["throughput"]:
        for side, load in (("server", ""), ("h2load", ", sent by h2load")):
            if f"{side}_ratio" not in found:
                continue
            ratios = found[f"{side}_ratios"]
            plural = "s" if found["rows"] > 1 else ""
            rows.append((
                f"{found['network']}, {found['rows']} image{plural} per request, "
                f"{found['callers']} in flight{load}: throughput against bare batches of "
                f"{result['plan']['largest_batch']}",
                f"{found[f'{side}_ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
                f"{found[f'{side}_images_per_second']:,.0f} against "
                f"{found['bare_images_per_second']:,.0f} images/s; "
                f"by processor time {found[f'{side}_cpu_ratio']:.2f}",
                ">= 0.9",
            ))  # fmt: skip
        if "grpc_limit" in found:
            rows.append((
                "the most that gRPC in Python leaves of it, by processor time",
                f"{found['grpc_limit']:.2f}: {found['bare_cpu_milliseconds']:.2f} ms of the "
                f"model and {found['echo_cpu_milliseconds']:.2f} ms of a call",
                "",
            ))  # fmt: skip
    delay, swapped = result["latency"], result["swap"]
    for percent, target in ((50, "<= 1.0 ms"), (99, "<= 3 ms")):
        pair = delay[f"p{percent}"]
        rows.append((
            f"{delay['network']}, one image at a time: latency added, p{percent}",
            f"{pair['added']:.2f} ms ({pair['server']:.2f} against {pair['bare']:.2f})",
            target,
        ))  # fmt: skip
    held, wrong = result["memory"], result["malformed"]
    rows += [
        (f"{swapped['swaps']} hot swaps at {swapped['rate']:.0f} requests/s: failed",
         f"{swapped['failed']} of {swapped['requests']:,}", "0"),
        ("p99 during them against before",
         f"{swapped['ratio']:.1f} x ({swapped['p99_swap']:.1f} against "
         f"{swapped['p99_quiet']:.1f} ms)", "<= 3 x"),
        (f"memory after {held['requests']:,} requests at {held['rate']:.0f}/s",
         f"{held['growth']:+.1f} MB of {held['megabytes'][0]:.0f}; second half "
         f"{held['growth_second_half']:+.1f} MB", "no growth"),
        (f"{wrong['requests']:,} malformed requests: answered wrongly",
         f"{len(wrong['unexpected'])}; memory {wrong['growth_megabytes']:+.1f} MB", "0"),
    ]  # fmt: skip
    lines = ["| what | measured | target |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


_STARTED = time.monotonic()


def _progress(text: str) -> None:
    print(f"[{time.monotonic() - _STARTED:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
