"""What those who mean harm send: each attack is bounded in time, and in memory."""

import contextlib
import gzip
import http.client
import json
import math
import os
import re
import select
import shutil
import socket
import struct
import threading
import time
import zlib

import grpc
import pytest

tf = pytest.importorskip("tensorflow")
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import application, grpc_services, json_arrays, rest  # noqa: E402
from serving.server.flags import Flags  # noqa: E402
from serving.server.large_bodies import Reader  # noqa: E402
from tests.serving.server import processes  # noqa: E402

pytestmark = pytest.mark.tf

SECONDS = 30.0  # for what an honest request does in some milliseconds
MIB = 1 << 20
CALLS = {
    "PredictionService/Predict": predict_pb2.PredictRequest,
    "PredictionService/Classify": classification_pb2.ClassificationRequest,
    "PredictionService/Regress": regression_pb2.RegressionRequest,
    "PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}


def rest_port(process):
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", process.ready)
    return int(port)


def get(process, path, method="GET", body=None):
    connection = http.client.HTTPConnection(
        "127.0.0.1", rest_port(process), timeout=SECONDS
    )
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_names_without_end_are_no_labels(process):
    get(process, "/metrics")
    page = len(get(process, "/metrics")[1])
    memory = processes.resident_bytes(process.popen.pid)
    began = time.monotonic()
    with grpc.insecure_channel(process.address) as channel:
        for number in range(3):
            name = f"{number}" * (2 * MIB)
            requests = {
                path: kind(model_spec={"name": name}) for path, kind in CALLS.items()
            } | {
                "PredictionService/MultiInference": inference_pb2.MultiInferenceRequest(
                    tasks=[inference_pb2.InferenceTask(model_spec={"name": name})]
                )
            }
            requests["PredictionService/GetModelMetadata"].metadata_field.append(
                "signature_def"
            )
            for path, request in requests.items():
                call = channel.unary_unary(f"/tensorflow.serving.{path}")
                with pytest.raises(grpc.RpcError) as caught:
                    call(request.SerializeToString(), timeout=SECONDS)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert caught.value.details() == (
                    "The model's name has 2097152 characters; no model's has more "
                    "than 256"
                )
    for number in range(1200):
        name = f"{number}".ljust(4000 if number < 50 else 10, "x")
        status, _ = get(process, f"/v1/models/{name}:predict", "POST", b'{"inputs":1}')
        assert status == (400 if number < 50 else 404)
    text = get(process, "/metrics")[1].decode()
    assert time.monotonic() - began < SECONDS
    assert processes.resident_bytes(process.popen.pid) - memory < 64 * MIB
    assert len(text) - page < 64 << 10
    request_count = ':tensorflow:serving:request_count{model_name="%s",status="%s"} '
    assert request_count % ("other", "NOT_FOUND") + "1150" in text
    for name in re.findall(r'model_name="([^"]*)"', text):
        assert name in {"tf2", "tf1", "images", "other"}


@contextlib.contextmanager
def rest_beside(server, **options):
    """REST on the shared server's models; its port."""
    running = rest.start(server.service, "127.0.0.1", 0, rest.Options(**options))
    try:
        yield running.port
    finally:
        running.stop(0.1)


def connections(stack, port, count, *, window=0):
    """Clients; of an answer they take `window` bytes before they read."""
    opened = []
    for _ in range(count):
        client = stack.enter_context(socket.socket())
        client.settimeout(SECONDS)
        if window:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.connect(("127.0.0.1", port))
        opened.append(client)
    return opened


def answer_to(client, data=b""):
    """All that comes until the server hangs up, or has answered; `data` came before."""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1 << 18):
            data += part
            head, end, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            if end and length and len(body) == int(length[1]):
                break
    return data


POST = b"POST /v1/models/tf2:predict HTTP/1.1\r\nHost: localhost\r\n"


