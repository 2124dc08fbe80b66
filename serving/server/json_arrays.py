"""TensorFlow Serving's JSON for predictions: requests to arrays, arrays to answers.

A request is either a list of `instances` (rows) or a table of `inputs` (columns); the
signature says what types its numbers have. A number with a point is no integer, whatever
its value; any number may stand for a float, and is rounded to it. Errors carry TensorFlow
Serving's texts, because clients look at them; but a quoted value ends after `_QUOTE`
characters, and of what is no JSON at all only the beginning, "JSON Parse error", is the same.

Most bodies are one array of numbers. For these NumPy's own conversion is used when it
provably gives what the element-wise rules below would; else these decide.

Source: tensorflow/serving, g3doc/api_rest.md and util/json_tensor.cc; abseil-cpp,
strings/escaping.cc (base64).
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import orjson

from serving.server import protos
from serving.server.errors import ServingError, invalid

_QUOTE = 500
_DEEPEST = 32  # levels of lists; NumPy's own limit

STRING = "string"

# TensorFlow's names of the types that can stand in JSON, with the integers that are taken
# for them. Those in a TensorProto's int_val wrap around to their type, as in C++. The
# other types are refused as TensorFlow Serving does.
_INTEGERS = {
    name: (np.iinfo(taken).min, np.iinfo(taken).max)
    for name, taken in (
        ("int8", "int32"),
        ("int16", "int32"),
        ("uint8", "int32"),
        ("int32", "int32"),
        ("int64", "int64"),
        ("uint32", "uint32"),
        ("uint64", "uint64"),
    )
}
_FLOATS = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
_WRITTEN = (*map(np.dtype, _INTEGERS), *_FLOATS.values(), np.dtype(bool))  # in answers

# An escape in JSON's text; the group is half of a surrogate pair without the other.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL
)

_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_WHITESPACE = dict.fromkeys(map(ord, " \t\n\v\f\r"))


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The object in a request's body; NaN, Infinity and -Infinity are numbers.

    Raises:
        ServingError: INVALID_ARGUMENT; no JSON, or another kind of value.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        document = orjson.loads(body)  # strict, and ten times as fast
    except orjson.JSONDecodeError:
        document = _parse_tolerantly(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {quote(document)} Is not object")
    return document


def _parse_tolerantly(body: bytes | bytearray) -> object:
    """Python's own parser knows numbers that are not finite, or past 64 bits."""
    if not body.strip():
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(
            body.decode(), parse_float=_parse_float, parse_int=_parse_integer
        )
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None
    except ValueError as error:  # also no UTF-8, or a number that no double holds
        raise invalid(f"JSON Parse error: {error}") from None
    if any(found[1] for found in _ESCAPE.finditer(body)):
        raise invalid("JSON Parse error: half of a surrogate pair in a string")
    return document


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("Number too big to be stored in double.")
    return value


def _parse_integer(text: str) -> int | float:
    """Past 64 bits, integers are floats."""
    if len(text) > 20:
        return _parse_float(text)
    value = int(text)
    return value if -(2**63) <= value < 2**64 else float(value)


