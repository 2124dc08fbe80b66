"""The REST interface of a real server, asked with the standard library's HTTP client."""

import base64
import contextlib
import gzip
import http.client
import json
import os
import re
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
import zlib

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")
from serving.server import application, flags, rest  # noqa: E402
from serving.server.errors import ServingError  # noqa: E402
from tests.serving.server import models  # noqa: E402

pytestmark = pytest.mark.tf

LONG = 60.0
METRICS = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Versions 1 and 2 of half (labels old, new), one of images; metrics on."""
    base = tmp_path_factory.mktemp("rest")
    models.write_tf2(base / "half" / "1")
    models.write_tf2(base / "half" / "2", shift=100.0)
    models.write_images(base / "images" / "7")
    models.write_tf1(base / "quick" / "1")
    (base / "models.config").write_text(
        f"""model_config_list {{
        config {{ name: "half" base_path: "{base}/half" model_platform: "tensorflow"
                  model_version_policy {{ all {{}} }}
                  version_labels {{ key: "old" value: 1 }}
                  version_labels {{ key: "new" value: 2 }} }}
        config {{ name: "quick" base_path: "{base}/quick"
                  model_platform: "tensorflow" }}
        config {{ name: "images" base_path: "{base}/images"
                  model_platform: "tensorflow" }} }}"""
    )
    (base / "monitoring.config").write_text(
        f'prometheus_config {{ enable: true path: "{METRICS}" }}'
    )
    log = base / "log"
    parsed, _ = flags.parse(
        [
            "--port=0", "--rest_api_port=-1",
            f"--model_config_file={base / 'models.config'}",
            f"--monitoring_config_file={base / 'monitoring.config'}",
            "--allow_version_labels_for_unavailable_models",
            f"--request_log_dir={log}", "--request_log_sampling_rate=1",
        ]
    )  # fmt: skip
    running = application.start(parsed)
    running.log = log
    yield running
    running.stop(5.0)


def ask(server, path, body=None, *, method=None, headers=None, raw=False):
    """(status, value or text, headers) of one request."""
    data = (
        body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    )
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest.port}{path}",
        data=data, method=method, headers=headers or {},
    )  # fmt: skip
    try:
        answer = urllib.request.urlopen(request, timeout=LONG)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode()
        value = text if raw else json.loads(text)
        return answer.status, value, answer.headers


HALF = "/v1/models/half:predict"


def test_row_form(server):
    status, value, headers = ask(server, "/v1/models/half/versions/1:predict", {
        "instances": [1.0, 2, -4],
    })  # fmt: skip
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers[rest.VERSION_HEADER] == "1"
    assert value == {
        "predictions": [
            {"y": 2.5, "twice": 5.0}, {"y": 3.0, "twice": 6.0}, {"y": 0.0, "twice": 0.0}
        ]
    }  # fmt: skip


def test_quick_start(server):
    """README.md of tensorflow/serving: one number for an input of shape [-1, 1]."""
    _, metadata, _ = ask(server, "/v1/models/quick/metadata")
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    shape = signatures["serving_default"]["inputs"]["x"]["tensor_shape"]
    assert [dim["size"] for dim in shape["dim"]] == ["-1", "1"]
    body = {"instances": [1.0, 2.0, 5.0]}
    status, value, _ = ask(server, "/v1/models/quick:predict", body)
    assert status == 200
    assert [row["y"] for row in value["predictions"]] == [2.5, 3.0, 4.5]


@pytest.mark.parametrize("inputs", [[1.0, 5], {"x": [1.0, 5]}])
def test_column_form(server, inputs):
    path = "/v1/models/half/versions/1:predict"
    status, value, _ = ask(server, path, {"inputs": inputs})
    assert (status, value) == (200, {"outputs": {"y": [2.5, 4.5], "twice": [5.0, 9.0]}})


def test_no_columns_are_answered_with_none(server):
    status, value, _ = ask(server, HALF, {"inputs": []})
    assert (status, value) == (200, {"outputs": {"y": [], "twice": []}})


@pytest.mark.parametrize(
    ("where", "shift"),
    [("", 100), ("/versions/2", 100), ("/versions/1", 2), ("/labels/old", 2),
     ("/labels/new", 100)],
)  # fmt: skip
def test_versions_and_labels(server, where, shift):
    status, value, headers = ask(
        server, f"/v1/models/half{where}:predict", {"instances": [0]}
    )
    assert (status, value["predictions"][0]["y"]) == (200, shift)
    assert headers[rest.VERSION_HEADER] == ("1" if shift == 2 else "2")


def test_path_is_read_without_case_and_unquoted(server):
    status, value, _ = ask(server, "/V1/Models/%68alf:PREDICT?x=1", {"instances": [0]})
    assert (status, value["predictions"][0]["y"]) == (200, 100)


@pytest.mark.parametrize(
    ("target", "status"),
    [("/v1/models/half", 200), ("http://x/v1/models/half", 200),
     ("HTTP://x:80/v1/models/half?a=http://y/b", 200), ("http://x", 404),
     ("http://x/v1/models/none", 404), ("http://x/v2/models/half", 404)],
)  # fmt: skip
def test_target_may_be_a_whole_url(server, target, status):
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = raw_answer(server, head.encode(), shutdown=False)
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_single_output_is_not_named(server):
    body = {"inputs": 3, "signature_name": "scalar"}
    assert ask(server, HALF, body)[1] == {"outputs": 101.5}


def test_strings_and_base64(server):
    body = {
        "signature_name": "strings",
        "instances": ["abc", {"b64": base64.b64encode(b"\0\xff").decode()}],
    }
    assert ask(server, HALF, body)[1]["predictions"] == [
        {"length": 3, "text": "abc"}, {"length": 2, "text": "\0\ufffd"}
    ]  # fmt: skip


def test_special_numbers_go_in_and_out(server):
    status, text, _ = ask(
        server, HALF, b'{"instances": [NaN, Infinity, -Infinity]}', raw=True
    )
    assert status == 200
    values = [row["y"] for row in json.loads(text)["predictions"]]
    np.testing.assert_array_equal(values, [np.nan, np.inf, -np.inf])


def test_images(server):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).tolist()
    status, value, _ = ask(server, "/v1/models/images:predict", {"instances": pixels})
    assert status == 200
    assert np.shape(value["predictions"]) == (2, 32, 32, 4)


@pytest.mark.parametrize("context", [None, {"x": 6.0}])
def test_classify(server, context):
    examples = [{"x": 2.0}, {"x": [4.0]}] if context is None else [{}, {}]
    body = {"signature_name": "classify", "examples": examples}
    if context:
        body["context"] = context
    status, value, headers = ask(server, "/v1/models/half/versions/1:classify", body)
    assert (status, headers[rest.VERSION_HEADER]) == (200, "1")
    expected = [3.0, 4.0] if context is None else [5.0, 5.0]
    assert value == {"results": [[["low", -y], ["high", y]] for y in expected]}


def test_regress(server):
    body = {"signature_name": "regress", "examples": [{"x": 2.0}, {"x": 4.0}]}
    status, value, _ = ask(server, "/v1/models/half/versions/1:regress", body)
    assert (status, value) == (200, {"results": [3.0, 4.0]})


def test_status(server):
    def one(version):
        return {
            "version": version,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }

    status, value, _ = ask(server, "/v1/models/half")
    assert status == 200
    assert sorted(v["version"] for v in value["model_version_status"]) == ["1", "2"]
    for path in ("/v1/models/half/versions/1", "/v1/models/half/labels/old"):
        assert ask(server, path)[1] == {"model_version_status": [one("1")]}


def test_metadata(server):
    status, value, _ = ask(server, "/v1/models/images/metadata")
    assert status == 200
    assert value["model_spec"] == {
        "name": "images", "signature_name": "", "version": "7"
    }  # fmt: skip
    signature = value["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    (tensor,) = signature["inputs"].values()
    assert tensor["dtype"] == "DT_UINT8"
    sizes = [dim["size"] for dim in tensor["tensor_shape"]["dim"]]
    assert (sizes, tensor["tensor_shape"]["unknown_rank"]) == (
        ["-1", "32", "32", "3"], False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/models/none:predict", {"instances": [1]}, 404,
         "Servable not found for request: Latest(none)"),
        ("/v1/models/half/versions/9:predict", {"instances": [1]}, 404,
         "Servable not found for request: Specific(half, 9)"),
        ("/v1/models/half/versions/99999999999999999999:predict", {"instances": [1]}, 400,
         "Failed to convert version: 99999999999999999999 to numeric."),
        ("/v1/models/half:prophesy", {}, 400,
         "Malformed request: POST /v1/models/half:prophesy"),
        ("/v1/models/../../etc/passwd", {}, 400, "Malformed request: POST "),
        ("/v1/models/..%2F..%2Fetc:predict", {"instances": [1]}, 404,
         "Servable not found for request: Latest(../../etc)"),
        (HALF, b"", 400, "JSON Parse error: The document is empty"),
        (HALF, b"{", 400, "JSON Parse error: "),
        (HALF, {"instances": []}, 400, "No values in 'instances' array"),
        (HALF, {"instances": ["a"]}, 400, "is not of expected type: float"),
        (HALF, {"instances": [[1], [1, 2]]}, 400, "Expecting tensor size: 1 but got: 2"),
        (HALF, {"instances": [1], "signature_name": 3}, 400, "'signature_name' key must"),
        (HALF, {"instances": [1], "signature_name": "no"}, 400,
         'Serving signature name: "no" not found in signature def'),
        ("/v1/models/images:predict", {"instances": [256]}, 400,
         'input "images" has the shape [1], the signature\'s is [?,32,32,3]'),
        ("/v1/models/images:predict", {"inputs": np.zeros((32, 32, 3), int).tolist()}, 400, ""),
        ("/v1/models/images:predict",
         {"inputs": np.zeros((32, 32, 3)).tolist(), "signature_name": "any_rank"}, 400, ""),
        ("/v1/models/half:classify", {"signature_name": "classify"}, 400,
         "key 'examples' is expected and was not found"),
        ("/v1/models/half:regress", {"examples": [], "signature_name": "regress"}, 400,
         "'examples' value is an empty array"),
        ("/v1/models/half:regress", {"examples": [1], "signature_name": "regress"}, 400,
         "Example must be JSON object but got JSON Number"),
        ("/v1/models/half:regress", {"examples": [{"x": [1.0, 2]}],
         "signature_name": "regress"}, 400, "Unexpected element type in feature: x"),
        ("/v1/models/half:regress", {"examples": [{"x": [[1]]}],
         "signature_name": "regress"}, 400, "unexpected JSON type: Array"),
    ],
)  # fmt: skip
def test_errors(server, path, body, status, text):
    got, value, headers = ask(server, path, body)
    assert (got, headers["Content-Type"]) == (status, "application/json")
    assert set(value) == {"error"}
    assert text in value["error"]


OLD = "/v1/models/half/versions/1:predict"


@pytest.mark.parametrize(
    ("report", "path", "body", "status", "answer"),
    [
        # Rows add a dimension also to what is no batch; columns do not.
        (1036, OLD, {"signature_name": "slow", "instances": [3]}, 400, "be a scalar"),
        (1036, OLD, {"signature_name": "slow", "inputs": 3}, 200, {"outputs": 3}),
        (1036, OLD, {"signature_name": "slow", "inputs": {"turns": 3}}, 200,
         {"outputs": 3}),
        (1085, "/v1/models/half", {"instances": [1]}, 400,
         "Malformed request: POST /v1/models/half"),
        (1136, OLD, {"signature_name": "scalar", "inputs": 0.96}, 200,
         {"outputs": 2.48}),
        (1141, OLD, {"signature_name": "strings", "instances": [{"b64": "_-8="}]}, 400,
         "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
         "Unable to base64 decode"),
        (1141, OLD, {"signature_name": "strings", "instances": [{"b64": "YQ.."}]}, 200,
         {"predictions": [{"length": 1, "text": "a"}]}),
        (1332, OLD, {"inputs": [1111111.0]}, 200,
         {"outputs": {"twice": [1111115.0], "y": [555557.5]}}),
        (1538, OLD, {"instances": [[1, 2, 3], [1, 2]]}, 400,
         "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
         "Expecting tensor size: 3 but got: 2"),
        # A single input may be named or not, in rows and in columns.
        (2099, OLD, {"signature_name": "scalar", "instances": [{"x": 2}]}, 200,
         {"predictions": [3.0]}),
        (2099, OLD, {"signature_name": "scalar", "instances": [2]}, 200,
         {"predictions": [3.0]}),
        (2099, OLD, {"signature_name": "scalar", "inputs": {"x": [2]}}, 200,
         {"outputs": [3.0]}),
    ],
)  # fmt: skip
def test_requests_of_public_reports(server, report, path, body, status, answer):
    """https://github.com/tensorflow/serving/issues/<report>: what is answered there."""
    del report
    got, value, _ = ask(server, path, body)
    assert got == status, value
    if status == 200:
        assert value == answer
    else:
        assert answer in value["error"]


