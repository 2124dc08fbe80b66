"""Our messages and tensorflow_serving's are the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from serving.client import answers, messages, tensors
from serving.client.classifier import Classifier
from serving.client.errors import InvalidResponse, ServingError
from serving.client.results import CODES, STATES

pytestmark = pytest.mark.tf

OFFICIAL = {
    "TensorProto": tf.make_tensor_proto(0).__class__,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}
DTYPES = [
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8,
    np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def same_fields(ours, theirs, seen: set[str]) -> None:
    """Each of our fields has the number, type and label of theirs; recursively."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    # An enum is a varint as int32 is; see the table's comment.
    kinds = {theirs_kind: theirs_kind for theirs_kind in range(1, 19)} | {14: 5}
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert field.number == other.number, field.full_name
        assert field.type == kinds[other.type], field.full_name
        assert field.is_repeated == other.is_repeated, field.full_name
        assert (field.containing_oneof is None) == (other.containing_oneof is None)
        if field.message_type:
            same_fields(field.message_type, other.message_type, seen)


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_field_has_the_official_number_and_type(name: str):
    seen: set[str] = set()
    same_fields(getattr(messages, name).DESCRIPTOR, OFFICIAL[name].DESCRIPTOR, seen)
    assert seen


def test_private_names_do_not_clash_with_the_official_ones():
    ours = messages.PredictRequest.DESCRIPTOR
    assert ours.full_name != predict_pb2.PredictRequest.DESCRIPTOR.full_name
    assert ours.file.pool is not predict_pb2.PredictRequest.DESCRIPTOR.file.pool


def test_type_numbers_and_names_are_tensorflows():
    for entry in tensors.TYPES:
        assert types_pb2.DataType.Value(f"DT_{entry.name}") == entry.number
        if entry.dtype is not None and entry.name != "BFLOAT16":
            assert tf.as_dtype(entry.number).as_numpy_dtype == entry.dtype.newbyteorder(
                "="
            )


def test_states_and_codes_are_the_official_ones():
    status = get_model_status_pb2.ModelVersionStatus
    assert {value: name for name, value in status.State.items()} == STATES
    error_code = status.DESCRIPTOR.fields_by_name["status"].message_type
    names = error_code.fields_by_name["error_code"].enum_type.values_by_number
    assert all(names[number].name == name for number, name in CODES.items())


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, SHAPES, elements=npst.from_dtype(np.dtype(dtype)))
)


@given(array=arrays, order=st.sampled_from("CF"), swap=st.booleans())
@settings(max_examples=150, deadline=None)
def test_arrays_arrive_in_tensorflow_as_they_were(array, order, swap):
    sent = np.asarray(array, order=order)
    if swap:
        sent = sent.astype(sent.dtype.newbyteorder(">"))
    bytes_sent = tensors.encode("x", sent).SerializeToString()
    found = tf.make_ndarray(OFFICIAL["TensorProto"].FromString(bytes_sent))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == np.ascontiguousarray(array).tobytes()


@given(array=arrays)
@settings(max_examples=150, deadline=None)
def test_tensorflows_tensors_arrive_here_as_they_were(array):
    # make_tensor_proto writes one value in its field, more as tensor_content.
    sent = tf.make_tensor_proto(array, tf.as_dtype(array.dtype), array.shape)
    received = messages.TensorProto.FromString(sent.SerializeToString())
    found = tensors.decode("x", received)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == np.ascontiguousarray(array).tobytes()
    assert found.flags.writeable


VALUE_FIELDS = {
    np.float32: "float_val", np.float64: "double_val", np.int32: "int_val",
    np.uint8: "int_val", np.int16: "int_val", np.int8: "int_val", np.uint16: "int_val",
    np.int64: "int64_val", np.bool_: "bool_val", np.uint32: "uint32_val",
    np.uint64: "uint64_val",
}  # fmt: skip


