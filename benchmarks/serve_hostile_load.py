"""A process of clients, honest or hostile, for `benchmarks.serve_hostile`.

    python -m benchmarks.serve_hostile_load honest|hostile GRPC_ADDRESS REST_PORT MODEL

For each line on stdin it answers with one JSON line.

{"clients": n, "rate": r, "seconds": s}   honest: r requests per second, all clients
    together, each at even times (null: each asks again at once); every other client by
    REST. Answer:
    {"grpc": [...], "rest": [...], "failures": {...}}: latencies in seconds, counted from
    when a request was due.
{"clients": n, "seconds": s, "pause": p, "attacks": [names]}   hostile: each makes one attack
    after the other, the named kinds in turn (all, if none is named), and pauses after each.
    Answer:
    {"attacks": {name: {outcome: count}}, "unexpected": [...]}.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gzip
import http.client
import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from benchmarks import serve_load
from serving.client import messages

SECONDS = 60.0  # for one request
HELD_SECONDS = 2.0  # for which a connection is kept that sends or takes nothing
MIB = 1 << 20
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


@dataclass(frozen=True)
class Target:
    """The server."""

    address: str  # of gRPC
    port: int  # of REST
    model: str

    def grpc_port(self) -> int:
        """The same address's."""
        return int(self.address.rpartition(":")[2])

    def path(self, verb: str = ":predict") -> str:
        """Of the model, in REST."""
        return f"/v1/models/{self.model}{verb}"


def main() -> None:
    """Answers until stdin ends."""
    role, address, port, model = sys.argv[1:]
    target = Target(address, int(port), model)
    sys.setswitchinterval(0.0005)  # a client waits for no other one
    if role == "hostile":
        prepare(target)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        found = honest(target, order) if role == "honest" else hostile(target, order)
        print(json.dumps(found), flush=True)


def honest(target: Target, order: dict[str, Any]) -> dict[str, Any]:
    """See above."""
    latencies: dict[str, list[float]] = {"grpc": [], "rest": []}
    failures: collections.Counter[str] = collections.Counter()
    count = order["clients"]
    start = time.perf_counter() + 0.2

    def client(number: int) -> None:
        kind = "rest" if number % 2 else "grpc"
        ask = rest_client(target) if number % 2 else grpc_client(target)
        turn = 0
        while True:
            if order["rate"] is None:
                due = time.perf_counter()
            else:
                due = start + (number + turn * count) / order["rate"]
            if due >= start + order["seconds"]:
                break
            turn += 1
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            try:
                ask()
            except Exception as error:  # counted by what it says
                failures[f"{kind}: {error!r}"[:200]] += 1
            else:
                latencies[kind].append(time.perf_counter() - due)

    in_threads(client, count)
    return {**latencies, "failures": failures}


def grpc_client(target: Target) -> Callable[[], None]:
    """A function that asks once; with a connection of its own."""
    channel = grpc.insecure_channel(
        target.address, [("grpc.use_local_subchannel_pool", 1)]
    )
    call = channel.unary_unary(serve_load.PREDICT)
    body = serve_load.request(target.model, 1)

    def ask() -> None:
        answer = call(body, timeout=SECONDS)
        assert serve_load.version(answer) == 1

    return ask


