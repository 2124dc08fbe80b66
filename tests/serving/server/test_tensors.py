"""TensorProtos become the arrays that TensorFlow makes of them, or are refused."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server import tensors
from serving.server.errors import ServingError

pytestmark = pytest.mark.tf
NUMBERS = [
    "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
]  # fmt: skip


def info(dtype: str, shape: list[int] | None = None) -> meta_graph_pb2.TensorInfo:
    """A signature's input; any rank without a shape."""
    made = meta_graph_pb2.TensorInfo(dtype=tf.as_dtype(dtype).as_datatype_enum)
    made.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return made


def read(proto: tensor_pb2.TensorProto, given: meta_graph_pb2.TensorInfo) -> np.ndarray:
    return tensors.to_arrays({"x": proto}, {"x": given}, tensors.Limits())["x"]


def refusal(proto: tensor_pb2.TensorProto, given: meta_graph_pb2.TensorInfo) -> str:
    with pytest.raises(ServingError) as caught:
        read(proto, given)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.message


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    name = draw(st.sampled_from(NUMBERS))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    seed = draw(st.integers(0, 2**32 - 1))
    count = int(np.prod(shape)) if shape else 1
    values = np.random.default_rng(seed).integers(-100, 100, count)
    dtype = tf.as_dtype(name).as_numpy_dtype
    return name, values.astype(dtype).reshape(shape)


@settings(deadline=None)
@given(arrays(), st.booleans())
def test_arrays_come_back_as_they_went(pair, content: bool):
    name, array = pair
    proto = tensor_pb2.TensorProto()
    tensors.to_proto(array, proto, content=content)
    # TensorFlow reads what we write,
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    # and we read what both write.
    for written in (proto, tf.make_tensor_proto(array, tf.as_dtype(name))):
        back = read(written, info(name))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


# What begins like a picture is looked at as one, see test_images.py.
_STRINGS = st.lists(
    st.binary(max_size=300).filter(
        lambda value: value[:1] not in {b"\x89", b"\xff", b"G", b"B", b"R", b"\0"}
    ),
    max_size=8,
)


@settings(deadline=None)
@given(_STRINGS)
def test_strings_come_back_as_they_went(values: list[bytes]):
    array = np.empty(len(values), object)
    array[:] = values
    proto = tensor_pb2.TensorProto()
    tensors.to_proto(array, proto)
    assert list(read(proto, info("string"))) == values


@settings(deadline=None)
@given(_STRINGS)
def test_packed_strings(values: list[bytes]):
    content = b"".join(_varint(len(value)) for value in values) + b"".join(values)
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=content)
    proto.tensor_shape.dim.add(size=len(values))
    assert list(read(proto, info("string"))) == values


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 6))
def test_any_bytes_as_packed_strings_are_read_or_refused(content: bytes, count: int):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=content)
    proto.tensor_shape.dim.add(size=count)
    try:
        array = read(proto, info("string"))
    except ServingError as error:
        assert "tensor parsing error: x" in error.message or "image" in error.message
    else:
        assert array.shape == (count,)


@pytest.mark.parametrize("given_values", [0, 1, 2])
def test_missing_values_are_filled_as_tensorflow_does(given_values: int):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    proto.tensor_shape.dim.add(size=5)
    proto.float_val.extend([3.0, 7.0][:given_values])
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.float32)
    np.testing.assert_array_equal(read(proto, info("float32")), expected.numpy())


@pytest.mark.parametrize("shape", [[10**9], [2**40, 2**40], [2**62, 4], [1000] * 5])
@pytest.mark.parametrize("values", [0, 1])
def test_a_short_message_takes_no_large_memory(shape: list[int], values: int):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.extend([1.0] * values)
    assert "more than" in refusal(proto, info("float32"))
    proto.dtype = types_pb2.DT_STRING
    assert "x" in refusal(proto, info("string"))


def test_moderate_filling_has_a_limit_of_its_own():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8)
    proto.tensor_shape.dim.add(size=(16 << 20) + 1)
    proto.int_val.append(1)
    assert "must be sent in full" in refusal(proto, info("uint8"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.tensor_shape.dim.add(size=-1), "negative size"),
        (lambda p: setattr(p.tensor_shape, "unknown_rank", True), "unknown rank"),
        (lambda p: setattr(p, "tensor_content", b"123"), "needs 8"),
        (lambda p: setattr(p, "tensor_content", bytes(9)), "needs 8"),
        (lambda p: p.float_val.extend([1, 2, 3]), "takes 2"),
        (lambda p: setattr(p, "dtype", 0), "invalid is provided"),
        (lambda p: setattr(p, "dtype", 77), "type 77 is provided"),
        (lambda p: setattr(p, "dtype", 101), "float_ref is provided"),
        (
            lambda p: [p.tensor_shape.dim.add(size=1) for _ in range(99)],
            "100 dimensions",
        ),
    ],
)
def test_what_is_no_tensor_is_refused(change, text: str):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    proto.tensor_shape.dim.add(size=2)
    change(proto)
    assert text in refusal(proto, info("float32"))


@pytest.mark.parametrize(
    ("shape", "accepted"),
    [
        ([2, 3], True),
        ([0, 3], True),
        ([2, 4], False),
        ([3], False),
        ([], False),
        ([1, 2, 3], False),
    ],
)
def test_shapes_are_the_signatures(shape: list[int], accepted: bool):
    proto = tf.make_tensor_proto(np.zeros(shape, np.float32))
    if accepted:
        assert read(proto, info("float32", [None, 3])).shape == tuple(shape)
    else:
        assert "signature's [?,3]" in refusal(proto, info("float32", [None, 3]))


def test_bytes_that_are_no_booleans_become_true():
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_BOOL, tensor_content=b"\0\1\2\xff"
    )
    proto.tensor_shape.dim.add(size=4)
    array = read(proto, info("bool"))
    assert array.dtype == bool
    assert array.tolist() == [False, True, True, True]
    assert set(array.view(np.uint8)) == {0, 1}
