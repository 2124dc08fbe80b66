"""The REST transport against a server made of the standard library's http.server.

The answers are written by hand from TensorFlow Serving's documentation of its JSON
(g3doc/api_rest.md), so nothing of this project judges itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.client import (
    TLS,
    AsyncClassifier,
    Cancelled,
    Classifier,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    InvalidResponse,
    NotFound,
    Overloaded,
    PermissionRefused,
    Prediction,
    Retry,
    ServingError,
    Timeouts,
    Unavailable,
)
from serving.client.__main__ import main
from tests.serving.client.official import (
    expected_label,
    expected_probabilities,
    random_images,
    write_png,
)

IMAGES = random_images(20)
QUICK = Retry(attempts=3, first_wait=0.01, longest_wait=0.02)
PREDICT = re.compile(r"/v1/models/cifar/versions/(\d+):predict")


def tensor(dtype: str, *sizes: int) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in sizes]
    shape = {"dim": dims, "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shape, "name": "x:0"}


OUTPUTS = {
    "probabilities": tensor("DT_FLOAT", -1, 10),
    "label": tensor("DT_INT64", -1),
    "class_name": tensor("DT_STRING", -1),
}
SIGNATURES = {
    "serving_default": {
        "inputs": {"images": tensor("DT_UINT8", -1, 32, 32, 3)},
        "outputs": OUTPUTS,
        "method_name": "tensorflow/serving/predict",
    },
    "encoded_images": {
        "inputs": {"encoded": tensor("DT_STRING", -1)},
        "outputs": OUTPUTS,
        "method_name": "tensorflow/serving/predict",
    },
    "echo": {"inputs": {"x": {}}, "outputs": {"y": tensor("DT_FLOAT", -1)}},
    "bytes": {"inputs": {"x": {}}, "outputs": {"y_bytes": tensor("DT_STRING", -1)}},
}


@dataclass
class Web:
    """What the server does and has seen."""

    address: str = ""
    version: int = 7
    answers: list[tuple[int, bytes]] = field(default_factory=list)  # given first
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    drop_after: int | None = None  # close the connection after so many answers
    connections: int = 0

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        known = f"/v1/models/cifar/versions/{self.version}"
        if path == "/v1/models/cifar" or path == known:
            status = {"error_code": "OK", "error_message": ""}
            entry = {
                "version": str(self.version),
                "state": "AVAILABLE",
                "status": status,
            }
            return 200, {"model_version_status": [entry]}
        if path in (f"{p}/metadata" for p in ("/v1/models/cifar", known)) or (
            path == "/v1/models/cifar/labels/stable/metadata"
        ):
            spec = {"name": "cifar", "signature_name": "", "version": str(self.version)}
            definitions = {"signature_def": {"signature_def": SIGNATURES}}
            return 200, {"model_spec": spec, "metadata": definitions}
        match = PREDICT.fullmatch(path)
        if not match or int(match[1]) != self.version:
            return 404, {"error": f"Servable not found for request: {path}"}
        return 200, self.predict(body)

    def predict(self, body: Any) -> Any:
        if body["signature_name"] == "echo":
            return {"outputs": body["inputs"]["x"]}
        if body["signature_name"] == "bytes":
            return {"outputs": body["inputs"]["x"]}
        if body["signature_name"] == "encoded_images":
            import io

            from PIL import Image

            files = [base64.b64decode(v["b64"]) for v in body["inputs"]["encoded"]]
            images = np.stack([np.asarray(Image.open(io.BytesIO(f))) for f in files])
        else:
            images = np.array(body["inputs"]["images"], np.uint8)
        labels = [expected_label(image) for image in images]
        return {
            "outputs": {
                "probabilities": expected_probabilities(images).tolist(),
                "label": labels,
                "class_name": [f"class {label}" for label in labels],
            }
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def setup(self):
        super().setup()
        self.web.connections += 1
        self.served = 0

    def do_GET(self):  # noqa: N802
        self.respond(None)

    def do_POST(self):  # noqa: N802
        length = int(self.headers["Content-Length"])
        self.respond(json.loads(self.rfile.read(length)))

    def respond(self, body: Any) -> None:
        self.web.paths.append(self.path)
        self.web.headers.append(dict(self.headers))
        if self.web.answers:
            code, content = self.web.answers.pop(0)
        else:
            code, value = self.web.answer(self.path, body)
            content = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.served += 1
        if self.web.drop_after is not None and self.served >= self.web.drop_after:
            self.close_connection = True  # without a word in the headers

    def log_message(self, *_):
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    state = Web()
    handler = type("OwnHandler", (Handler,), {"web": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def check(results: list, images: np.ndarray, version: int = 7) -> None:
    expected = expected_probabilities(images)
    for result, image, row in zip(results, images, expected, strict=True):
        assert isinstance(result, Prediction)
        assert result.label == expected_label(image)
        assert result.probabilities.tobytes() == row.tobytes()
        assert result.model_version == version


def test_images_of_all_kinds(web, tmp_path: Path):
    mixed = [IMAGES[0], write_png(tmp_path / "a.png", IMAGES[1]), IMAGES[2]]
    with Classifier(web.address) as classifier:
        check(classifier.classify(IMAGES), IMAGES)
        check(classifier.classify(mixed), IMAGES[:3])
    assert web.connections == 1


def test_batches_in_flight_use_connections_of_their_own(web):
    with Classifier(web.address, batch_size=2, in_flight=3) as classifier:
        check(classifier.classify(IMAGES), IMAGES)
    assert 1 <= web.connections <= 4


def test_asynchronously(web):
    async def main():
        async with AsyncClassifier(web.address, batch_size=4) as classifier:
            check(await classifier.classify(IMAGES), IMAGES)
            assert (await classifier.wait_until_ready(5)).version == 7
            assert (await classifier.metadata()).version == 7

    asyncio.run(main())


def test_status_and_metadata(web):
    with Classifier(web.address) as classifier:
        (entry,) = classifier.status()
        assert (entry.version, entry.state, entry.error_code) == (7, "AVAILABLE", "OK")
        signature = classifier.metadata().signatures["serving_default"]
        assert signature.inputs["images"].shape == (None, 32, 32, 3)
        assert signature.outputs["class_name"].dtype == "STRING"


def test_a_new_version_is_followed_and_named_rightly(web):
    with Classifier(web.address) as classifier:
        check(classifier.classify(IMAGES[:1]), IMAGES[:1])
        web.version = 8  # the one asked for first is gone at once
        check(classifier.classify(IMAGES[:1]), IMAGES[:1], version=8)
    with Classifier(web.address, version=7) as classifier, pytest.raises(NotFound):
        classifier.classify(IMAGES[:1])
    with Classifier(web.address, version_label="stable") as classifier:
        check(classifier.classify(IMAGES[:1]), IMAGES[:1], version=8)


def test_names_cannot_leave_their_place_in_the_path(web):
    with (
        Classifier(web.address, model="../a/b?c#d") as classifier,
        pytest.raises(NotFound),
    ):
        classifier.status()
    assert web.paths[-1] == "/v1/models/..%2Fa%2Fb%3Fc%23d"


def test_dtypes_come_from_the_metadata(web):
    with Classifier(web.address) as classifier:
        found = classifier.predict({"x": [1, 2]}, signature_name="echo")
        assert found["y"].dtype == np.float32 and found["y"].tolist() == [1.0, 2.0]
        sent = [b"\0\xff", "é".encode()]
        found = classifier.predict({"x": sent}, signature_name="bytes")
        assert found["y_bytes"].tolist() == sent


@pytest.mark.parametrize(
    ("inputs", "signature", "words"),
    [
        ({"x": np.zeros((0, 2))}, "echo", "use gRPC"),
        ({"x": 1j}, "echo", "complex"),
    ],
)
def test_what_json_cannot_carry_is_refused(web, inputs, signature, words):
    with (
        Classifier(web.address) as classifier,
        pytest.raises(InvalidInput, match=words),
    ):
        classifier.predict(inputs, signature_name=signature)


def test_signatures_are_those_of_the_model(web):
    with Classifier(web.address) as classifier:
        with pytest.raises(
            FailedPrecondition, match="no signature other; it has bytes"
        ):
            classifier.predict({"x": 1}, signature_name="other")
        found = classifier.predict({"images": IMAGES[:2]}, signature_name="")
    assert len(found["label"]) == 2  # an empty name means serving_default


@pytest.mark.parametrize(
    ("status", "kind", "asked"),
    [
        (400, InvalidInput, 1),
        (401, PermissionRefused, 1),
        (404, NotFound, 1),
        (413, InvalidInput, 1),
        (429, Overloaded, 3),
        (503, Unavailable, 3),
        (502, Unavailable, 3),
        (504, DeadlineExceeded, 1),
        (302, ServingError, 1),
        (500, ServingError, 1),
    ],
)
def test_statuses_are_typed_and_repeated_where_safe(web, status, kind, asked):
    web.answers = [(status, b'{"error": "because"}')] * asked
    with Classifier(web.address, retry=QUICK) as classifier, pytest.raises(kind):
        classifier.status()
    assert len(web.paths) == asked


def test_passing_failures_are_repeated(web):
    web.answers = [(503, b"<html>busy</html>"), (429, b"")]
    with Classifier(web.address, retry=QUICK) as classifier:
        check(classifier.classify(IMAGES[:1]), IMAGES[:1])


def test_kept_connections_that_were_closed_are_opened_again(web):
    web.drop_after = 1
    with Classifier(web.address, retry=Retry(attempts=1)) as classifier:
        for _ in range(5):
            check(classifier.classify(IMAGES[:1]), IMAGES[:1])
            time.sleep(0.02)


def test_metadata_becomes_headers(web):
    metadata = {"Authorization": "Bearer s3cr3t", "trace-bin": b"\0\xff"}
    with Classifier(web.address, metadata=metadata) as classifier:
        classifier.status()
    assert web.headers[0]["authorization"] == "Bearer s3cr3t"
    assert base64.b64decode(web.headers[0]["trace-bin"]) == b"\0\xff"


@pytest.mark.parametrize("kind", [Classifier, AsyncClassifier])
def test_closing_ends_what_is_under_way(kind):
    """A server that takes everything and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        if kind is Classifier:
            classifier = Classifier(address)
            threading.Timer(0.2, classifier.close).start()
            with pytest.raises(Cancelled, match="closed"):
                classifier.status()
        else:
            assert asyncio.run(_closed_while_asking(address)) == [Cancelled] * 6
        assert time.monotonic() - began < 10