@given(data=st.data(), dtype=st.sampled_from(list(VALUE_FIELDS)))
@settings(max_examples=150, deadline=None)
def test_values_in_fields_mean_what_they_mean_to_tensorflow(data, dtype):
    """Fewer values than the shape: the last one stands for the rest."""
    array = data.draw(npst.arrays(dtype, st.integers(1, 6)))
    count = data.draw(st.integers(len(array), 9))
    sent = OFFICIAL["TensorProto"](dtype=tf.as_dtype(dtype).as_datatype_enum)
    sent.tensor_shape.dim.add().size = count
    getattr(sent, VALUE_FIELDS[dtype]).extend(array.tolist())
    expected = tf.make_ndarray(sent)
    found = tensors.decode(
        "x", messages.TensorProto.FromString(sent.SerializeToString())
    )
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [tf.half, tf.bfloat16])
def test_halves_in_fields_are_read_by_their_bits(dtype):
    values = [1.0, -2.5, 0.0, float("inf")]
    sent = OFFICIAL["TensorProto"](dtype=dtype.as_datatype_enum)
    sent.tensor_shape.dim.add().size = len(values)
    sent.half_val.extend(
        np.array(values, dtype.as_numpy_dtype).view(np.uint16).tolist()
    )
    found = tensors.decode(
        "x", messages.TensorProto.FromString(sent.SerializeToString())
    )
    assert found.tolist() == tf.make_ndarray(sent).astype(np.float32).tolist() == values


def test_bfloat16_arrays_travel_both_ways():
    array = np.array([1.0, -2.5, 3e38], tf.bfloat16.as_numpy_dtype)
    sent = tensors.encode("x", array)
    official = OFFICIAL["TensorProto"].FromString(sent.SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(official), array)
    np.testing.assert_array_equal(tensors.decode("x", sent), array.astype(np.float32))


@given(
    values=npst.arrays(
        object, SHAPES, elements=st.binary(max_size=12), fill=st.nothing()
    )
)
@settings(max_examples=80, deadline=None)
def test_strings_travel_both_ways_with_zero_bytes(values):
    sent = tensors.encode("x", values)
    official = OFFICIAL["TensorProto"].FromString(sent.SerializeToString())
    assert tf.make_ndarray(official).tolist() == values.tolist()
    back = tf.make_tensor_proto(values, tf.string, values.shape)
    found = tensors.decode(
        "x", messages.TensorProto.FromString(back.SerializeToString())
    )
    assert found.shape == values.shape
    assert found.tolist() == values.tolist()


def test_requests_are_the_official_bytes():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    for choice in ({"version": 3}, {"version": 0}, {"version_label": "canary"}, {}):
        config = Classifier("localhost:1", model="m", **choice)._config
        call = answers.call({"x": array, "y": b"a\0"}, "sig", ["b", "a"])
        ours = answers.encode_predict(config, call)
        theirs = predict_pb2.PredictRequest(output_filter=["b", "a"])
        theirs.model_spec.name = "m"
        theirs.model_spec.signature_name = "sig"
        if "version" in choice:
            theirs.model_spec.version.value = choice["version"]
            theirs.model_spec.version.SetInParent()
        if "version_label" in choice:
            theirs.model_spec.version_label = choice["version_label"]
        theirs.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
        theirs.inputs["y"].CopyFrom(tf.make_tensor_proto(b"a\0"))
        parsed = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
        assert parsed == theirs
        assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
            deterministic=True
        )


@given(content=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_answered_with_our_errors_alone(content):
    from google.protobuf.message import DecodeError

    try:
        response = messages.PredictResponse.FromString(content)
    except DecodeError:
        return
    try:
        answers.decode_predict(response)
    except ServingError:
        return


@given(
    dtype=st.integers(-1, 130),
    sizes=st.lists(st.integers(-2, 2**62), max_size=4),
    content=st.binary(max_size=24),
    floats=st.lists(st.floats(width=32), max_size=3),
    ints=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    strings=st.lists(st.binary(max_size=3), max_size=3),
    unknown=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_contradictory_tensors_give_an_array_or_invalid_response(
    dtype, sizes, content, floats, ints, strings, unknown
):
    tensor = messages.TensorProto(
        dtype=dtype, tensor_content=content, float_val=floats, int_val=ints,
        half_val=ints, string_val=strings, scomplex_val=floats, dcomplex_val=floats,
    )  # fmt: skip
    tensor.tensor_shape.unknown_rank = unknown
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    try:
        found = tensors.decode("x", tensor)
    except InvalidResponse as error:
        assert "output x" in str(error)
    else:
        assert found.shape == tuple(sizes)
        assert found.nbytes <= 1 << 27