def test_unknown_signature(server):
    body = {"instances": [1], "signature_name": "none"}
    status, value, _ = ask(server, HALF, body)
    assert status == 400
    assert "none" in value["error"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/v1/models", "GET", 400), ("/v1/models/none", "GET", 404), (HALF, "PUT", 400),
     (HALF, "GET", 400), ("/v2/models/half", "GET", 404), ("/", "GET", 404),
     ("/v1/models/half", "OPTIONS", 400)],
)  # fmt: skip
def test_other_paths_and_methods(server, path, method, status):
    assert ask(server, path, method=method, raw=True)[0] == status


def test_compressed_body_is_read(server):
    body = gzip.compress(b'{"instances": [0]}')
    status, value, _ = ask(server, HALF, body, headers={"Content-Encoding": "gzip"})
    assert (status, value["predictions"][0]["y"]) == (200, 100)


def test_metrics_count_rest_calls(server):
    def count():
        _, text, headers = ask(server, METRICS, raw=True)
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        name = ":tensorflow:serving:request_latency_count"
        labels = '{model_name="half",API="regress",entrypoint="REST"}'
        found = [x for x in text.splitlines() if x.startswith(name + labels)]
        return int(found[0].split()[-1]) if found else 0

    before = count()
    ask(server, "/v1/models/half:regress", {})
    assert count() == before + 1