async def _closed_while_asking(address: str) -> list[type]:
    classifier = AsyncClassifier(
        address, in_flight=2
    )  # so that others wait for a thread
    tasks = [asyncio.create_task(classifier.status()) for _ in range(6)]
    await asyncio.sleep(0.2)
    await classifier.close()
    return [type(r) for r in await asyncio.gather(*tasks, return_exceptions=True)]


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            Classifier(address, retry=QUICK) as classifier,
            pytest.raises(Unavailable, match="Connection refused"),
        ):
            classifier.status()


@dataclass
class Raw:
    """A socket that answers each connection with what it is told, byte by byte."""

    address: str
    stop: threading.Event


@pytest.fixture
def raw_server():
    listeners: list[tuple[socket.socket, threading.Thread]] = []
    stop = threading.Event()

    def start(content: bytes, pause: float = 0.0) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    continue
                with connection:
                    connection.recv(65536)
                    pieces = [content] if not pause else [bytes([b]) for b in content]
                    for piece in pieces:
                        if stop.is_set():
                            return
                        try:
                            connection.sendall(piece)
                        except OSError:
                            break
                        if pause:
                            time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        listeners.append((listener, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    stop.set()
    for listener, thread in listeners:
        thread.join(5)
        listener.close()


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 900,
    ],
    ids=["headers", "body"],
)
def test_a_trickle_of_bytes_does_not_outlive_the_deadline(raw_server, content):
    address = raw_server(content, pause=0.02)  # 2 s and 20 s in all
    began = time.monotonic()
    with (
        Classifier(address, timeouts=Timeouts(request=0.3)) as classifier,
        pytest.raises(DeadlineExceeded),
    ):
        classifier.status()
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", InvalidResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", InvalidResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", InvalidResponse),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", Unavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", Unavailable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ServingError),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n", InvalidResponse),
        (b"", Unavailable),
    ],
)
def test_what_is_no_http_is_a_typed_error(raw_server, content, kind):
    address = raw_server(content)
    with (
        Classifier(address, retry=Retry(attempts=1)) as classifier,
        pytest.raises(kind),
    ):
        classifier.status()


