"""Whatever is sent, the server answers it, answers the next one too, and stays small."""

from __future__ import annotations

import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from tests.serving.server import models, processes

pytestmark = pytest.mark.tf
SECONDS = 60
Code = grpc.StatusCode
SERVICE = "/tensorflow.serving.PredictionService/"
METHODS = ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")
# What a caller may be told of a mistake of his. Never INTERNAL, UNKNOWN or UNAVAILABLE.
MISTAKES = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION}


@pytest.fixture(scope="module")
def send(process: Any) -> Any:
    """Sends bytes to a method of the server and returns the status."""
    channel = grpc.insecure_channel(
        process.address, [("grpc.max_send_message_length", -1)]
    )

    def send(data: bytes, method: str = "Predict", service: str = SERVICE) -> Code:
        try:
            channel.unary_unary(service + method)(data, timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code()
        return Code.OK

    yield send
    channel.close()


def request(model: str, signature: str = "", **inputs: Any) -> Any:
    made = predict_pb2.PredictRequest()
    made.model_spec.name = model
    made.model_spec.signature_name = signature
    for name, value in inputs.items():
        proto = (
            value
            if isinstance(value, tensor_pb2.TensorProto)
            else tf.make_tensor_proto(value)
        )
        made.inputs[name].CopyFrom(proto)
    return made


def good(rng: random.Random) -> bytes:
    rows = rng.randrange(1, 4)
    return rng.choice(
        [
            request("tf2", x=np.ones(rows, np.float32)),
            request("tf1", x=np.ones((rows, 1), np.float32)),
            request("images", images=np.ones((rows, 32, 32, 3), np.uint8)),
            request("images", images=np.ones((1, 30 + rows, 32, 3), np.uint8)),
            request("tf2", "strings", text=[b"text"] * rows),
            request("tf2", x=np.full(rows, np.nan, np.float32)),
        ]
    ).SerializeToString()


def wrong_rank(rng: random.Random) -> bytes:
    rank = rng.choice([0, 1, 2, 3, 5, 6])
    shape = [rng.randrange(1, 4) for _ in range(rank)]
    signature = rng.choice(["", *models.ANY_RANK])
    if signature == "either_rank" and rank == 3:
        shape = [1, 2]
    dtype = np.float32 if signature else np.uint8
    return request(
        "images", signature, images=np.ones(shape, dtype)
    ).SerializeToString()


def wrong_type(rng: random.Random) -> bytes:
    dtype = rng.choice([np.float64, np.int32, np.int64, np.uint8, np.bool_])
    return request("tf2", x=np.ones(2, dtype)).SerializeToString()


def wrong_shape(rng: random.Random) -> bytes:
    shape = rng.choice([(1, 31, 32, 2), (1, 32, 32), (32, 32, 3), (1, 32, 32, 4), ()])
    return request("images", images=np.ones(shape, np.uint8)).SerializeToString()


def wrong_name(rng: random.Random) -> bytes:
    made = request("tf2", x=np.ones(1, np.float32))
    text = "".join(chr(rng.randrange(1, 0x2FF)) for _ in range(rng.randrange(1, 300)))
    which = rng.randrange(5)
    if which == 0:
        made.model_spec.name = text
    elif which == 1:
        made.model_spec.signature_name = text
    elif which == 2:
        made.model_spec.version_label = text
    elif which == 3:
        made.model_spec.version.value = rng.choice([-1, 0, 2, 2**63 - 1, -(2**63)])
    else:
        made.output_filter.append(text)
    return made.SerializeToString()


def bomb(rng: random.Random) -> bytes:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for _ in range(rng.randrange(1, 5)):
        proto.tensor_shape.dim.add(size=rng.choice([10**9, 2**31, 2**62]))
    proto.float_val.extend([1.0] * rng.randrange(2))
    signature, name = rng.choice([("", "x"), ("any_rank", "images")])
    model = "images" if signature else "tf2"
    return request(model, signature, **{name: proto}).SerializeToString()


def broken_tensor(rng: random.Random) -> bytes:
    proto = tf.make_tensor_proto(np.ones(8, np.float32))
    which = rng.randrange(4)
    if which == 0:
        proto.tensor_content = rng.randbytes(rng.choice([1, 31, 33]))
    elif which == 1:
        proto.tensor_shape.dim[0].size = -rng.randrange(1, 9)
    elif which == 2:
        proto.tensor_shape.unknown_rank = True
        del proto.tensor_shape.dim[:]
    else:
        proto.dtype = rng.choice([0, 2, 7, 20, 21, 23, 99, 101, 2**31 - 1])
    return request("tf2", x=proto).SerializeToString()


def image_bomb(rng: random.Random) -> bytes:
    width, height = rng.choice([(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 2**30)])
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )
    frame = struct.pack(">HHB", 60_000, 60_000, 3)
    jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08" + frame
    return request(
        "images", "encoded", encoded=[rng.choice([png, jpeg])]
    ).SerializeToString()