def test_answered_requests_are_logged(server):
    from serving.server import request_log

    value = 12345.0
    assert ask(server, HALF, {"instances": [value]})[0] == 200
    end = time.monotonic() + LONG
    while True:
        files = request_log.files(server.log)
        logs = [log for file in files for log in request_log.read_file(file)]
        found = [
            log.predict_log
            for log in logs
            if log.WhichOneof("log_type") == "predict_log"
            and "x" in log.predict_log.request.inputs
            and value in tf.make_ndarray(log.predict_log.request.inputs["x"])
        ]
        if found:
            break
        assert time.monotonic() < end
        time.sleep(0.05)
    answer = tf.make_ndarray(found[0].response.outputs["y"])
    assert answer.tolist() == [0.5 * value + 100]


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["x", "b64", "text", "a", "b"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    path=st.sampled_from(["predict", "classify", "regress"]),
    signature=st.sampled_from(["serving_default", "strings", "classify", "divide"]),
    key=st.sampled_from(["instances", "inputs", "examples"]),
    value=json_values,
)
def test_no_json_breaks_the_server(server, path, signature, key, value):
    body = {"signature_name": signature, key: value}
    status, answer, _ = ask(server, f"/v1/models/half:{path}", body)
    assert status in (200, 400)
    assert (status == 400) == ("error" in answer)


