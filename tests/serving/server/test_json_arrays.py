"""JSON to arrays and back; the truth is Python's json and TensorFlow Serving's rules."""

import base64
import contextlib
import ctypes
import json
import sys
import time

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
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
        (b"", "The document is empty"),
        (b" \n", "The document is empty"),
        (b"nonsense", "char 0"),
        (b'{"a": tru}', "char 6"),
        (b"[1, 2", "char 5"),
        (b'{"a": 1', "char 7"),
        (b'{"a": "[{", "b": [1 2]}', "char 20"),
        (b'{"a" 1}', "char 5"),
        (b"{1: 2}", "char 1"),
        (b'{} {"a": 1}', "char 3"),
        (b'{"a": "b', "char 6"),
        (b'{"a": "\\q"}', "char 7"),
        (b'{"a": "\xff"}', "position 7"),
        (b'{"a": \xff}', "position 6"),
        ('{"instances": [1]}'.encode("utf-16"), "position 0"),
        (b'{"a": "\\ud83d"}', "surrogate"),
        (b'{"a": "\\ude00"}', "surrogate"),
        (b'{"\\\\\\ud83d\\ude00": "\\uD83Dx"}', "surrogate"),
        (b'{"a": NaN, "\\ud83d\\ud83d\\ude00": 1}', "surrogate"),
        (b'{"a": 1e999}', "Number too big"),
        (b'{"a": ' + b"1" * 5000 + b"}", "Number too big"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(body, text):
    message = refused(json_arrays.parse, body)
    assert message.startswith("JSON Parse error: ")  # as tensorflow_model_server's
    assert text in message


@pytest.mark.parametrize("body", [b"[1]", b"NaN"])
def test_what_is_no_object_is_refused(body):
    message = f"JSON Value: {body.decode()} Is not object"
    assert refused(json_arrays.parse, body) == message


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
        ({"instances": [2**31]}, {"x": "uint8"}, "is not of expected type: uint8"),
        ({"instances": [-1]}, {"x": "uint32"}, "is not of expected type: uint32"),
        ({"instances": [2**31]}, {"x": "int32"}, "is not of expected type: int32"),
        ({"instances": [2**63]}, {"x": "int64"}, "is not of expected type: int64"),
        ({"instances": [1]}, {"x": "bool"}, "is not of expected type: bool"),
        ({"instances": [1]}, {"x": "string"}, "is not of expected type: string"),
        ({"instances": [1]}, {"x": "half"}, "to type: half"),
        ({"instances": ["1.5"]}, {}, "Type: String is not of expected type: float"),
        ({"instances": [{"b64": "YQ"}]}, {}, "Type: Object is not of expected type"),
        ({"inputs": [1]}, {"x": "uint16"}, "to type: uint16"),
        ({"inputs": [1]}, {"x": "bfloat16"}, "to type: bfloat16"),
        ({"inputs": [{"b64": "YQ"}]}, {"x": "half"}, "is not of expected type: half"),
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


PARTS = [
    b'"', b'\\"', b'"\\', b"\\", b"\\u", b"\\ud800", b"[", b"]", b'{"a":', b"}", b",",
    b"Inf", b"-NaN", b"NaN,", b"Infinity ", b"1", b"-", b"1e9", b"0.", b" ", b"\n",
    b"\xff", "é".encode(), b'"a":1,', b'{"b64":"', b"=", b"//",
]  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.sampled_from(PARTS), max_size=3), st.sampled_from(PARTS))
def test_the_time_for_a_body_grows_with_its_length(start, part):
    """All requests wait for a regular expression that tries a body's ends by turns."""
    body = b'{"instances":[' + b"".join(start) + part * (200_000 // len(part))
    began = time.process_time()
    with pytest.raises(ServingError):
        json_arrays.decode(json_arrays.parse(body), {"x": "string"})
    assert time.process_time() - began < 5


@pytest.mark.parametrize("part", PARTS)
def test_the_time_for_one_part_without_end_grows_with_its_length(part):
    for beginning in (b'["', b"["):
        body = beginning + part * (200_000 // len(part))
        began = time.process_time()
        with pytest.raises(ServingError):
            json_arrays.parse(body)
        assert time.process_time() - began < 5


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("inner", [b"1", b"NaN", b'"x"'])
def test_any_depth_is_refused_or_read(opening, closing, inner):
    """Past Python's own limit of recursion, within orjson's."""
    for depth in (31, 32, 33, 500, *range(950, 1030), 100_000):
        body = b'{"instances":%s%s%s}' % (opening * depth, inner, closing * depth)
        for kind in ("float", "string", "int32"):
            with contextlib.suppress(ServingError):
                json_arrays.decode(json_arrays.parse(body), {"x": kind})


@given(values)
def test_a_value_is_quoted_as_json(value):
    text = json.dumps(value, ensure_ascii=False)
    quoted = json_arrays.quote(value)
    assert quoted == (text if len(text) <= 500 else text[:500] + "...")


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
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
        ({"y": np.zeros(2, np.complex64)}, "JSON value for tensor type: complex64"),
        ({"y": np.zeros(2, np.float16)}, "JSON value for tensor type: half"),
        ({"y": np.zeros(2, np.uint16)}, "JSON value for tensor type: uint16"),
    ],
)  # fmt: skip
def test_outputs_that_have_no_rows_are_refused(outputs, text):
    assert text in refused(json_arrays.encode, outputs, rows=True)


