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

from serving.server import tensors
from serving.server.errors import ServingError

pytestmark = pytest.mark.tf
NUMBERS = [
    "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
]  # fmt: skip


def read(proto: tensor_pb2.TensorProto) -> np.ndarray:
    return tensors.to_arrays({"x": proto}, tensors.Limits())["x"]


def refusal(proto: tensor_pb2.TensorProto) -> str:
    with pytest.raises(ServingError) as caught:
        read(proto)
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
        back = read(written)
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
    assert list(read(proto)) == values


@settings(deadline=None)
@given(_STRINGS)
def test_packed_strings(values: list[bytes]):
    content = b"".join(_varint(len(value)) for value in values) + b"".join(values)
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, tensor_content=content)
    proto.tensor_shape.dim.add(size=len(values))
    assert list(read(proto)) == values


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
        array = read(proto)
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
    np.testing.assert_array_equal(read(proto), expected.numpy())


@pytest.mark.parametrize("shape", [[10**9], [2**40, 2**40], [2**62, 4], [1000] * 5])
@pytest.mark.parametrize("values", [0, 1])
def test_a_short_message_takes_no_large_memory(shape: list[int], values: int):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.extend([1.0] * values)
    assert "more than" in refusal(proto)
    proto.dtype = types_pb2.DT_STRING
    assert "x" in refusal(proto)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(NUMBERS),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 9),
    st.binary(max_size=16),
    st.booleans(),
)
def test_any_proto_is_read_as_tensorflow_reads_it(name, shape, given_, content, values):
    """Tensor::FromProto: surplus values and the content of an empty tensor are ignored."""
    dtype = tf.as_dtype(name)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_content=content)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    field, _ = tensors._FIELDS[proto.dtype]
    if values:
        proto.tensor_content = b""
        getattr(proto, field).extend([value % 2 for value in range(given_)])
    try:
        expected = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except tf.errors.InvalidArgumentError:
        refusal(proto)
        return
    array = read(proto)
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    same = expected.view(np.uint8) != 0 if name == "bool" else expected
    np.testing.assert_array_equal(array, same)


def test_a_shape_of_unknown_rank_is_that_of_a_scalar():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[3.0])
    proto.tensor_shape.unknown_rank = True
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.float32)
    assert read(proto) == expected.numpy() == 3.0


def test_moderate_filling_has_a_limit_of_its_own():
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_UINT8)
    proto.tensor_shape.dim.add(size=(16 << 20) + 1)
    proto.int_val.append(1)
    assert "must be sent in full" in refusal(proto)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.tensor_shape.dim.add(size=-1), "negative size"),
        (lambda p: setattr(p, "tensor_content", b"123"), "needs 8"),
        (lambda p: setattr(p, "tensor_content", bytes(9)), "needs 8"),
        (lambda p: setattr(p, "dtype", 0), "its type is invalid"),
        (lambda p: setattr(p, "dtype", 77), "its type is type 77"),
        (lambda p: setattr(p, "dtype", 101), "its type is float_ref"),
        (lambda p: setattr(p, "dtype", types_pb2.DT_QINT8), "its type is qint8"),
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
    message = refusal(proto)
    assert message.startswith("tensor parsing error: x: ")
    assert text in message


def test_bytes_that_are_no_booleans_become_true():
    proto = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_BOOL, tensor_content=b"\0\1\2\xff"
    )
    proto.tensor_shape.dim.add(size=4)
    array = read(proto)
    assert array.dtype == bool
    assert array.tolist() == [False, True, True, True]
    assert set(array.view(np.uint8)) == {0, 1}
