"""numpy arrays to TensorProto and back.

Numbers travel as `tensor_content` (the array's bytes, row-major, little-endian), strings
as `string_val`. Both forms are read, since servers choose freely. Source of the rules:
tensorflow/core/framework/tensor.proto and types.proto.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from serving.client import messages
from serving.client.errors import InvalidInput, InvalidResponse


class _Type(NamedTuple):
    name: str  # TensorFlow's, without DT_
    number: int  # in enum DataType
    dtype: np.dtype | None  # of tensor_content; None: strings
    field: str  # where single values stand


def _little(name: str) -> np.dtype:
    return np.dtype(name).newbyteorder("<")


TYPES = (
    _Type("FLOAT", 1, _little("float32"), "float_val"),
    _Type("DOUBLE", 2, _little("float64"), "double_val"),
    _Type("INT32", 3, _little("int32"), "int_val"),
    _Type("UINT8", 4, _little("uint8"), "int_val"),
    _Type("INT16", 5, _little("int16"), "int_val"),
    _Type("INT8", 6, _little("int8"), "int_val"),
    _Type("STRING", 7, None, "string_val"),
    _Type("COMPLEX64", 8, _little("complex64"), "scomplex_val"),
    _Type("INT64", 9, _little("int64"), "int64_val"),
    _Type("BOOL", 10, _little("bool"), "bool_val"),
    _Type("BFLOAT16", 14, _little("uint16"), "half_val"),  # numpy has none: its bits
    _Type("UINT16", 17, _little("uint16"), "int_val"),
    _Type("COMPLEX128", 18, _little("complex128"), "dcomplex_val"),
    _Type("HALF", 19, _little("float16"), "half_val"),
    _Type("UINT32", 22, _little("uint32"), "uint32_val"),
    _Type("UINT64", 23, _little("uint64"), "uint64_val"),
)
_BY_NUMBER = {entry.number: entry for entry in TYPES}
_BY_DTYPE = {
    entry.dtype: entry for entry in TYPES if entry.dtype and entry.name != "BFLOAT16"
}
_BFLOAT16 = _BY_NUMBER[14]
_STRING = _BY_NUMBER[7]

# A few bytes may announce a huge tensor filled with one value; this is where that ends.
_MOST_REPEATED_BYTES = 1 << 26


def type_name(number: int) -> str:
    """TensorFlow's name of a DataType, e.g. "FLOAT"; "type 99" if it is unknown."""
    entry = _BY_NUMBER.get(number)
    return entry.name if entry else f"type {number}"


def numpy_dtype(name: str) -> np.dtype | None:
    """What an array of a TensorFlow type is here: native, object for strings.

    bfloat16 becomes float32, which holds all its values. None for unknown types.
    """
    if name == "BFLOAT16":
        return np.dtype("float32")
    for entry in TYPES:
        if entry.name == name:
            return entry.dtype.newbyteorder("=") if entry.dtype else np.dtype(object)
    return None