def no_image(rng: random.Random) -> bytes:
    start = rng.choice([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM"])
    data = start + rng.randbytes(rng.randrange(60))
    return request("images", "encoded", encoded=[data]).SerializeToString()


# What makes the bytes, and what may be answered.
KINDS: list[tuple[Callable[[random.Random], bytes], set[grpc.StatusCode]]] = [
    (wrong_rank, {Code.INVALID_ARGUMENT}),
    (wrong_type, {Code.INVALID_ARGUMENT}),
    (wrong_shape, {Code.INVALID_ARGUMENT}),
    (wrong_name, MISTAKES),
    (bomb, {Code.INVALID_ARGUMENT}),
    (broken_tensor, {Code.INVALID_ARGUMENT}),
    (image_bomb, {Code.INVALID_ARGUMENT}),
    (no_image, {Code.INVALID_ARGUMENT, Code.OK}),  # a BMP may be anything
    (good, {Code.OK}),
]


def thousand(send: Any, seed: int) -> Counter:
    """Sends a thousand requests, most of them bad; what came back, by code."""
    rng = random.Random(seed)
    answers: Counter = Counter()
    for number in range(1000):
        kind = rng.randrange(12)
        if kind < len(KINDS):
            make, allowed = KINDS[kind]
            code = send(make(rng))
            assert code in allowed, (make.__name__, number, code)
        elif kind == 9:  # no protobuf, or one that says nothing
            code = send(rng.randbytes(rng.randrange(200)), rng.choice(METHODS))
            assert code in MISTAKES, (number, code)
        elif kind == 10:  # cut short
            data = good(rng)
            code = send(data[: rng.randrange(len(data))], rng.choice(METHODS))
            assert code in MISTAKES | {Code.UNIMPLEMENTED}, (number, code)
        else:  # some bits turned
            data = bytearray(good(rng))
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            code = send(bytes(data))
            assert code in MISTAKES | {Code.OK}, (number, code)
        answers[code] += 1
        if number % 50 == 0:
            assert send(good(rng)) == Code.OK
    return answers


def test_a_thousand_malformed_requests_are_answered_without_growth(process, send):
    answers = thousand(send, 1)
    assert sum(answers.values()) == 1000
    assert answers[Code.INVALID_ARGUMENT] > 500
    before = processes.resident_bytes(process.popen.pid)
    thousand(send, 2)
    grown = processes.resident_bytes(process.popen.pid) - before
    assert grown < 40e6, f"{grown / 1e6:.0f} MB"
    assert process.popen.poll() is None


@pytest.mark.parametrize("signature", models.ANY_RANK)
def test_right_ranks_of_open_signatures_are_answered(send, signature: str):
    images = np.ones((2, 5, 5, 3), np.float32)
    assert (
        send(request("images", signature, images=images).SerializeToString()) == Code.OK
    )
    if signature == "either_rank":
        data = request("images", signature, images=images[0]).SerializeToString()
        assert send(data) == Code.OK


@pytest.mark.parametrize(
    "shape", [[0, 2**40, 2**40, 3], [2**62, 0], [2**40, 2**40, 0], [2**63 - 1, 0]]
)
def test_empty_tensors_of_huge_shapes_are_the_callers_mistake(send, shape: list[int]):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    data = request("images", "any_rank", images=proto).SerializeToString()
    assert send(data) == Code.INVALID_ARGUMENT


def test_messages_beyond_the_limit_are_refused(send):
    data = request("tf2", x=np.ones(5_100_000, np.float32)).SerializeToString()
    assert len(data) > 20_000_000
    assert send(data) == Code.RESOURCE_EXHAUSTED
    assert send(good(random.Random(0))) == Code.OK


def test_unknown_methods_are_unimplemented(send):
    assert send(b"", "Nothing") == Code.UNIMPLEMENTED
    assert send(b"", "Monitor", "/tensorflow.ProfilerService/") == Code.UNIMPLEMENTED


def test_connections_that_stop_half_way_harm_nobody(process, send):
    host, port = process.address.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\x04\0\0\0\0\0"
    headers = b"\0\0\xff\x01\x04\0\0\0\x01"  # a header frame that never comes
    for number, data in enumerate(
        [b"", b"GET / HTTP/1.1\r\n\r\n", preface[:9], preface + settings,
         preface + settings + headers, random.Random(0).randbytes(5000)] * 10
    ):  # fmt: skip
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(data)
            if number % 3 == 0:
                connection.shutdown(socket.SHUT_WR)
            elif number % 3 == 1:  # a reset instead of an end
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert send(good(random.Random(0))) == Code.OK


def test_callers_who_leave_harm_nobody(process, send):
    data = request("tf2", "slow", turns=np.int64(20_000)).SerializeToString()
    with grpc.insecure_channel(process.address) as channel:
        calls = [
            channel.unary_unary(SERVICE + "Predict").future(data) for _ in range(40)
        ]
        for call in calls:
            call.cancel()
    assert send(good(random.Random(0))) == Code.OK


def test_nothing_of_a_request_is_in_the_log(process, send):
    made = request("tf2", "strings", text=[b"s3cret-value"])
    made.output_filter.append("wrong")
    assert send(made.SerializeToString()) == Code.INVALID_ARGUMENT
    assert "s3cret" not in "".join(process.lines)
    assert "Traceback" not in "".join(process.lines)