def test_answers_have_a_largest_size(raw_server, monkeypatch):
    from serving.client import http_exchange

    monkeypatch.setattr(http_exchange, "LARGEST_ANSWER", 1000)
    address = raw_server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * 5000)
    with (
        Classifier(address) as classifier,
        pytest.raises(InvalidResponse, match="larger than"),
    ):
        classifier.status()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["outputs", "probabilities", "label", "class_name", "b64", "error",
                 "model_spec", "metadata", "signature_def", "version", "status",
                 "serving_default", "inputs", "dim", "size", "tensor_shape", "dtype",
                 "model_version_status", "state"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(value=json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_gives_a_value_or_one_of_our_errors(value):
    """The functions that read answers, without the sockets: they take what came."""
    from serving.client import over_rest
    from serving.client.answers import Call

    content = json.dumps(value).encode()
    signature = over_rest._metadata(Web().answer("/v1/models/cifar/metadata", None)[1])
    call = Call("serving_default", {"images": IMAGES})
    for read in (
        over_rest._metadata,
        over_rest._version_status,
        lambda parsed: over_rest._outputs(
            parsed, call, signature.signatures["serving_default"]
        ),
    ):
        try:
            read(over_rest._parsed(200, content, "somewhere"))
        except ServingError as error:
            assert str(error)


def test_deeply_nested_json_is_refused(web):
    web.answers = [(200, b"[" * 200_000)]
    with Classifier(web.address) as classifier, pytest.raises(InvalidResponse):
        classifier.status()


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_of_brackets_does_not_fill_the_memory(web, status):
    web.answers = [(status, b"[" + b"[]," * (20 << 20) + b"0]")]
    code = (
        "import sys\n"
        "from serving.client import Classifier, InvalidResponse\n"
        "try:\n    Classifier(sys.argv[1]).status()\n"
        "except InvalidResponse as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, web.address],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
        env={"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert "answered more than 8,000,000 values" in done.stdout


NOISE = "\x1b[2J\x1b]0;title\x07\n\u202e" + "x" * 100_000


@pytest.mark.parametrize(
    "arguments", [["status"], ["metadata"], ["predict", "-v", "{picture}"]]
)
@pytest.mark.parametrize("way", ["error", "names", "types"])
def test_no_server_moves_the_cursor(web, tmp_path, capsys, arguments, way):
    picture = write_png(tmp_path / "a.png", IMAGES[0])
    if way == "error":
        web.answers = [(400, json.dumps({"error": NOISE}).encode())] * 9
    else:
        outputs = {
            name: tensor(NOISE if way == "types" else "DT_FLOAT", -1)
            for name in OUTPUTS
        }
        name = "encoded_images" if way == "types" else NOISE
        signature = {"inputs": {NOISE: {}}, "outputs": outputs, "method_name": NOISE}
        spec = {"name": NOISE, "version": "7"}
        definitions = {"signature_def": {"signature_def": {name: signature}}}
        status = {"error_code": NOISE, "error_message": NOISE}
        answer = {
            "model_spec": spec,
            "metadata": definitions,
            "model_version_status": [{"version": "7", "status": status}],
            "outputs": dict.fromkeys(OUTPUTS, [1]),
        }
        web.answers = [(200, json.dumps(answer).encode())] * 9
    command = [each.format(picture=picture) for each in arguments]
    main([*command, "--server", web.address])
    for text in capsys.readouterr():
        assert all(line.isprintable() for line in text.split("\n")), text[:300]


def test_tls(web, certificates):
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca
    )
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    handler = type("OwnHandler", (Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    address = f"https://127.0.0.1:{server.server_port}"
    ours = {"certificate": certificates.certificate, "key": certificates.key}
    try:
        for tls in (
            TLS(ca=certificates.ca, **ours),
            TLS(ca=certificates.ca, server_name="model.test", **ours),
        ):
            with Classifier(address, tls=tls) as classifier:
                check(classifier.classify(IMAGES[:2]), IMAGES[:2])
        for tls in (
            TLS(ca=certificates.ca),
            TLS(ca=certificates.ca, server_name="other.test", **ours),
            TLS(**ours),
        ):
            with (
                Classifier(address, tls=tls, retry=Retry(attempts=1)) as classifier,
                pytest.raises(Unavailable),
            ):
                classifier.status()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_rest_loads_no_grpc(web):
    code = (
        "import sys; from serving.client import Classifier\n"
        f"print(Classifier({web.address!r}).classify(bytes.fromhex(sys.argv[1])))\n"
        "assert 'grpc' not in sys.modules and 'PIL' not in sys.modules"
    )
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(buffer, "png")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, buffer.getvalue().hex()],
        cwd=root, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"label={expected_label(IMAGES[0])}" in done.stdout