def as_array(name: str, value: Any) -> np.ndarray:
    """Any array-like as an array that a tensor can carry.

    Args:
        name: Of the input, for messages.
        value: Array, number, string, bytes, or nested lists of them.

    Returns:
        A numeric array, or an object array of bytes (text in UTF-8).

    Raises:
        InvalidInput: Ragged lists, dtypes that TensorFlow does not have.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SU" and not hasattr(value, "dtype"):
            # Fixed-width strings drop zeros at the end, and numbers among them are text.
            array = np.array(value, dtype=object)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"input {name}: no array can be made ({error})") from None
    if np.ma.is_masked(value):
        raise InvalidInput(f"input {name}: values are masked; give them with filled()")
    if array.dtype.kind in "OSUT":  # T: numpy's StringDType
        return _as_strings(name, array)
    if array.dtype.name != "bfloat16" and _little_dtype(array) not in _BY_DTYPE:
        raise InvalidInput(
            f"input {name}: TensorFlow has no dtype {array.dtype}; convert it with astype"
        )
    return array


def encode(name: str, value: Any) -> Any:
    """An array-like as TensorProto.

    Raises:
        InvalidInput: See `as_array`.
    """
    array = as_array(name, value)
    tensor = messages.TensorProto()
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if array.ndim == 0:
        tensor.tensor_shape.SetInParent()  # rank 0, and not "no shape given"
    if array.dtype == object:
        tensor.dtype = _STRING.number
        tensor.string_val.extend(array.ravel().tolist())
    elif array.dtype.name == "bfloat16":
        tensor.dtype = _BFLOAT16.number
        tensor.tensor_content = array.view(np.uint16).astype("<u2").tobytes()
    else:
        little = _little_dtype(array)
        tensor.dtype = _BY_DTYPE[little].number
        tensor.tensor_content = array.astype(little, copy=False).tobytes()
    return tensor


def decode(name: str, tensor: Any) -> np.ndarray:
    """A TensorProto as array, writable and in the machine's byte order.

    Args:
        name: Of the output, for messages.
        tensor: TensorProto in either form.

    Returns:
        Numbers in their dtype (bfloat16 as float32), strings as object array of bytes.

    Raises:
        InvalidResponse: Shape, type and content do not fit together.
    """
    entry = _BY_NUMBER.get(tensor.dtype)
    if entry is None:
        raise InvalidResponse(
            f"output {name}: its {type_name(tensor.dtype)} cannot be read"
        )
    shape = _shape(name, tensor)
    count = math.prod(shape)
    try:
        if entry.dtype is None:
            return _strings(name, tensor, count).reshape(shape)
        values = _numbers(name, tensor, entry, entry.dtype, count)
        if entry is _BFLOAT16:  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(values.dtype.newbyteorder("="), copy=False).reshape(shape)
    except (ValueError, OverflowError, MemoryError) as error:
        raise InvalidResponse(f"output {name}: {error}") from None


def _little_dtype(array: np.ndarray) -> np.dtype:
    return array.dtype.newbyteorder("<")


def _as_strings(name: str, array: np.ndarray) -> np.ndarray:
    strings = np.empty(array.shape, dtype=object)
    for index, item in enumerate(array.ravel().tolist()):
        if isinstance(item, str):
            try:
                item = item.encode()
            except UnicodeEncodeError:
                raise InvalidInput(f"input {name}: a string is not Unicode") from None
        elif not isinstance(item, bytes):
            raise InvalidInput(
                f"input {name}: {type(item).__name__} inside; lists must be rectangular "
                "and hold numbers, or strings, alone"
            )
        strings.flat[index] = item
    return strings


def _shape(name: str, tensor: Any) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise InvalidResponse(f"output {name}: its shape is not known")
    if len(shape) > 32:
        raise InvalidResponse(f"output {name}: {len(shape)} dimensions are too many")
    return shape


def _numbers(
    name: str, tensor: Any, entry: _Type, dtype: np.dtype, count: int
) -> np.ndarray:
    content = tensor.tensor_content
    if content:
        if len(content) != count * dtype.itemsize:
            raise InvalidResponse(
                f"output {name}: {len(content):,} bytes of content for {count:,} "
                f"values of {entry.name}"
            )
        return np.frombuffer(content, dtype).copy()
    values = getattr(tensor, entry.field)
    if dtype.kind == "c":  # pairs of real and imaginary part
        values = np.array(values, dtype.type(0).real.dtype)
        found = values[: len(values) // 2 * 2].view(dtype.newbyteorder("="))
    elif entry.field == "half_val":  # an int holds the 16 bits
        found = (np.array(values, np.int32) & 0xFFFF).astype("<u2").view(dtype)
    elif entry.field == "int_val":  # narrower types are cut, as TensorFlow cuts them
        found = np.array(values, np.int32).astype(dtype)
    else:
        found = np.array(values, dtype)
    return _filled(name, found, count)


def _strings(name: str, tensor: Any, count: int) -> np.ndarray:
    found = np.empty(len(tensor.string_val), dtype=object)
    found[:] = list(tensor.string_val)
    if not len(found):
        found = np.full(min(count, 1), b"", dtype=object)
    return _filled(name, found, count)


def _filled(name: str, found: np.ndarray, count: int) -> np.ndarray:
    """The last value stands for all that are missing; without any, it is zero."""
    if len(found) == count:
        return found
    if len(found) > count:
        raise InvalidResponse(
            f"output {name}: {len(found):,} values for a shape of {count:,}"
        )
    if count * found.itemsize > _MOST_REPEATED_BYTES:
        raise InvalidResponse(f"output {name}: a shape of {count:,} and no content")
    last = found[-1] if len(found) else np.zeros((), found.dtype)
    whole = np.full(count, last, found.dtype)
    whole[: len(found)] = found
    return whole