def test_no_rows_are_an_empty_list():
    """FromJsonSingleZeroBatchTensor of util/json_tensor_test.cc."""
    assert (
        json_arrays.encode({"y": np.zeros((0, 2))}, rows=True) == b'{"predictions":[]}'
    )
    two = {"y": np.zeros((0, 2)), "z": np.zeros(0, object)}
    assert json_arrays.encode(two, rows=True) == b'{"predictions":[]}'


def test_a_signature_without_inputs_takes_no_json():
    with pytest.raises(ServingError, match="get input map for signature: DEFAULT"):
        json_arrays.decode({"inputs": []}, {})
    with pytest.raises(ServingError, match="get input map for signature: s"):
        json_arrays.decode({"instances": [1], "signature_name": "s"}, {})


# AddValueToTensor of tensorflow/serving b6b8cca, util/json_tensor.cc: which numbers of
# rapidjson's a type takes, and C++'s conversion of them.
CONVERSIONS = {
    "float": (None, ctypes.c_float),
    "double": (None, ctypes.c_double),
    "int8": ((-(2**31), 2**31), ctypes.c_int8),
    "int16": ((-(2**31), 2**31), ctypes.c_int16),
    "uint8": ((-(2**31), 2**31), ctypes.c_uint8),
    "int32": ((-(2**31), 2**31), ctypes.c_int32),
    "int64": ((-(2**63), 2**63), ctypes.c_int64),
    "uint32": ((0, 2**32), ctypes.c_uint32),
    "uint64": ((0, 2**64), ctypes.c_uint64),
}


def converted(token: str, dtype: str):
    """One number of JSON as that type, or None if it is refused."""
    taken, kind = CONVERSIONS[dtype]
    words = {"NaN": "nan"}
    whole = token.lstrip("-").isdecimal() and -(2**63) <= int(token) < 2**64
    if taken is None:
        return kind(
            float(int(token)) if whole else float(words.get(token, token))
        ).value
    if not whole or not taken[0] <= int(token) < taken[1]:
        return None
    return kind(int(token)).value


borders = st.sampled_from([7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 65, 127]).flatmap(
    lambda bits: st.integers(-3, 3).map(lambda near: 2**bits + near)
)
tokens = st.one_of(
    st.integers(-300, 300).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.tuples(st.sampled_from([1, -1]), borders).map(lambda t: str(t[0] * t[1])),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["-0", "-0.0", "1.0", "1e2", "1E-400", "3.4028236e38", "1e300", "NaN",
         "Infinity", "-Infinity"]
    ),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(tokens, min_size=1, max_size=4), st.sampled_from(sorted(CONVERSIONS)))
def test_numbers_are_converted_as_tensorflow_serving_converts_them(numbers, dtype):
    body = f'{{"instances": [{", ".join(numbers)}]}}'.encode()
    expected = [converted(token, dtype) for token in numbers]
    if None in expected:
        assert "is not of expected type" in refused(decode, body, x=dtype)
        return
    array = decode(body, x=dtype)[0]["x"]
    assert array.dtype == {"float": "float32", "double": "float64"}.get(dtype, dtype)
    for got, wanted in zip(array.tolist(), expected, strict=True):
        assert repr(got) == repr(wanted)  # also the sign of zero


def test_decimals_are_the_nearest_doubles():
    feeds, _ = decode(
        b'{"instances": [9007199254740993.0, 1.7976931348623157e308]}', x="double"
    )
    assert feeds["x"].tolist() == [9007199254740992.0, sys.float_info.max]
    written = json_arrays.encode({"y": np.array([0.1 + 0.2, 1 / 3])}, rows=True)
    assert written == b'{"predictions":[0.30000000000000004,0.3333333333333333]}'


def test_of_two_members_of_a_name_the_last_counts():
    feeds, _ = decode(b'{"inputs": {"x": [1, 2], "x": [3]}}')
    assert feeds["x"].tolist() == [3.0]


def test_words_in_strings_are_no_numbers():
    body = b'{"instances": ["Inf -NaN", "\\"Inf", "Infinity"], "more": [Infinity]}'
    strings = decode(body, x="string")[0]["x"].tolist()
    assert strings == [b"Inf -NaN", b'"Inf', b"Infinity"]
    assert "JSON Parse error: " in refused(json_arrays.parse, b'{"a": Infinit}')


@pytest.mark.parametrize("token", ["1e309", "-1e309", "1" + "0" * 309])
def test_what_no_double_holds_is_a_syntax_error(token):
    body = f'{{"instances": [{token}]}}'.encode()
    assert "Number too big to be stored in double." in refused(json_arrays.parse, body)


def base64_of(text):
    return decode({"instances": [{"b64": text}]}, x="string")[0]["x"].item()


@given(st.binary(max_size=20), st.randoms(), st.sampled_from(["", "=", "."]))
def test_base64_may_have_white_space_and_lack_its_padding(data, random, pad):
    """Base64UnescapeInternal of abseil-cpp, strings/escaping.cc."""
    text = base64.b64encode(data).decode().replace("=", pad)
    for _ in range(random.randrange(4)):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(" \t\n\v\f\r") + text[at:]
    assert base64_of(text) == data


@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_base64_of_mail_is_read(line):
    text = base64.encodebytes(bytes(range(256))).replace(b"\n", line).decode()
    assert base64_of(text) == bytes(range(256))


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "QUJD=",
        "QUI==",
        "QQ=",
        "=QQ",
        "QQ==QQ==",
        "-_-_",
        "QUJD\0",
        "QU\u2003JD",
        "é",
    ],
)
def test_what_is_no_base64_is_refused(text):
    assert refused(base64_of, text).endswith("Unable to base64 decode")