def signature_name(document: Mapping[str, Any]) -> str:
    """The request's signature, "" if it names none.

    Raises:
        ServingError: INVALID_ARGUMENT; it is no text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {quote(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def decode(
    document: Mapping[str, Any], inputs: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], bool]:
    """The arrays of a predict request.

    Args:
        document: The body's object.
        inputs: The signature's inputs: name -> TensorFlow's name of the type.

    Returns:
        An array per input, strings as object arrays of bytes; and whether the request is
        in row form, which the answer then is as well.

    Raises:
        ServingError: INVALID_ARGUMENT for whatever does not fit the signature,
            UNIMPLEMENTED for a type that cannot be written in JSON.
    """
    if not inputs:
        raise invalid(
            "Failed to get input map for signature: "
            f"{signature_name(document) or 'DEFAULT'}"
        )
    if "instances" in document:
        instances = document["instances"]
        if "inputs" in document:
            raise invalid(
                f"JSON Value: {quote(document)} Not formatted correctly expecting only "
                "one of 'inputs' or 'instances' keys to exist "
            )
        if not isinstance(instances, list):
            raise invalid(
                f"JSON Value: {quote(document)} Excepting 'instances' to be an "
                "list/array"
            )
        if not instances:
            raise invalid(
                f"JSON Value: {quote(document)} No values in 'instances' array"
            )
        return _decode_rows(instances, inputs), True
    if "inputs" in document:
        return _decode_columns(document["inputs"], inputs), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _decode_rows(
    instances: list[Any], inputs: Mapping[str, str]
) -> dict[str, np.ndarray]:
    named = _is_object(instances[0])
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    columns: dict[str, list[Any]] = {name: [] for name in inputs}
    for i, instance in enumerate(instances):
        if _is_object(instance) != named:
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(
                f"Expecting {expected} but got {got} at item {i} of input list"
            )
        if not named:
            continue
        for name, value in instance.items():
            if name not in columns:
                raise invalid(
                    f"Failed to process element: {i} key: {name} of 'instances' list. "
                    "Error: INVALID_ARGUMENT: JSON object: does not have named input: "
                    f"{name}"
                )
            columns[name].append(value)
        if len(instance) != len(columns):
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: "
                f"{quote(instance)} keys must be equal to: {','.join(sorted(columns))}"
            )
    if not named:
        columns = {next(iter(inputs)): instances}
    return {
        name: _rows_to_array(column, inputs[name], name if named else None)
        for name, column in columns.items()
    }


def _rows_to_array(column: list[Any], dtype: str, key: str | None) -> np.ndarray:
    fast = _convert_at_once(column, dtype)
    if fast is not None:
        return fast
    rows: list[np.ndarray] = []
    for i, value in enumerate(column):
        try:
            row = _convert_each(value, dtype)
            if rows and row.size != rows[0].size:
                raise invalid(
                    f"Expecting tensor size: {rows[0].size} but got: {row.size}"
                )
            if rows and row.shape != rows[0].shape:
                expected, got = (
                    ",".join(map(str, shape)) for shape in (rows[0].shape, row.shape)
                )
                raise invalid(f"Expecting shape [{expected}] but got: [{got}]")
        except ServingError as error:
            where = f"{i} key: {key}" if key is not None else str(i)
            raise invalid(
                f"Failed to process element: {where} of 'instances' list. Error: "
                f"{error.code.name}: {error.message}"
            ) from None
        rows.append(row)
    return np.stack(rows)


def _decode_columns(value: Any, inputs: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not _is_object(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        value = {name: value for name in inputs}
    arrays = {}
    for name, dtype in inputs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        fast = _convert_at_once(value[name], dtype)
        arrays[name] = _convert_each(value[name], dtype) if fast is None else fast
    return arrays


def _convert_at_once(value: Any, dtype: str) -> np.ndarray | None:
    """NumPy's conversion of nested lists of numbers, or None where it may differ."""
    if not isinstance(value, list) or (dtype not in _INTEGERS and dtype not in _FLOATS):
        return None
    if not _only_numbers(value):
        return None
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError):  # ragged, too large, too deep
        return None
    if array.size == 0:
        return None
    if dtype in _FLOATS:
        return _rounded(array, dtype) if array.dtype.kind in "iuf" else None
    if array.dtype.kind in "iu":  # every element was an integer
        lowest, highest = _INTEGERS[dtype]
        if lowest <= int(array.min()) and int(array.max()) <= highest:
            return array.astype(dtype)
    return None


