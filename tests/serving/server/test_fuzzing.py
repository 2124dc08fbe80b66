"""Whatever comes by REST or stands in a file is refused in one sentence, or is right.

New examples each time: HYPOTHESIS_PROFILE=explore .venv/bin/python -m pytest
tests/serving/server/test_fuzzing.py
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import select
import socket
import threading
import time
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.server import configuration
from serving.server.configuration import ConfigurationError
from serving.server.flags import Flags
from tests.serving.server import processes

pytestmark = pytest.mark.tf

SECONDS = 10.0  # in which the server has to answer or hang up
WAIT = 0.1  # seconds, for an answer to what may be half a request
HONEST = (
    b"POST /v1/models/tf2:predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 18\r\n\r\n" + b'{"instances": [0]}'
)


def rest_port(process: Any) -> int:
    (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", process.ready)
    return int(port)


def statuses(port: int, parts: list[bytes], wait: float = SECONDS) -> list[int]:
    """Of what comes back until an answer is there, or nothing comes while we `wait`.

    Raises:
        TimeoutError: The server neither answers nor hangs up.
    """
    data = b""
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as client,
        contextlib.suppress(ConnectionError),
    ):
        for part in parts:
            client.sendall(part)
        while select.select([client], [], [], wait)[0]:
            part = client.recv(1 << 16)
            data += part
            if not part or is_answered(data):
                break
        with contextlib.suppress(OSError):  # it has hung up first
            client.shutdown(socket.SHUT_WR)
        while part := client.recv(1 << 16):
            data += part
    return [int(found) for found in re.findall(rb"^HTTP/1\.\d (\d{3}) ", data, re.M)]


def is_answered(data: bytes) -> bool:
    """Whether one answer is here as a whole."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


@pytest.fixture
def unharmed(process):
    """The server answers afterwards, has no more memory, and has logged no traceback."""
    port = rest_port(process)
    assert statuses(port, [HONEST]) == [200]
    before, lines = processes.resident_bytes(process.popen.pid), len(process.lines)
    yield port
    assert statuses(port, [HONEST]) == [200]
    grown = processes.resident_bytes(process.popen.pid) - before
    assert grown < 100e6, f"{grown / 1e6:.0f} MB"
    said = process.lines[lines:]
    assert not [line for line in said if "Traceback" in line or " ERROR " in line]
    assert len(said) < 20  # nor a line for each


NAMES = st.one_of(
    st.sampled_from([
        b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Encoding",
        b"Content-Type", b"Connection", b"Expect", b"Upgrade", b"Origin", b"Trailer",
        b"TE", b"Accept-Encoding", b"Cookie", b"Sec-WebSocket-Key", b"HTTP2-Settings",
        b"content-length ", b" Content-Length", b"\tX", b"", b"X\x00", b"X(", b"X\xff",
    ]),
    st.binary(max_size=12),
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([
        b"localhost", b"127.0.0.1:1", b"[::1]", b"evil.example", b"0", b"18", b"019",
        b"+18", b"-1", b"1_8", b"18, 18", b"18,19", b"0x12", b"1e1", b"\xd9\xa1",
        b"9" * 400, b"18446744073709551634", b"chunked", b"Chunked", b"gzip, chunked",
        b"chunked, chunked", b"chunked, gzip", b"identity", b"xchunked", b"\x0bchunked",
        b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip", b"compress", b"close",
        b"keep-alive", b"upgrade", b"websocket", b"h2c", b"100-continue", b"other",
        b"text/plain", b"application/json; charset=utf-7", b"a\r\n folded", b"a\n\tb",
        b"x" * 9000, b"",
    ]),
    st.binary(max_size=20),
)  # fmt: skip
TARGETS = st.one_of(
    st.sampled_from([
        b"/v1/models/tf2:predict", b"/v1/models/tf2", b"/v1/models/tf2/metadata",
        b"/v1/models/tf2/versions/1:predict", b"/v1/models/tf2/labels/stable:classify",
        b"/v1/models/tf2/versions/99999999999999999999:predict", b"/metrics", b"/", b"*",
        b"http://localhost/v1/models/tf2", b"http://evil.example/", b"http://[::1/",
        b"//v1/models", b"/v1/models/%00%ff%zz:predict", b"/v1/models/../tf2",
        b"localhost:80", b"/?" + b"a" * 9000, b"/\xff\xfe", b"/#x", b"http://", b"",
    ]),
    st.binary(max_size=20),
)  # fmt: skip
METHODS = st.one_of(
    st.sampled_from(
        [b"POST", b"GET", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"post", b"P\xd6ST"]
    ),
    st.binary(max_size=6),
)
PROTOCOLS = st.sampled_from(
    [b"HTTP/1.1"] * 6
    + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.", b"http/1.1", b""]
)
LINE_ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n", b"\x00"])
BODIES = st.one_of(
    st.sampled_from([
        b'{"instances": [0]}', b"{}", b"12\r\n" + b'{"instances": [0]}\r\n0\r\n\r\n',
        b'12;x="y\r\n', b"-1\r\n", b"0x12\r\n", b"f" * 40 + b"\r\n", b"ffffffffffffffff\r\n",
        b"12\n" + b'{"instances": [0]}\n0\n\n', b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\n\r\n", b"1 \r\nx", b"12\r\n" + b'{"instances": [0]}XX0\r\n\r\n', b"",
        gzip.compress(b'{"instances": [0]}'), gzip.compress(b"{}")[:-5],
        gzip.compress(b"{}") * 3, b"\x1f\x8b\x08" + bytes(30), zlib.compress(b"{}"),
        gzip.compress(bytes(1 << 20)), b"\x28\xb5\x2f\xfd" + bytes(20),
    ]),
    st.binary(max_size=60),
)  # fmt: skip


