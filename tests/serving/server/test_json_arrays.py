"""JSON to arrays and back; the truth is Python's json and TensorFlow Serving's rules."""

import base64
import json

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.server import json_arrays
from serving.server.errors import ServingError


def decode(body, **inputs):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return json_arrays.decode(json_arrays.parse(body), inputs or {"x": "float"})


def refused(function, *arguments, **named):
    with pytest.raises(ServingError) as caught:
        function(*arguments, **named)
    assert caught.value.code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    )
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"nonsense", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": tru}', "JSON Parse error: Invalid value. at offset: 6"),
        (b"[1, 2", "Missing a comma or ] after an array element. at offset: 5"),
        (b'{"a": 1', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a": "[{", "b": [1 2]}', "Missing a comma or ] after an array element."),
        (b'{"a" 1}', "Missing a colon after a name of object member."),
        (b"{1: 2}", "Missing a name for object member."),
        (b'{} {"a": 1}', "The document root must not be followed by other values."),
        (b'{"a": "b', "Missing a closing quotation mark in string."),
        (b'{"a": "\\q"}', "Invalid escape character in string."),
        (b'{"a": "\xff"}', "Invalid encoding in string. at offset: 7"),
        (b'{"a": \xff}', "Invalid value. at offset: 6"),
        ('{"instances": [1]}'.encode("utf-16"), "Invalid value. at offset: 0"),
        (b'{"a": "\\ud83d"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ude00"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"\\\\\\ud83d\\ude00": "\\uD83Dx"}', "is invalid. at offset: 20"),
        (b'{"a": NaN, "\\ud83d\\ud83d\\ude00": 1}', "is invalid. at offset: 12"),
        (b'{"a": 1e999}', "Number too big"),
        (b'{"a": ' + b"1" * 5000 + b"}", "Number too big"),
        (b"[" * 100_000, "JSON Parse error: "),
        (b"[1]", "JSON Value: [1] Is not object"),
        (b"NaN", "JSON Value: NaN Is not object"),
    ],
)
def test_bad_json_is_answered_with_tensorflow_servings_text(body, text):
    assert text in refused(json_arrays.parse, body)


def test_byte_order_mark_and_special_numbers_are_read():
    feeds, rows = decode(b'\xef\xbb\xbf{"instances": [NaN, Infinity, -Infinity, 1]}')
    assert rows
    np.testing.assert_array_equal(
        feeds["x"], np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    )


def test_escapes_are_read_beside_special_numbers():
    body = b'{"a": NaN, "b": "\\\\ud83d \\ud83d\\ude00 \\\\\\u00fc"}'
    assert json_arrays.parse(body)["b"] == "\\ud83d \U0001f600 \\\u00fc"


@pytest.mark.parametrize(
    ("body", "dtype", "expected"),
    [
        ({"instances": [1, 2]}, "float", np.array([1, 2], np.float32)),
        ({"instances": [1.5, 2]}, "double", np.array([1.5, 2])),
        ({"instances": [[1, 2], [3, 4]]}, "int32", np.array([[1, 2], [3, 4]], "i4")),
        ({"instances": [0, 255]}, "uint8", np.array([0, 255], np.uint8)),
        ({"instances": [2**64 - 1]}, "uint64", np.array([2**64 - 1], np.uint64)),
        ({"instances": [-(2**63)]}, "int64", np.array([-(2**63)])),
        ({"instances": [True, False]}, "bool", np.array([True, False])),
        ({"instances": [{"x": 1}, {"x": 2}]}, "float", np.array([1, 2], np.float32)),
        ({"inputs": [[1], [2]]}, "float", np.array([[1], [2]], np.float32)),
        ({"inputs": 3}, "float", np.array(3, np.float32)),
        ({"inputs": {"x": [1]}}, "float", np.array([1], np.float32)),
        ({"inputs": []}, "float", np.zeros((0,), np.float32)),
        ({"instances": [[], []]}, "float", np.zeros((2, 0), np.float32)),
        ({"inputs": 2**24 - 1}, "float", np.array(2**24 - 1, np.float32)),
        ({"inputs": [1e30, 1]}, "float", np.array([1e30, 1], np.float32)),
    ],
)
def test_numbers(body, dtype, expected):
    array = decode(body, x=dtype)[0]["x"]
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ["a", {"b64": base64.b64encode(b"\xff\0").decode()}, "ü"]},
        {"instances": [{"x": "a"}, {"x": {"b64": "/wA"}}, {"x": "ü"}]},
        {"inputs": ["a", {"b64": "/wA="}, "ü"]},
    ],
)
def test_strings_are_text_or_base64(body):
    assert decode(body, x="string")[0]["x"].tolist() == [b"a", b"\xff\0", "ü".encode()]