def _rounded(numbers: Any, dtype: str) -> np.ndarray:
    """To double first, as rapidjson's GetFloat does; what a float cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float64).astype(_FLOATS[dtype])


def _only_numbers(value: list[Any]) -> bool:
    """Whether no leaf is True or False, which NumPy takes for 1 and 0."""
    level = value
    for _ in range(_DEEPEST):
        kinds = set(map(type, level))
        if kinds != {list}:
            return kinds <= {int, float}
        level = [item for part in level for item in part]
    return False


def _convert_each(value: Any, dtype: str) -> np.ndarray:
    """Nested lists to an array, by TensorFlow Serving's rules for every element."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if len(shape) > _DEEPEST:
            raise invalid(
                f"JSON Value: {quote(value)} nests more than {_DEEPEST} lists"
            )
        if not first:
            break
        first = first[0]
    leaves: list[Any] = []
    _collect(value, 0, shape, dtype, leaves)
    if dtype == STRING:
        array = np.empty(len(leaves), object)
        array[:] = leaves
    elif dtype in _FLOATS:
        array = _rounded(leaves, dtype)
    elif dtype in _INTEGERS:
        wide = np.uint64 if dtype == "uint64" else np.int64
        array = np.array(leaves, wide).astype(dtype)
    else:
        array = np.array(leaves, dtype)
    return array.reshape(shape)


def _collect(
    value: Any, level: int, shape: list[int], dtype: str, leaves: list[Any]
) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in "
                f"the JSON DOM. Expected at level: {len(shape)}"
            )
        leaves.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    for item in value:
        _collect(item, level + 1, shape, dtype, leaves)


def _leaf(value: Any, dtype: str) -> Any:
    """One value of a type, or the error why it is none."""
    if dtype == STRING:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict):
            return _decode_base64(value)
    elif isinstance(value, dict):
        pass  # of the wrong type, also for those that are not implemented
    elif dtype == "bool":
        if isinstance(value, bool):
            return value
    elif dtype in _FLOATS:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif dtype in _INTEGERS:
        lowest, highest = _INTEGERS[dtype]
        if type(value) is int and lowest <= value <= highest:
            return value
    else:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {quote(value)} to type: {dtype}",
        )
    raise invalid(
        f"JSON Value: {quote(value)} Type: {_type_name(value)} is not of expected type: "
        f"{dtype}"
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get("b64"), str)


def _decode_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid(
            f"JSON Value: {quote(value)} not formatted correctly for base64 data"
        )
    # With or without padding, which may be of dots; white space may be anywhere.
    found = _BASE64.fullmatch(value["b64"].translate(_WHITESPACE))
    if found is None or len(found[1]) % 4 == 1:
        raise invalid("Unable to base64 decode")
    missing = -len(found[1]) % 4
    if len(found[2]) not in (0, missing):
        raise invalid("Unable to base64 decode")
    return base64.b64decode(found[1] + "=" * missing)


def _type_name(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names = {dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def quote(value: Any) -> str:
    """A value as JSON for an error text, cut where it gets long."""
    text = ""
    # In parts: what is cut off may be long, or deeper than Python's recursion.
    for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        text += part
        if len(text) > _QUOTE:
            return text[:_QUOTE] + "..."
    return text


# tensorflow.serving.Input and what is in it, as TensorFlow's modules have it; these here
# cost a process three seconds less. A map's entries are messages.
_MESSAGES = protos.declare(
    {
        "Input": [
            ("example_list", 1, "Examples"), ("example_list_with_context", 2, "Examples"),
        ],
        "Examples": [("examples", 1, "repeated Example"), ("context", 2, "Example")],
        "Example": [("features", 1, "Features")],
        "Features": [("feature", 1, "repeated Entry")],
        "Entry": [("key", 1, "string"), ("value", 2, "Feature")],
        "Feature": [
            ("bytes_list", 1, "Bytes"), ("float_list", 2, "Floats"),
            ("int64_list", 3, "Integers"),
        ],
        "Bytes": [("value", 1, "repeated bytes")],
        "Floats": [("value", 1, "repeated float")],
        "Integers": [("value", 1, "repeated int64")],
    }
)  # fmt: skip


def examples(document: Mapping[str, Any]) -> bytes:
    """The examples of a classify or regress request.

    Args:
        document: The body's object.

    Returns:
        A serialised tensorflow.serving.Input.

    Raises:
        ServingError: INVALID_ARGUMENT; no examples, or values that fit no feature.
    """
    message = _MESSAGES["Input"]()
    target = message.example_list
    if "context" in document:
        target = message.example_list_with_context
        _fill_example(document["context"], target.context)
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {quote(document)} When method is classify, key 'examples' is "
            "expected and was not found"
        )
    given = document["examples"]
    if not isinstance(given, list):
        raise invalid(
            f"JSON Value: {quote(document)} Expecting 'examples' value to be an "
            "list/array"
        )
    if not given:
        raise invalid(
            f"JSON Value: {quote(document)} 'examples' value is an empty array"
        )
    for example in given:
        _fill_example(example, target.examples.add())
    return message.SerializeToString()


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_type_name(value)}")
    example.SetInParent()
    for name, content in value.items():
        entry = example.features.feature.add(key=name)
        entry.value.SetInParent()
        present = None
        for item in content if isinstance(content, list) else [content]:
            kind, converted = _feature_value(name, item)
            if present not in (None, kind):
                raise invalid(
                    f"Unexpected element type in feature: {name} expecting type: "
                    f"{present.removesuffix('_list')}"
                )
            present = kind
            getattr(entry.value, kind).value.append(converted)