@st.composite
def requests(draw: Any) -> list[bytes]:
    """Parts of one or more requests; the first line is often right, the rest may be."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        end = draw(LINE_ENDS)
        fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
        if draw(st.integers(0, 3)):
            fields.insert(0, (b"Host", b"localhost"))
        line = b" ".join((draw(METHODS), draw(TARGETS), draw(PROTOCOLS)))
        colon = draw(st.sampled_from([b": "] * 5 + [b":", b" : ", b"", b"="]))
        head = end.join([line, *(name + colon + value for name, value in fields)])
        parts += [head + end + end, draw(BODIES)]
    if draw(st.booleans()):  # in pieces, or cut off
        whole = b"".join(parts)
        at = sorted(draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=3)))
        parts = [whole[a:b] for a, b in zip([0, *at], at, strict=False)]
    return parts


FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(requests())
def test_no_bytes_break_rest(unharmed, parts):
    found = statuses(unharmed, parts, WAIT)
    assert all(status in (100, 200) or 400 <= status < 500 for status in found), found


@FEW
@given(
    st.lists(
        st.sampled_from([
            b"Content-Length: 18", b"Content-Length: 0", b"Content-Length: 19",
            b"Content-Length: 18, 18", b"Content-Length: 18, 0", b"Content-Length: +18",
            b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity", b"Transfer-Encoding : chunked",
            b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\x0bchunked",
            b"X: y\r\n Content-Length: 0", b"Content-Length\x00: 18",
        ]),
        min_size=2, max_size=3,
    )
)  # fmt: skip
def test_a_body_of_two_lengths_is_not_answered(unharmed, fields):
    """RFC 9112, 6.3: the message behind it could be another one to a proxy."""
    lengths = {field for field in fields if field.startswith(b"Content-Length: ")}
    codings = [field for field in fields if field.startswith(b"Transfer-Encoding")]
    if len(lengths) < 2 and not (lengths and codings):
        return
    head = b"POST /v1/models/tf2:predict HTTP/1.1\r\nHost: localhost\r\n"
    body = b'{"instances": [0]}'
    data = head + b"\r\n".join(fields) + b"\r\n\r\n" + body + HONEST
    found = statuses(unharmed, [data], WAIT)
    assert found in ([], [400]), found


TEXTS = st.one_of(
    st.text(max_size=5).map(json.dumps),
    st.sampled_from([
        '"\\ud83d"', '"\\ud83d\\ude00"', '"\\u12"', '"\\q"', '"\x01"', '"', '"\\', '"b64"',
        '"\x00"', '"\u2028"', '"instances"',
    ]),
)  # fmt: skip
SCALARS = st.one_of(
    TEXTS,
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from([
        "NaN", "-NaN", "Inf", "-Inf", "Infinity", "-Infinity", "null", "true", "false",
        "1e999", "-1e999", "1e-999", "-0", "-0.0", "0e5", "01", "+1", ".5", "5.", "1e", "0x1",
        "9" * 30, "9" * 5000, "1" + "0" * 400 + "e-400", "18446744073709551616", "Na", "tru",
        "1,", ",", "", "/**/1", "'a'", '{"b64":"YQ=="}', '{"b64":"!"}', '{"b64":"Y Q"}',
        '{"b64":1}', '{"b64":"YQ==","b64":"YQ"}', '{"b64":"YQ==","x":1}', '{"b64":null}',
        '{"b64":["YQ=="]}', '{"b64":"' + "A" * 5000 + '"}', "[" * 40 + "]" * 40,
        "[" * 1000 + "]" * 1000, '{"x":' * 1000 + "1" + "}" * 1000, "[" * 5000,
        '{"x":{"b64":"YQ=="}}', "[[1],[1,2]]", "[]", "[[]]", "{}",
    ]),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from([
        '"x"', '"inputs"', '"instances"', '"signature_name"', '"examples"', '"context"',
        '"b64"', '""', '"text"', '"a"', '"b"', '"images"', '"turns"',
    ]),
    TEXTS,
    st.just("1"),
)  # fmt: skip


def lists(inner: Any) -> Any:
    return st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")


def objects(inner: Any, keys: Any = KEYS) -> Any:
    """Names may be there twice."""
    return st.lists(st.tuples(keys, inner), max_size=3).map(
        lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
    )


JSON = st.recursive(
    SCALARS, lambda inner: st.one_of(lists(inner), objects(inner)), max_leaves=8
)
SIGNATURES = st.sampled_from(
    ["serving_default", "strings", "scalar", "divide", "classify", "regress", "encoded"]
)


@st.composite
def bodies(draw: Any) -> bytes:
    """Documents: often with the right names, sometimes of broken bytes."""
    pairs = [(f'"{key}"', draw(JSON)) for key in draw(st.lists(
        st.sampled_from(["instances", "inputs", "examples", "context"]),
        min_size=1, max_size=2,
    ))]  # fmt: skip
    if draw(st.booleans()):
        name = draw(st.one_of(SIGNATURES.map(json.dumps), JSON))
        pairs.append(('"signature_name"', name))
    text = "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
    data = draw(st.sampled_from(["", "\ufeff", " ", "\n"])) + text
    encoded = bytearray(data.encode(draw(st.sampled_from(["utf-8"] * 5 + ["utf-16"]))))
    for at, byte in draw(
        st.lists(
            st.tuples(st.integers(0, len(encoded) - 1), st.integers(0, 255)), max_size=2
        )
    ):
        encoded[at] = byte
    return bytes(encoded)


@FEW
@given(
    bodies(),
    st.sampled_from(["tf2", "tf1", "images"]),
    st.sampled_from(["predict", "classify", "regress"]),
    st.sampled_from([b"", b"gzip", b"deflate"]),
)
def test_no_body_breaks_rest(unharmed, body, model, verb, coding):
    head = f"POST /v1/models/{model}:{verb} HTTP/1.1\r\nHost: localhost\r\n".encode()
    if coding:
        body = gzip.compress(body) if coding == b"gzip" else zlib.compress(body)
        head += b"Content-Encoding: " + coding + b"\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    (status,) = statuses(unharmed, [head + body])
    assert status in (200, 400, 404, 501), status  # 501: a type that JSON has not


WORDS = [
    "model_config_list", "config", "name", "base_path", "model_platform", "model_type",
    "model_version_policy", "latest", "num_versions", "specific", "versions", "all",
    "version_labels", "key", "value", "logging_config", "sampling_config",
    "sampling_rate", "custom_model_config", "log_collector_config", "type",
    "filename_prefix", "[type.googleapis.com/google.protobuf.Any]", "[a.b]",
    "[type.googleapis.com/tensorflow.serving.ModelServerConfig]", "prometheus_config",
    "enable", "path", "max_batch_size", "batch_timeout_micros", "max_enqueued_batches",
    "num_batch_threads", "thread_pool_name", "allowed_batch_sizes",
    "pad_variable_length_inputs", "enable_large_batch_splitting",
    "max_execution_batch_size", "server_key", "server_cert", "custom_ca",
    "client_verify", "1", "unknown",
]  # fmt: skip
LITERALS = st.one_of(
    st.sampled_from([
        "1", "0", "-1", "9223372036854775807", "9223372036854775808", "1e400", "nan",
        "-inf", "0x10", "010", "1.5", "1f", "true", "false", "t", "TENSORFLOW", "OTHER",
        '"tensorflow"', '"/m"', '"m"', "'m'", '"/m" "x"', '"\\377"', '"\\xff"', '"\\000"',
        '"\\ud800"', '"/\\000"', '"\\n2026"', '"', '"\\', '"/m\\u202e"', '"' + "a" * 5000 + '"',
        "[1, 2]", "[" + "1," * 2000 + "1]", "[]", "[1", '["a"]', "9" * 5000, "",
        '"-----BEGIN CERTIFICATE-----"', '"-----BEGIN PRIVATE KEY-----"',
    ]),
    st.text(max_size=6).map(lambda text: f'"{text}"'),
    st.text(max_size=3),
)  # fmt: skip


def fields(inner: Any) -> Any:
    pairs = st.tuples(st.sampled_from(WORDS), st.sampled_from([": ", " ", ":"]), inner)
    return st.lists(pairs.map("".join), max_size=4).map(" ".join)


def messages(inner: Any) -> Any:
    closings = st.sampled_from(["{%s}"] * 6 + ["<%s>", "{%s", "%s}", "[{%s}]", "#%s\n"])
    return st.tuples(closings, fields(inner)).map(lambda pair: pair[0] % pair[1])


NESTED = st.tuples(
    st.sampled_from(["custom_model_config ", "model_config_list ", ""]),
    st.sampled_from(WORDS),
    st.sampled_from([50, 2000]),
).map(lambda n: f"{n[0]}{{{(n[1] + ' {') * n[2]}{'}' * (n[2] + 1)}")
ENTRY = 'name: "m" base_path: "/m" model_platform: "tensorflow" '
LISTS = fields(st.one_of(LITERALS, messages(LITERALS))).map(
    lambda text: f"model_config_list {{ config {{ {ENTRY} {text} }} }}"
)
FILES = st.one_of(
    st.one_of(
        fields(st.recursive(LITERALS, messages, max_leaves=6)), LISTS, NESTED
    ).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
)
LOADERS = {
    "models": lambda path: configuration.load_models(Flags(model_config_file=path)),
    "batching": configuration.load_batching,
    "metrics": configuration.load_metrics_path,
    "tls": configuration.load_tls,
}


def refusal(kind: str, path: Any) -> str | None:
    """Why a file cannot be used; None: it can."""
    try:
        LOADERS[kind](str(path))
    except ConfigurationError as error:
        return str(error)
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, st.sampled_from(sorted(LOADERS)))
def test_no_file_ends_in_more_than_a_sentence(tmp_path, content, kind):
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    began = time.monotonic()
    reason = refusal(kind, path)
    assert time.monotonic() - began < SECONDS
    if reason is not None:
        assert str(path) in reason
        assert len(reason) < 1200 + len(str(path))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(FILES, min_size=1, max_size=2))
def test_no_text_of_a_file_that_is_read_again_harms(tmp_path, caplog, contents):
    """Good texts after it are put in force; of itself, only what a start would take."""
    path, stopping, begun = tmp_path / "models.txt", threading.Event(), []
    caplog.clear()
    path.write_text("model_config_list {}")
    configuration.watch_models(str(path), 0.005, begun.append, stopping)
    try:
        for number, content in enumerate(contents):
            path.write_bytes(content)
            time.sleep(0.03)
            good = f'name: "{number}" base_path: "/m" model_platform: "tensorflow"'
            path.write_text(f"model_config_list {{ config {{ {good} }} }}")
            processes.wait_for(
                lambda name=str(number): {name} in map(set, begun), SECONDS
            )
    finally:
        stopping.set()
    assert not [record for record in caplog.records if record.exc_info]
    path = tmp_path / "again.txt"
    for content in contents:
        path.write_bytes(content)
        if refusal("models", path) is None:
            found = LOADERS["models"](str(path))
            begun = [models for models in begun if models != found]
    assert all(set(models) <= {"0", "1"} for models in begun), begun