def rest_client(target: Target) -> Callable[[], None]:
    """The same over REST."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=SECONDS)
    body = rest_body(1)

    def ask() -> None:
        connection.request("POST", target.path(), body)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text[:100])
        assert len(json.loads(text)["predictions"]) == 1

    return ask


# A client's own work would be felt by the others.
grpc_body = functools.cache(serve_load.request)


@functools.cache
def rest_body(rows: int) -> bytes:
    """A predict request of random images."""
    images = np.random.default_rng(0).integers(0, 256, (rows, 32, 32, 3), np.uint8)
    return json.dumps({"instances": images.tolist()}).encode()


def prepare(target: Target) -> None:
    """Makes what is costly to make, before anything is measured."""
    for mib in (16, 48, 256):
        packed_blanks(mib)
    grpc_body(target.model, 5000)
    for rows in (20, 100):
        rest_body(rows)


def hostile(target: Target, order: dict[str, Any]) -> dict[str, Any]:
    """See above."""
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    unexpected: list[str] = []
    names = order.get("attacks") or [attack.__name__ for attack, _ in ATTACKS]
    attacks = [row for row in ATTACKS if row[0].__name__ in names]
    end = time.monotonic() + order["seconds"]

    def client(number: int) -> None:
        turn = number * len(attacks) // order["clients"]
        while time.monotonic() < end:
            attack, allowed = attacks[turn % len(attacks)]
            turn += 1
            for outcome in attack(target):
                outcomes[attack.__name__][outcome] += 1
                if outcome not in allowed:
                    unexpected.append(f"{attack.__name__}: {outcome}")
            time.sleep(order["pause"])

    in_threads(client, order["clients"])
    return {"attacks": outcomes, "unexpected": unexpected[:20]}


def in_threads(function: Callable[[int], None], count: int) -> None:
    """Calls it with each number, all at the same time."""
    threads = [threading.Thread(target=function, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def status(port: int, *parts: bytes, half_close: bool = False) -> str:
    """Of the answer to raw bytes; "closed" without one."""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), SECONDS) as client,
    ):
        with contextlib.suppress(OSError):  # the answer may be here
            for part in parts:
                client.sendall(part)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        words = client.recv(64).split(b" ")
        if words[0].startswith(b"HTTP/1") and len(words) > 1:
            return words[1].decode()
    return "closed"


def post(target: Target, body: bytes, *fields: str, path: str = "") -> str:
    """The status of a POST."""
    lines = [f"POST {path or target.path()} HTTP/1.1", "Host: localhost", *fields]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return status(target.port, head.encode(), body)


def code(target: Target, method: str, body: bytes) -> str:
    """The status of a gRPC call."""
    with grpc.insecure_channel(target.address) as channel:
        try:
            channel.unary_unary(method)(body, timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def hold(stack: contextlib.ExitStack, ports: list[int], data: bytes) -> list[str]:
    """Sends the same to each, reads nothing, and waits."""
    clients = []
    for port in ports:
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(HELD_SECONDS)
        client.connect(("127.0.0.1", port))
        with contextlib.suppress(OSError):
            client.sendall(data)
        clients.append(client)
    time.sleep(HELD_SECONDS)
    outcomes = []
    for client in clients:
        outcome = "held"
        if select.select([client], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                words = client.recv(12).split(b" ")
                # gRPC says its settings at once.
                if words[0].startswith(b"HTTP/1"):
                    outcome = words[1].decode()
        outcomes.append(outcome)
    return outcomes


def half_sent_bodies(target: Target) -> list[str]:
    """Each is 16 MiB when it is unpacked, and never ends."""
    half = packed_blanks(16)[:-12]
    head = (
        f"POST {target.path()} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as stack:
        return hold(stack, [target.port] * 8, head + b"%x\r\n" % len(half) + half)


def slow_readers(target: Target) -> list[str]:
    """Ask again and again, and take nothing."""
    ask = f"GET {target.path('/metadata')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        return hold(stack, [target.port] * 4, ask * 500)


def gzip_bombs(target: Target) -> list[str]:
    """A quarter of a megabyte that is 256, and one that is within the limit."""
    return [
        post(target, packed_blanks(size), "Content-Encoding: gzip")
        for size in (256, 48)
    ]


@functools.cache
def packed_blanks(mib: int) -> bytes:
    """So many MiB."""
    return gzip.compress(b" " * (mib * MIB))


def long_names(target: Target) -> list[str]:
    """Of the model."""
    request = messages.PredictRequest.FromString(serve_load.request(target.model, 1))
    request.model_spec.name = "m" * (2 * MIB)
    path = f"/v1/models/{'m' * 4000}:predict"
    return [
        code(target, serve_load.PREDICT, request.SerializeToString()),
        post(target, b'{"instances": [1]}', path=path),
    ]


def wrong_reloads(target: Target) -> list[str]:
    """To folders that were not given, and of what is no configuration."""
    # ReloadConfigRequest { config { model_config_list { config { name base_path ... } } } }
    entry = b"".join(
        field(number, text.encode())
        for number, text in ((1, target.model), (2, "/etc"), (4, "tensorflow"))
    )
    return [
        code(target, RELOAD, field(1, field(1, field(1, entry)))),
        code(target, RELOAD, b""),
    ]


def field(number: int, data: bytes) -> bytes:
    """Of a protobuf message: bytes, a text or a message of less than 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


def idle_sockets(target: Target) -> list[str]:
    """Fifty on each port."""
    with contextlib.ExitStack() as stack:
        return hold(stack, [target.port, target.grpc_port()] * 50, b"")


def malformed_heads(target: Target) -> list[str]:
    """And what is no HTTP at all."""
    post_line = f"POST {target.path()} HTTP/1.1\r\nHost: localhost\r\n".encode()
    rest = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        post_line + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        post_line + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        post_line + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        post_line + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    )
    found = [status(target.port, data) for data in rest]
    half = post_line + b"Content-Length: 99\r\n\r\n{"
    found.append(status(target.port, half, half_close=True))
    for data in (
        rest[0],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 9,
    ):
        found.append(status(target.grpc_port(), data, half_close=True))
    return found


def huge_tensors(target: Target) -> list[str]:
    """Claimed and real; and JSON that is long in vain."""
    claimed = messages.PredictRequest.FromString(serve_load.request(target.model, 1))
    claimed.inputs["images"].tensor_shape.dim[0].size = 1 << 40
    return [
        code(target, serve_load.PREDICT, claimed.SerializeToString()),
        code(target, serve_load.PREDICT, grpc_body(target.model, 5000)),
        post(target, rest_body(100)),
        post(target, rest_body(20)[:-3] + b",[1]]}"),  # ragged
        post(target, b'{"instances": ["' + b'\\"' * MIB),
        post(target, b'{"instances": ' + b"[" * MIB),
    ]


# And what may become of each.
ATTACKS: list[tuple[Callable[[Target], list[str]], set[str]]] = [
    (half_sent_bodies, {"held", "429"}),
    (slow_readers, {"held", "200"}),
    (gzip_bombs, {"413", "400", "429", "closed"}),
    (long_names, {"INVALID_ARGUMENT", "400"}),
    (wrong_reloads, {"PERMISSION_DENIED", "INVALID_ARGUMENT"}),
    (idle_sockets, {"held"}),
    (malformed_heads, {"400", "404", "closed"}),
    (huge_tensors, {"INVALID_ARGUMENT", "400", "429"}),
]


if __name__ == "__main__":
    main()