def _feature_value(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, int):
        if value > np.iinfo(np.int64).max:
            raise invalid(
                f"Feature: {name} has uint64_t element. Only int64_t is supported."
            )
        return "int64_list", value
    if isinstance(value, float):
        return "float_list", float(_rounded(value, "float"))
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if isinstance(value, dict) and _is_base64(value):
        return "bytes_list", _decode_base64(value)
    raise invalid(
        f"Feature: {name} has element with unexpected JSON type: {_type_name(value)}"
    )


def encode(outputs: Mapping[str, np.ndarray], *, rows: bool) -> bytes:
    """The body of a predict answer.

    Args:
        outputs: By name; strings are object arrays of bytes. One whose name ends in
            "_bytes" is written as base64, any other as text.
        rows: Whether as "predictions", a list of rows, or as "outputs", columns.

    Raises:
        ServingError: INVALID_ARGUMENT; rows were asked for, but there is no common
            first dimension.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    columns = {name: _column(name, outputs[name]) for name in sorted(outputs)}
    single = next(iter(columns.values())) if len(columns) == 1 else None
    if not rows:
        return dump({"outputs": columns if single is None else single})
    size = -1
    for name in columns:
        array = outputs[name]
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size not in (-1, len(array)):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} "
                f"expecting: {size}"
            )
        size = len(array)
    if single is not None:
        return dump({"predictions": single})
    return dump(
        {
            "predictions": [
                {name: column[i] for name, column in columns.items()}
                for i in range(size)
            ]
        }
    )


def dump(value: Any) -> bytes:
    """JSON, with numbers as short as they can be; floats keep a point or exponent."""
    return orjson.dumps(
        value, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """What orjson does not know: NumPy arrays that are strided or of rare types."""
    return value.tolist()


def _column(name: str, array: np.ndarray) -> Any:
    """An array as something that `dump` writes as TensorFlow Serving would."""
    if array.dtype.kind in "OSU":
        return _map(array.tolist(), _as_base64 if name.endswith("_bytes") else _as_text)
    if array.size and array.dtype not in _WRITTEN:
        kind = {"float16": "half"}.get(array.dtype.name, array.dtype.name)
        raise invalid(f"Failed to write JSON value for tensor type: {kind}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # No JSON, but what TensorFlow Serving and Python's json write and read.
        decimals = np.empty(array.size, object)
        decimals[:] = [decimal(value) for value in array.ravel()]
        return decimals.reshape(array.shape).tolist()
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _map(value: Any, function: Any) -> Any:
    if isinstance(value, list):
        return [_map(item, function) for item in value]
    return function(value)


def _as_text(value: bytes | str) -> str:
    # Bytes that are no text would make the whole answer unreadable.
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _as_base64(value: bytes | str) -> dict[str, str]:
    data = value.encode() if isinstance(value, str) else value
    return {"b64": base64.b64encode(data).decode()}


def decimal(value: np.floating) -> Any:
    """A number as `dump` writes it like TensorFlow Serving, also NaN and Infinity."""
    if np.isnan(value):
        return orjson.Fragment(b"NaN")
    if np.isinf(value):
        return orjson.Fragment(b"Infinity" if value > 0 else b"-Infinity")
    return float(str(value))  # the digits that a float32 has, not its double's