def raw_answer(server, data, *, shutdown=True):
    with socket.create_connection(("127.0.0.1", server.rest.port), LONG) as connection:
        connection.sendall(data)
        if shutdown:
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return connection.recv(1 << 16)
    return b""


@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=1, max_size=80))
def test_random_bytes_do_not_break_the_server(server, data):
    answer = raw_answer(server, data)
    # Refused, or hung up on. A client's error it is, whichever: bytes may happen to make
    # a request line.
    assert answer == b"" or re.match(rb"HTTP/\d\.\d 4\d\d ", answer), answer[:80]


def test_half_closed_and_broken_bodies(server):
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: localhost\r\n"
    for data in (
        head + b'Content-Length: 50\r\n\r\n{"instances"',
        head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    ):
        answer = raw_answer(server, data)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert ask(server, HALF, {"instances": [0]})[0] == 200


@pytest.fixture
def small(server):
    """A second HTTP server on the same models, with tight limits."""
    options = rest.Options(
        timeout_ms=700, threads=1, most_waiting=1, most_body_bytes=1000, cors=True
    )
    running = rest.start(server.service, "127.0.0.1", 0, options)

    class Both:
        rest = running

    yield Both
    running.stop(0.1)


def test_body_size_is_limited(small):
    refusal = {"error": "The body has more than 1000 bytes"}
    status, value, headers = ask(small, HALF, b" " * 2000)
    assert (status, value, headers["Connection"]) == (413, refusal, "close")
    bomb = gzip.compress(b" " * 100_000)
    status, value, _ = ask(small, HALF, bomb, headers={"Content-Encoding": "gzip"})
    assert (status, value) == (413, refusal)
    assert ask(small, HALF, b" " * (16 << 20))[0] == 413  # sent whole, to be answered