def test_half_sent_bodies_share_a_limit_that_small_ones_pass(server):
    head = b"Content-Length: %d\r\n\r\n" % (32 * MIB)
    honest = b'{"instances": [0]}'
    with (
        rest_beside(server, most_bodies_bytes=32 * MIB) as port,
        contextlib.ExitStack() as stack,
    ):
        memory = processes.resident_bytes(os.getpid())
        clients = connections(stack, port, 16)
        for client in clients:
            client.sendall(POST + head)
            with contextlib.suppress(ConnectionError):  # refused meanwhile
                client.sendall(b" " * (16 * MIB))
        refused = [
            client for client in clients if select.select([client], [], [], 2)[0]
        ]
        assert 14 <= len(refused) <= 15  # one or two fit in
        for client in refused:
            data = client.recv(1 << 16)
            assert data.startswith(b"HTTP/1.1 429 ")
            assert b"The bodies of all requests together have more than" in data
        assert processes.resident_bytes(os.getpid()) - memory < 128 * MIB  # not 256
        (client,) = connections(stack, port, 1)
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(honest) + honest)
        assert answer_to(client).startswith(b"HTTP/1.1 200 ")


def test_half_sent_gzip_costs_what_was_sent(server):
    compressor = zlib.compressobj(wbits=31)
    half = compressor.compress(b" " * (16 * MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    head = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    with rest_beside(server) as port, contextlib.ExitStack() as stack:
        memory, used = processes.resident_bytes(os.getpid()), time.process_time()
        clients = connections(stack, port, 32)
        for client in clients:
            client.sendall(POST + head + b"%x\r\n" % len(half) + half)
        assert not select.select(clients, [], [], 1)[0]
        assert processes.resident_bytes(os.getpid()) - memory < 32 * MIB  # not 512
        assert time.process_time() - used < 0.5  # to inflate them takes two seconds


def test_large_bodies_are_read_one_at_a_time_elsewhere(server, monkeypatch):
    """To parse one here holds the interpreter's lock: all others wait for it."""
    parse, begun, go = json_arrays.parse, [], threading.Event()
    receive = Reader._ask_to_parse

    def parse_small(body):
        assert len(body) < 1 << 18
        return parse(body)

    def slow(self, body, **named):
        begun.append(len(body))
        assert go.wait(SECONDS)
        return receive(self, body, **named)

    monkeypatch.setattr(json_arrays, "parse", parse_small)
    monkeypatch.setattr(Reader, "_ask_to_parse", slow)
    large = b'{"instances": [0]}' + b" " * MIB
    gzip_large = gzip.compress(large)  # a thousand bytes
    head = b"Content-Length: %d\r\n\r\n"
    with rest_beside(server) as port, contextlib.ExitStack() as stack:
        clients = connections(stack, port, 5)
        for client in clients[:3]:
            client.sendall(POST + head % len(large) + large)
        clients[3].sendall(
            POST + b"Content-Encoding: gzip\r\n" + head % len(gzip_large) + gzip_large
        )
        clients[4].sendall(POST + head % 18 + large[:18])
        assert answer_to(clients.pop()).startswith(b"HTTP/1.1 200 ")
        processes.wait_for(lambda: begun, SECONDS)
        time.sleep(0.5)
        assert len(begun) == 1
        go.set()
        for client in clients:
            assert answer_to(client).startswith(b"HTTP/1.1 200 ")
        assert sorted(begun) == [len(gzip_large), *[len(large)] * 3]


def ask_for_much(clients):
    body = json.dumps({"instances": [0.123456] * 400_000}).encode()
    for client in clients:
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def is_whole(data):
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"Content-Length: (\d+)", head)
    return int(length) == len(body) > 10 * MIB


def test_clients_that_do_not_take_their_answer_are_closed(server):
    with (
        rest_beside(server, take_seconds=2) as port,
        contextlib.ExitStack() as stack,
    ):
        never = connections(stack, port, 6, window=4096)
        slow, fast = connections(stack, port, 2, window=1 << 16)
        ask_for_much([fast])
        assert is_whole(answer_to(fast))
        ask_for_much([slow, *never])
        data = slow.recv(1 << 16)
        begun = time.monotonic()
        while time.monotonic() < begun + 5:  # at more than the least rate
            data += slow.recv(1 << 16)
            time.sleep(0.02)
        assert is_whole(answer_to(slow, data))
        # Large requests are read one after another: each has its answer at another time.
        for client in never:
            assert select.select([client], [], [], SECONDS)[0]
        time.sleep(4)
        for client in never:
            assert not is_whole(answer_to(client))


def test_nothing_is_worked_out_for_a_client_that_asks_on_and_reads_nothing(
    server, monkeypatch
):
    """But for what fits into buffers; when it reads, it gets the rest."""
    asked, answered = 1000, 0
    describe = server.service.get_model_metadata

    def counted(*arguments):
        nonlocal answered
        answered += 1
        return describe(*arguments)

    monkeypatch.setattr(server.service, "get_model_metadata", counted)
    ask = b"GET /v1/models/tf2/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with rest_beside(server) as port, contextlib.ExitStack() as stack:
        (client,) = connections(stack, port, 1, window=4096)
        client.sendall(ask * asked)
        before = -1
        while answered != before:
            before = answered
            time.sleep(1)
        assert 1 <= answered < asked / 4
        data = b""
        while data.count(b"HTTP/1.1 200 ") < asked:
            part = client.recv(1 << 18)
            assert part
            data += part
        assert answered == asked


def test_answers_that_wait_share_a_limit(server):
    with (
        rest_beside(server, most_unsent_bytes=16 * MIB) as port,
        contextlib.ExitStack() as stack,
    ):
        clients = connections(stack, port, 6, window=4096)
        ask_for_much(clients)
        time.sleep(6)
        whole = [is_whole(answer_to(client)) for client in clients]
        assert 1 <= sum(whole) <= 2


def test_a_client_that_hangs_up_on_a_refusal_is_no_error(server, caplog):
    """Its connection may be gone at any point of the answer."""
    head = POST + b"Content-Length: %d\r\n\r\n" % (65 * MIB)
    reset = struct.pack("ii", 1, 0)
    with rest_beside(server) as port:
        for number in range(300):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                client.sendall(head)
                time.sleep(number * 1e-5)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.sendall(POST + b'Content-Length: 18\r\n\r\n{"instances": [0]}')
            assert answer_to(client).startswith(b"HTTP/1.1 200 ")
    assert not [record for record in caplog.records if record.exc_info]


def test_idle_sockets_leave_grpc_and_go():
    """The channel arguments that application.py sets, in small."""
    running = grpc_services.server(
        {"/a/B": lambda data, _: data},
        most_calls=10,
        options={
            **application._connection_limits(),
            "grpc.max_allowed_incoming_connections": 5,
            "grpc.server_handshake_timeout_ms": 1000,
        },
    )
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        with contextlib.ExitStack() as stack:
            idle = connections(stack, port, 20)
            time.sleep(0.5)
            closed = [c for c in idle if select.select([c], [], [], 0)[0]]
            assert len(closed) >= 14
            begun = time.monotonic()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.unary_unary("/a/B")
                assert call(b"x", timeout=SECONDS, wait_for_ready=True) == b"x"
            for client in idle:
                answer_to(client)
            assert time.monotonic() - begun < 10
    finally:
        running.stop(0)


def frame(kind, flags, stream, payload):
    """Of HTTP/2: RFC 9113, 4.1."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def half_of_a_message(path):
    """The beginning of a gRPC call; its message is to have 100 MiB."""
    fields = {
        b":method": b"POST", b":scheme": b"http", b":path": path,
        b":authority": b"localhost", b"content-type": b"application/grpc",
        b"te": b"trailers",
    }  # fmt: skip
    literal = b"".join(  # RFC 7541, 6.2.2: without indexing, with a name of its own
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in fields.items()
    )
    data = b"\0" + (100 * MIB).to_bytes(4, "big") + bytes(1000)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    return preface + frame(1, 4, 1, literal) + frame(0, 0, 1, data)


def test_half_of_a_message_is_kept_for_as_long_as_its_connection():
    """An operator may bound that; the documents name the channel arguments."""
    running = grpc_services.server(
        {"/a/B": lambda data, _: data},
        most_calls=10,
        options={
            **application._connection_limits(),
            "grpc.max_connection_age_ms": 1000,
            "grpc.max_connection_age_grace_ms": 1000,
        },
    )
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        with contextlib.ExitStack() as stack:
            (client,) = connections(stack, port, 1)
            client.sendall(half_of_a_message(b"/a/B"))
            begun = time.monotonic()
            answer_to(client)  # ends when the server hangs up
            assert 1 < time.monotonic() - begun < 10
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
            assert channel.unary_unary("/a/B")(b"x", timeout=SECONDS) == b"x"
    finally:
        running.stop(0)


def test_idle_sockets_of_grpc_leave_rest_where_few_files_may_be_opened(model_root):
    """By `ulimit -n 300`: gRPC gets a quarter of them, REST a half."""
    child = processes.start(
        "--port=-1",
        "--rest_api_port=-1",
        "--model_name=tf2",
        f"--model_base_path={model_root / 'tf2'}",
        most_files=300,
    )
    try:
        with contextlib.ExitStack() as stack:
            honest = stack.enter_context(grpc.insecure_channel(child.address))
            status = honest.unary_unary(
                "/tensorflow.serving.ModelService/GetModelStatus"
            )
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = "tf2"
            status(request.SerializeToString(), timeout=SECONDS)
            port = int(child.address.rpartition(":")[2])
            idle = connections(stack, port, 320)
            time.sleep(1)
            closed = 0
            for client in idle:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    while part := client.recv(1 << 16):
                        assert part  # gRPC's settings
                    closed += 1
            assert 320 - 75 <= closed <= 320 - 65
            for _ in range(3):
                assert get(child, "/v1/models/tf2")[0] == 200
            idle = connections(stack, rest_port(child), 200)
            assert get(child, "/v1/models/tf2")[0] == 200
            status(request.SerializeToString(), timeout=SECONDS)
        assert not [line for line in child.lines if "Traceback" in line]
    finally:
        child.popen.kill()
        child.popen.wait()


def test_a_reload_forges_no_line_of_the_log(process):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(
        name="x\n2026-01-01 00:00:00,000 INFO a forged line",
        base_path="/nowhere\r\n2026-01-01 00:00:00,000 INFO another\x1b[2J",
        model_platform="tensorflow",
    )
    with grpc.insecure_channel(process.address) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
        )
        with pytest.raises(grpc.RpcError):
            call(request.SerializeToString(), timeout=SECONDS)
    processes.wait_for(lambda: any("forged" in line for line in process.lines), 10)
    (line,) = (line for line in process.lines if "forged" in line)
    assert "ERROR ReloadConfig failed: " in line
    assert r"x\n2026-01-01" in line


def ask_as(process, headers, *, method="POST", path="/v1/models/tf2:predict"):
    body = b'{"instances": [0]}' if method == "POST" else b""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    address = ("127.0.0.1", rest_port(process))
    with socket.create_connection(address, SECONDS) as client:
        client.sendall(
            f"{method} {path} HTTP/1.1\r\n{head}".encode()
            + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        return int(answer_to(client).split()[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8501", 200), ("127.0.0.1:80", 200),
        ("[::1]:8501", 200), ("evil.example", 403), ("evil.example:8501", 403),
        ("localhost.evil.example", 403), ("127.0.0.1.evil.example:1", 403),
        ("user@127.0.0.1", 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/tf2:predict"),
        ("GET", "/v1/models/tf2"),
        ("GET", "/metrics"),
    ],
)
def test_a_name_that_was_made_to_mean_this_machine_reads_nothing(
    process, host, status, method, path
):
    """DNS rebinding: the browser asks us with the name of the other site."""
    assert ask_as(process, {"Host": host}, method=method, path=path) == status


@pytest.mark.parametrize(
    ("origin", "kind", "status"),
    [
        ("https://evil.example", "text/plain", 403),
        ("https://evil.example", "Text/Plain;charset=UTF-8", 403),
        ("https://evil.example", "application/x-www-form-urlencoded", 403),
        ("https://evil.example", "multipart/form-data; boundary=x", 403),
        ("https://evil.example", None, 403),
        ("null", "text/plain", 403),
        ("http://localhost:1", "text/plain", 403),
        # A browser asks first whether it may send this, and OPTIONS is refused; who
        # sends it all the same is none, or stands behind a proxy.
        ("https://app.example", "application/json", 200),
        ("http://localhost", "text/plain", 200),
        (None, "text/plain", 200),
        (None, "application/x-www-form-urlencoded", 200),  # curl -d
    ],
)
def test_a_page_of_another_site_does_not_run_the_model(process, origin, kind, status):
    headers = {"Host": "localhost", "Origin": origin, "Content-Type": kind}
    given = {name: value for name, value in headers.items() if value is not None}
    assert ask_as(process, given) == status
    asking = {
        "Host": "localhost",
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    assert ask_as(process, asking, method="OPTIONS") == 400


RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


def reload_code(address, base_path, *, name="tf2", rate=None):
    """The code of a reload to one model."""
    request = model_management_pb2.ReloadConfigRequest()
    entry = request.config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform="tensorflow"
    )
    if rate is not None:
        entry.logging_config.sampling_config.sampling_rate = rate
    return code_of(address, RELOAD, request.SerializeToString())


def code_of(address, method, data=b""):
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(method)(data, timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@contextlib.contextmanager
def managed(model_root, tmp_path, **options):
    """A server of one model, with a unix socket."""
    running = application.start(
        Flags(
            port=-1,
            grpc_socket_path=str(tmp_path / "socket"),
            model_name="tf2",
            model_base_path=str(model_root / "tf2"),
            **options,
        )
    )
    try:
        yield running
    finally:
        running.stop(0)


@pytest.mark.parametrize("management", ["socket", "none"])
def test_management_is_for_the_socket_beyond_loopback(model_root, tmp_path, management):
    for address, allowed in (("127.0.0.1", "all"), ("0.0.0.0", "socket")):
        flags = Flags(bind_address=address)
        assert application._management(flags) == allowed
        flags = Flags(bind_address=address, management=management)
        assert application._management(flags) == management
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    with managed(model_root, tmp_path, management=management) as server:
        for address, code in (
            (server.address, denied),
            (f"unix:{tmp_path}/socket", ok if management == "socket" else denied),
        ):
            assert reload_code(address, model_root / "tf2") is code
            for method in ("Profile", "Terminate"):
                method = f"/tensorflow.ProfilerService/{method}"
                expected = code
                if code is ok and method.endswith("Profile"):
                    expected = grpc.StatusCode.INVALID_ARGUMENT  # for 0 ms
                assert code_of(address, method) is expected
        status = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "tf2"})
        method = "/tensorflow.serving.ModelService/GetModelStatus"
        assert code_of(server.address, method, status.SerializeToString()) is ok


def test_a_reload_does_not_raise_the_sampling_rate(model_root, tmp_path):
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    options = {"request_log_dir": str(tmp_path / "log")}
    base = model_root / "tf2"
    with managed(
        model_root, tmp_path, request_log_sampling_rate=0.25, **options
    ) as server:
        for rate, code in (
            (0.0, ok), (0.25, ok), (0.26, denied), (1.0, denied), (math.nan, denied),
        ):  # fmt: skip
            assert reload_code(server.address, base, rate=rate) is code
        assert reload_code(server.address, base, name="new", rate=0.5) is denied


def test_a_reload_is_held_to_what_the_operators_file_says_now(model_root, tmp_path):
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    file = tmp_path / "models.txt"

    def write(model, rate):
        new = file.with_suffix(".new")
        new.write_text(
            f'model_config_list {{ config {{ name: "m" base_path: "{model_root / model}" '
            'model_platform: "tensorflow" '
            f"logging_config {{ sampling_config {{ sampling_rate: {rate} }} }} }} }}"
        )
        new.replace(file)

    write("tf2", 0.5)
    running = application.start(
        Flags(
            port=-1,
            model_config_file=str(file),
            model_config_file_poll_wait_seconds=1,
            request_log_dir=str(tmp_path / "log"),
        )
    )
    try:

        def code(model, rate):
            base = model_root / model
            return reload_code(running.address, base, name="m", rate=rate)

        assert [code("tf2", 0.5), code("tf1", 0.5)] == [ok, denied]
        write("tf2", 0.125)
        processes.wait_for(
            lambda: (
                running.service.manager.sampling_rate("m") == 0.125
                and code("tf2", 0.5) is denied
            ),
            30,
        )
        assert code("tf2", 0.125) is ok
        write("tf1", 0.75)
        processes.wait_for(lambda: code("tf1", 0.75) is ok, 30)
        assert code("tf2", 0.75) is denied
    finally:
        running.stop(0)


def test_a_link_below_a_root_leads_nowhere_else(model_root, tmp_path):
    ok, denied = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
    root, inside = tmp_path / "root", tmp_path / "root" / "inside"
    shutil.copytree(model_root / "tf2", inside)
    (root / "out").symlink_to(model_root)
    (root / "in").symlink_to(inside)
    (tmp_path / "given").symlink_to(root)
    with managed(model_root, tmp_path, reload_roots=f"{tmp_path / 'given'}") as server:
        for path, code in (
            (tmp_path / "given" / "out" / "tf1", denied),
            (tmp_path / "given" / ".." / "inside", denied),
            (tmp_path / "given" / "no\x00path", grpc.StatusCode.INVALID_ARGUMENT),
            (tmp_path / "given" / "inside", ok),
            (root / "inside", ok),
            (tmp_path / "given" / "in", ok),
        ):
            assert reload_code(server.address, path, name="linked") is code, path
        with server.service.manager.use(model_pb2.ModelSpec(name="linked")) as version:
            assert version.folder.parent == inside  # no link is left to be changed