def test_a_single_base64_object_is_a_value():
    array = decode({"inputs": {"b64": "YWI="}}, x="string")[0]["x"]
    assert (array.shape, array.item()) == ((), b"ab")


def test_several_inputs():
    body = {"instances": [{"x": [1, 2], "s": "a"}, {"x": [3, 4], "s": "b"}]}
    feeds, _ = decode(body, x="int64", s="string")
    assert feeds["x"].tolist() == [[1, 2], [3, 4]]
    assert feeds["s"].tolist() == [b"a", b"b"]
    feeds, rows = decode(
        {"inputs": {"x": 1, "s": ["a", "b"], "more": 1}}, x="float", s="string"
    )
    assert not rows
    assert feeds["s"].shape == (2,)
    assert set(feeds) == {"x", "s"}


@pytest.mark.parametrize(
    ("body", "inputs", "text"),
    [
        ({}, {}, "Missing 'inputs' or 'instances' key"),
        ({"instances": 1}, {}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, {}, "No values in 'instances' array"),
        ({"instances": [1], "inputs": [1]}, {}, "expecting only one of"),
        ({"instances": [[1, 2], [1]]}, {}, "Expecting tensor size: 2 but got: 1"),
        ({"instances": [[[1, 2]], [[1], [2]]]}, {}, "Expecting shape [1,2] but got: [2,1]"),
        ({"inputs": [[1, 2], [1]]}, {},
         "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ({"inputs": [1, [1]]}, {}, "Encountered list at unexpected level: 1"),
        ({"inputs": [[1], 1]}, {}, "found at incorrect level: 2"),
        ({"instances": ["a"]}, {},
         'JSON Value: "a" Type: String is not of expected type: float'),
        ({"instances": [None]}, {}, "Type: Null is not of expected type: float"),
        ({"instances": [True, 1]}, {}, "Type: True is not of expected type: float"),
        ({"instances": [1, False]}, {"x": "int32"}, "Type: False is not of expected"),
        ({"instances": [1.0]}, {"x": "int32"}, "is not of expected type: int32"),
        ({"instances": [256]}, {"x": "uint8"}, "is not of expected type: uint8"),
        ({"instances": [-1]}, {"x": "uint8"}, "is not of expected type: uint8"),
        ({"instances": [2**31]}, {"x": "int32"}, "is not of expected type: int32"),
        ({"instances": [2**63]}, {"x": "int64"}, "is not of expected type: int64"),
        ({"instances": [1]}, {"x": "bool"}, "is not of expected type: bool"),
        ({"instances": [1]}, {"x": "string"}, "is not of expected type: string"),
        ({"instances": [1]}, {"x": "half"}, "to type: half"),
        ({"instances": [2**24]}, {}, "to float without loss of precision"),
        ({"inputs": [1.5, 2**24 + 1]}, {}, "to float without loss of precision"),
        ({"instances": [1e300]}, {}, "to float without loss of precision"),
        ({"instances": [2**53]}, {"x": "double"}, "to double without loss"),
        ({"instances": [{"b64": "?"}]}, {"x": "string"}, "Unable to base64 decode"),
        ({"inputs": [{"b64": 1}]}, {"x": "string"}, "not formatted correctly for base64"),
        ({"instances": [{"x": 1}, 2]}, {}, "Expecting object but got list at item 1"),
        ({"instances": [1, {"x": 2}]}, {}, "Expecting value/list but got object at item 1"),
        ({"instances": [{"z": 1}]}, {}, "does not have named input: z"),
        ({"instances": [{"x": 1}]}, {"x": "float", "z": "float"}, "must be equal to: x,z"),
        ({"instances": [1]}, {"x": "float", "z": "float"}, "instances is a plain list"),
        ({"inputs": [1]}, {"x": "float", "z": "float"}, "inputs is a plain value/list"),
        ({"inputs": {"x": 1}}, {"x": "float", "z": "float"}, "Missing named input: z"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_signature_is_refused(body, inputs, text):
    assert text in refused(decode, body, **inputs)


def test_element_that_fails_is_named():
    message = refused(decode, {"instances": [{"x": 1}, {"x": "a"}]})
    assert message.startswith(
        "Failed to process element: 1 key: x of 'instances' list."
    )


def test_deep_nesting_is_refused_not_fatal():
    body = b'{"inputs": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}"
    assert "nests more than" in refused(decode, body)


def test_long_values_are_quoted_in_part():
    assert len(refused(decode, {"instances": ["a" * 10**6]})) < 1200


@pytest.mark.parametrize("value", [1, None, ["a"]])
def test_signature_name_must_be_text(value):
    document = {"signature_name": value}
    assert "'signature_name' key must be" in refused(
        json_arrays.signature_name, document
    )


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.just({"b64": "YQ=="}), st.just({"b64": "!"}),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "b64", "z"]), inner, max_size=2),
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(["instances", "inputs", "examples"]),
    values,
    st.sampled_from(["float", "uint8", "int64", "bool", "string"]),
)
def test_any_json_is_an_array_of_the_type_or_refused(key, value, dtype):
    body = json.dumps({key: value}).encode()
    try:
        feeds, _ = json_arrays.decode(json_arrays.parse(body), {"x": dtype})
    except ServingError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        return
    names = {"float": "float32", "string": "object"}
    assert feeds["x"].dtype == names.get(dtype, dtype)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_refused(body):
    try:
        assert isinstance(json_arrays.parse(body), dict)
    except ServingError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT


@given(
    st.sampled_from(["float", "double", "int8", "uint8", "int64", "uint64"]).flatmap(
        lambda dtype: st.tuples(
            st.just(dtype),
            arrays.arrays(
                {"float": np.float32, "double": np.float64}.get(dtype, dtype),
                arrays.array_shapes(max_dims=3, max_side=4),
            ),
        )
    ),
    st.booleans(),
)
def test_arrays_survive_the_way_out_and_in(typed, rows):
    dtype, array = typed
    body = json_arrays.encode({"x": array}, rows=rows)
    answer = json.loads(body)["predictions" if rows else "outputs"]
    np.testing.assert_array_equal(np.array(answer, array.dtype), array)
    request = {"instances" if rows else "inputs": answer}
    decoded = json_arrays.decode(request, {"x": dtype})[0]["x"]
    np.testing.assert_array_equal(decoded, array)
    assert decoded.dtype == array.dtype


def test_rows_of_several_outputs_are_objects():
    outputs = {
        "p": np.array([[0.1, 1], [3e-30, 2]], np.float32),
        "label": np.array([3, 4]),
        "name": np.array([b"cat", "ü".encode()], object),
        "raw_bytes": np.array([b"\xff", b""], object),
    }
    assert json_arrays.encode(outputs, rows=True).decode() == (
        '{"predictions":[{"label":3,"name":"cat","p":[0.1,1.0],"raw_bytes":{"b64":"/w=="'
        '}},{"label":4,"name":"ü","p":[3e-30,2.0],"raw_bytes":{"b64":""}}]}'
    )


def test_columns():
    one = json_arrays.encode({"y": np.array([[1], [2]])}, rows=False)
    assert one == b'{"outputs":[[1],[2]]}'
    two = json_arrays.encode(
        {"y": np.array(0.2, np.float32), "z": np.array([True])}, rows=False
    )
    assert two == b'{"outputs":{"y":0.2,"z":[true]}}'


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_numbers_are_written_as_tensorflow_serving_writes_them(dtype):
    array = np.array([0.1, np.nan, np.inf, -np.inf, 2], dtype)
    body = json_arrays.encode({"y": array}, rows=True)
    assert body.endswith(b",NaN,Infinity,-Infinity,2.0]}")
    np.testing.assert_array_equal(
        np.array(json.loads(body)["predictions"], dtype), array
    )


def test_strided_outputs_are_written():
    array = np.arange(12).reshape(3, 4)[:, ::2]
    assert json.loads(json_arrays.encode({"y": array}, rows=True)) == {
        "predictions": array.tolist()
    }


def test_text_that_is_none_stays_readable():
    body = json_arrays.encode({"y": np.array([b"\xffa"], object)}, rows=True)
    assert json.loads(body) == {"predictions": ["\ufffda"]}


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float32(1)}, "Tensor name: y has no shape information"),
        ({"y": np.zeros(2), "z": np.zeros(3)},
         "Tensor name: z has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(2, complex)}, "Failed to write JSON value for tensor type"),
    ],
)  # fmt: skip
def test_outputs_that_have_no_rows_are_refused(outputs, text):
    assert text in refused(json_arrays.encode, outputs, rows=True)