def until_end(connection):
    """What a server sends until it hangs up."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


POST = f"POST {HALF} HTTP/1.1\r\nHost: localhost\r\n".encode()


@pytest.mark.parametrize(
    "start",
    [b"Content-Length: 1000000000000\r\n\r\n",
     b"Transfer-Encoding: chunked\r\n\r\n800\r\n" + b" " * 2048],
)  # fmt: skip
def test_too_large_a_body_is_refused_before_it_has_come(small, start):
    with socket.create_connection(("127.0.0.1", small.rest.port), LONG) as connection:
        connection.sendall(POST + start)
        assert until_end(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [(POST, 413), (POST.replace(b"predict", b"guess"), 400),
     (b"GET /v1/models/half HTTP/1.1\r\nHost: localhost\r\n", 200)],
)  # fmt: skip
def test_body_that_nobody_wants_is_not_inflated(small, monkeypatch, head, status):
    compressor = zlib.compressobj(wbits=31)
    start = compressor.compress(b" ") + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(b" " * (1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    bomb = start + 64 * block
    monkeypatch.setattr(rest, "unpack", lambda *_: pytest.fail("is inflated"))
    with socket.create_connection(("127.0.0.1", small.rest.port), LONG) as connection:
        length = b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + length + b"%x\r\n" % len(bomb) + bomb)
        assert until_end(connection).startswith(b"HTTP/1.1 %d " % status)
        connection.sendall(b" ")  # still read, and thrown away
        time.sleep(0.2)


@contextlib.contextmanager
def another(server, **options):
    """One more HTTP server on the same models."""
    running = rest.start(server.service, "127.0.0.1", 0, rest.Options(**options))

    class Both:
        rest = running

    try:
        yield Both
    finally:
        running.stop(0.1)


def test_connection_without_a_request_is_closed(server):
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(another(server, head_seconds=0.3, idle_seconds=1))
        begun = time.monotonic()
        silent, half, kept = (
            stack.enter_context(
                socket.create_connection(("127.0.0.1", other.rest.port), LONG)
            )
            for _ in range(3)
        )
        half.sendall(b"GET /v1/mo")
        kept.sendall(b"GET /v1/models/half HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert until_end(silent) == until_end(half) == b""
        assert time.monotonic() - begun >= 0.3
        kept.sendall(b"GET /v1/models/half HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert until_end(kept) == b""  # idle for too long
        assert time.monotonic() - begun >= 1


def hold_requests(server, monkeypatch) -> tuple[threading.Event, threading.Event]:
    """Predictions wait from now on: the first event says that one does, the second ends it."""
    entered, gate = threading.Event(), threading.Event()
    run = server.service.run

    def slow(*arguments, **options):
        entered.set()
        assert gate.wait(LONG)
        return run(*arguments, **options)

    monkeypatch.setattr(server.service, "run", slow)
    return entered, gate


def test_connections_are_bounded_and_the_longest_idle_makes_room(
    server, monkeypatch, caplog
):
    entered, gate = hold_requests(server, monkeypatch)
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(another(server, most_connections=3))
        stack.callback(gate.set)

        def connect():
            return stack.enter_context(
                socket.create_connection(("127.0.0.1", other.rest.port), LONG)
            )

        busy = connect()
        busy.sendall(
            POST + b'Connection: close\r\nContent-Length: 18\r\n\r\n{"instances": [0]}'
        )
        assert entered.wait(LONG)
        idle = [connect() for _ in range(10)]
        for connection in idle[:8]:
            assert until_end(connection) == b""
        assert ask(other, "/v1/models/half")[0] == 200
        gate.set()
        assert until_end(busy).startswith(b"HTTP/1.1 200 ")
    assert [r.message for r in caplog.records].count(
        "more than 3 REST connections: closing idle ones"
    ) == 1


def test_connections_may_take_half_of_the_files(server, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 100))
    with another(server) as other:
        first, second, third = (
            socket.create_connection(("127.0.0.1", other.rest.port), LONG)
            for _ in range(3)
        )
        with first, second, third:
            assert until_end(first) == b""
            second.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert second.recv(1 << 16).startswith(b"HTTP/1.1 404 ")


def test_what_is_no_http_is_one_line_in_the_log(server, caplog):
    """Now and then: anybody can send it."""
    texts = (
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 20_000),
        b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    )
    with another(server) as other:
        for text in texts:
            with socket.create_connection(("127.0.0.1", other.rest.port)) as connection:
                connection.settimeout(LONG)
                connection.sendall(text)
                assert connection.recv(100).startswith(b"HTTP/1.")
    said = [record for record in caplog.records if record.levelname != "INFO"]
    assert len(said) == 1
    assert said[0].getMessage().startswith("malformed HTTP request: ")
    assert "\n" not in caplog.handler.format(said[0])


@pytest.mark.parametrize(
    ("given", "grpc_host", "asked"),
    [
        ("::1", "[::1]", ["[::1]"]),
        ("[::1]", "[::1]", ["[::1]"]),
        ("127.0.0.1", "127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", "0.0.0.0", ["127.0.0.1"]),
        ("::", "[::]", ["127.0.0.1", "[::1]"]),
        ("localhost", "localhost", ["127.0.0.1"]),
    ],
)
def test_addresses_to_listen_on(tmp_path, given, grpc_host, asked):
    """And a path of the metrics that is one of the models': it goes first, as in
    util/net_http/server/internal/evhttp_server.cc, DispatchEvRequest.
    """
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/v1/metrics" }')
    (tmp_path / "models.config").write_text("model_config_list {}")
    running = application.start(
        flags.Flags(
            port=-1,
            rest_api_port=-1,
            bind_address=given,
            model_config_file=str(tmp_path / "models.config"),
            monitoring_config_file=str(monitoring),
        )
    )
    try:
        assert running.ready_line() == (
            f"serving no model yet on {grpc_host}:{running.port} (gRPC), "
            f"http://{grpc_host}:{running.rest.port} (REST)"
        )
        for host in asked:
            url = f"http://{host}:{running.rest.port}/v1/metrics"
            with urllib.request.urlopen(url, timeout=LONG) as answer:
                assert b":tensorflow:" in answer.read()
            with grpc.insecure_channel(f"{host}:{running.port}") as channel:
                grpc.channel_ready_future(channel).result(LONG)
    finally:
        running.stop(0)


def test_lack_of_files_is_logged_once_and_passes(server, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def logged():
        names = ("asyncio", rest.__name__)
        return [record.message for record in caplog.records if record.name in names]

    with contextlib.ExitStack() as stack:
        other = stack.enter_context(another(server))
        clients = [stack.enter_context(socket.socket()) for _ in range(20)]
        highest = max(map(int, os.listdir("/dev/fd")))
        fillers = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            for client in clients:
                client.connect(("127.0.0.1", other.rest.port))
            end = time.monotonic() + LONG
            while not logged() and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.1)
        finally:
            for filler in fillers:
                os.close(filler)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert ask(other, "/v1/models/half")[0] == 200
    (message,) = logged()
    assert message.startswith("cannot accept REST connections: [Errno 24]")


def test_cors_headers_when_asked_for(small):
    _, _, headers = ask(small, HALF, {"instances": [0]})
    assert headers["Access-Control-Allow-Origin"] == "*"
    status, _, headers = ask(small, HALF, method="OPTIONS", raw=True)
    assert (status, headers["Access-Control-Allow-Methods"]) == (200, "POST, GET")


def test_slow_model_times_out_and_a_full_pool_refuses(small, server, monkeypatch):
    entered, gate = hold_requests(server, monkeypatch)
    answers = []

    def one():
        answers.append(ask(small, HALF, {"instances": [0]}))

    threads = [threading.Thread(target=one) for _ in range(2)]
    threads[0].start()
    assert entered.wait(LONG)
    threads[1].start()
    end = time.monotonic() + LONG
    statuses = []
    while 429 not in statuses:  # once the second one waits, the third is refused
        statuses.append(ask(small, HALF, {"instances": [0]})[0])
        assert time.monotonic() < end
    for thread in threads:
        thread.join()
    gate.set()
    monkeypatch.undo()
    assert {status for status, _, _ in answers} <= {429, 504}
    assert any(status == 504 for status, _, _ in answers)
    late = next(value for status, value, _ in answers if status == 504)
    assert "700 ms" in late["error"]
    while ask(small, HALF, {"instances": [0]})[0] != 200:
        assert time.monotonic() < end


def test_client_that_hangs_up_cancels_its_call(server, monkeypatch):
    seen, gone = threading.Event(), threading.Event()
    run = server.service.run

    def waiting(spec, make_feeds, call, **options):
        seen.set()
        end = time.monotonic() + LONG
        while not call.cancelled():
            assert time.monotonic() < end
            time.sleep(0.01)
        gone.set()
        raise ServingError(rest.grpc.StatusCode.CANCELLED, "gone")

    monkeypatch.setattr(server.service, "run", waiting)
    connection = http.client.HTTPConnection("127.0.0.1", server.rest.port)
    connection.request("POST", HALF, b'{"instances": [0]}')
    assert seen.wait(LONG)
    connection.close()
    assert gone.wait(LONG)
    monkeypatch.setattr(server.service, "run", run)
    assert ask(server, HALF, {"instances": [0]})[0] == 200


def test_port_that_is_taken_is_an_error(server):
    with pytest.raises(OSError, match="in use"):
        rest.start(server.service, "127.0.0.1", server.rest.port, rest.Options())


def test_stop_lets_requests_in_flight_end(server, monkeypatch):
    other = rest.start(server.service, "127.0.0.1", 0, rest.Options())
    entered, gate = hold_requests(server, monkeypatch)

    class Both:
        rest = other

    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(ask(Both, HALF, {"instances": [0]}))
    )
    thread.start()
    assert entered.wait(LONG)
    stopping = threading.Thread(target=other.stop, args=(LONG,))
    stopping.start()
    end = time.monotonic() + LONG
    while True:  # no new connections
        try:
            socket.create_connection(("127.0.0.1", other.port), 1).close()
        except OSError:
            break
        assert time.monotonic() < end
        time.sleep(0.01)
    gate.set()
    thread.join(LONG)
    stopping.join(LONG)
    assert answers[0][0] == 200
