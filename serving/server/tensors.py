"""From a request's TensorProtos to arrays and back.

A proto is read as Tensor::FromProto reads it. Only the size of what it expands to is
bounded besides, before memory is taken for it. (A shape of [1e9] with one value is a
legal TensorProto: the last value fills the rest.) Types and shapes are not compared with
the signature, which tensorflow_model_server does not do either: that is for the graph to
say, see serving/server/guards.py.

Source: tensorflow/core/framework/{tensor.proto,types.proto,tensor.cc,tensor_shape.cc}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server import images
from serving.server.errors import ServingError, invalid

# numpy has no more; TensorFlow's 254 are of no use without it.
_HIGHEST_RANK = 32

# The field with a type's values, and values per element.
_FIELDS = {
    types_pb2.DT_FLOAT: ("float_val", 1),
    types_pb2.DT_DOUBLE: ("double_val", 1),
    types_pb2.DT_INT8: ("int_val", 1),
    types_pb2.DT_INT16: ("int_val", 1),
    types_pb2.DT_INT32: ("int_val", 1),
    types_pb2.DT_UINT8: ("int_val", 1),
    types_pb2.DT_UINT16: ("int_val", 1),
    types_pb2.DT_INT64: ("int64_val", 1),
    types_pb2.DT_UINT32: ("uint32_val", 1),
    types_pb2.DT_UINT64: ("uint64_val", 1),
    types_pb2.DT_BOOL: ("bool_val", 1),
    types_pb2.DT_HALF: ("half_val", 1),
    types_pb2.DT_BFLOAT16: ("half_val", 1),
    types_pb2.DT_COMPLEX64: ("scomplex_val", 2),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", 2),
    types_pb2.DT_STRING: ("string_val", 1),
}
_NUMPY = {kind: tf.as_dtype(kind).as_numpy_dtype for kind in _FIELDS}
_KINDS = {np.dtype(dtype): kind for kind, dtype in _NUMPY.items()}


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    tensor_bytes: int = 256 << 20
    # Of a tensor that has fewer values than elements.
    filled_bytes: int = 16 << 20
    image_pixels: int = 1 << 26


def to_arrays(
    protos: Mapping[str, tensor_pb2.TensorProto], limits: Limits
) -> dict[str, np.ndarray]:
    """A request's inputs as arrays.

    Args:
        protos: By alias.
        limits: On sizes.

    Returns:
        Arrays by alias, of the protos' own types and shapes; strings as object arrays of
        bytes.

    Raises:
        ServingError: INVALID_ARGUMENT; a proto that TensorFlow cannot read, or that is
            beyond the limits.
    """
    arrays = {alias: _to_array(alias, proto, limits) for alias, proto in protos.items()}
    check_images(arrays, limits)
    return arrays


def check_images(arrays: Mapping[str, np.ndarray], limits: Limits) -> None:
    """That strings which are images do not decode to more than the limit.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    total = 0
    for alias, array in arrays.items():
        if array.dtype == object:
            for value in array.flat:
                total += images.pixels(value)
            if total >= images.UNMEASURABLE:
                raise invalid(
                    f'input "{alias}": an image of a format whose size cannot be known '
                    "before it is decoded; send PNG or JPEG"
                )
            if total > limits.image_pixels:
                raise invalid(
                    f'input "{alias}": the images of this request have {total} pixels '
                    f"when decoded, more than the {limits.image_pixels} that the server "
                    "takes (--max_image_pixels)"
                )


def to_proto(
    array: np.ndarray, proto: tensor_pb2.TensorProto, *, content: bool = False
) -> None:
    """Fills a TensorProto: typed values, as TF Serving answers, or tensor_content."""
    kind = _KINDS[array.dtype]
    proto.dtype = kind
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.SetInParent()
    if content and kind != types_pb2.DT_STRING:
        proto.tensor_content = array.tobytes()
        return
    flat = array.reshape(-1)
    if kind in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        flat = flat.view(np.uint16)
    elif kind == types_pb2.DT_COMPLEX64:
        flat = flat.view(np.float32)
    elif kind == types_pb2.DT_COMPLEX128:
        flat = flat.view(np.float64)
    getattr(proto, _FIELDS[kind][0]).extend(flat.tolist())


def type_name(kind: int) -> str:
    """TensorFlow's short name of a DataType: "float"; a request may hold any number."""
    try:
        return types_pb2.DataType.Name(kind).removeprefix("DT_").lower()
    except ValueError:
        return f"type {kind}"


def dtype_name(array: np.ndarray) -> str:
    """TensorFlow's name of an array's type, such as DT_FLOAT."""
    return types_pb2.DataType.Name(_KINDS.get(array.dtype, types_pb2.DT_INVALID))


def _to_array(alias: str, proto: tensor_pb2.TensorProto, limits: Limits) -> np.ndarray:
    if proto.dtype not in _FIELDS:
        raise _unreadable(alias, f"its type is {type_name(proto.dtype)}")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if len(shape) > _HIGHEST_RANK:
        raise _unreadable(
            alias, f"it has {len(shape)} dimensions, more than {_HIGHEST_RANK}"
        )
    if any(size < 0 for size in shape):
        raise _unreadable(alias, f"its shape {list(shape)} has a negative size")
    count = math.prod(shape)
    dtype = np.dtype(_NUMPY[proto.dtype])
    if count * dtype.itemsize > limits.tensor_bytes:
        raise invalid(
            f'input "{alias}": {count} elements of {dtype.itemsize} bytes are more than '
            f"the {limits.tensor_bytes} bytes that the server takes "
            "(--max_message_bytes)"
        )
    # An empty one, too, may be beyond what numpy and TensorFlow count with 64 bits.
    if math.prod(size or 1 for size in shape) * dtype.itemsize >= 1 << 63:
        raise _unreadable(alias, f"its shape {list(shape)} is too large")
    if not count:  # whatever else is in it
        return np.empty(shape, dtype)
    if content := proto.tensor_content:  # asked for once: each time it is copied
        if proto.dtype == types_pb2.DT_STRING:
            return _strings(alias, content, count).reshape(shape)
        expected = count * dtype.itemsize
        if len(content) != expected:
            raise _unreadable(
                alias,
                f"tensor_content has {len(content)} bytes, but its shape "
                f"{list(shape)} needs {expected}",
            )
        array = np.frombuffer(content, dtype)
        if proto.dtype == types_pb2.DT_BOOL:
            array = array.view(np.uint8) != 0  # other bytes are no booleans
        return array.reshape(shape)
    field, width = _FIELDS[proto.dtype]
    values = getattr(proto, field)
    given = min(len(values) // width, count)  # what is more is not looked at
    if given < count and count * dtype.itemsize > limits.filled_bytes:
        raise invalid(
            f'input "{alias}": {given} values for a tensor of {count} elements; one that '
            "large must be sent in full"
        )
    if len(values) != given * width:
        values = values[: given * width]
    return _from_values(values, proto.dtype, dtype, count).reshape(shape)


def _from_values(values: Any, kind: int, dtype: np.dtype, count: int) -> np.ndarray:
    """Typed values as an array; the last one fills what is missing, as in TensorFlow."""
    if kind == types_pb2.DT_STRING:
        array = np.empty(len(values), object)
        array[:] = list(values)
        blank: Any = b""
    else:
        if kind in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
            array = np.array(values, np.int64).astype(np.uint16).view(dtype)
        elif kind == types_pb2.DT_COMPLEX64:
            array = np.array(values, np.float32).view(dtype)
        elif kind == types_pb2.DT_COMPLEX128:
            array = np.array(values, np.float64).view(dtype)
        elif dtype.kind in "iu":
            # int_val is wider than some types it carries: they wrap, as in C++.
            wide = np.uint64 if dtype.kind == "u" and dtype.itemsize == 8 else np.int64
            array = np.array(values, wide).astype(dtype)
        else:
            array = np.array(values, dtype)
        blank = dtype.type(0)
    if len(array) == count:
        return array
    filled = np.full(count, array[-1] if len(array) else blank, dtype)
    filled[: len(array)] = array
    return filled


def _strings(alias: str, content: bytes, count: int) -> np.ndarray:
    """Strings in tensor_content: all lengths as varints, then all bytes."""
    if count > len(content):  # each takes a byte at least
        raise _unreadable(alias, f"tensor_content is too short for {count} strings")
    lengths, at = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 63:
                raise _unreadable(alias, "tensor_content holds no list of strings")
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise _unreadable(
            alias,
            f"tensor_content has {len(content)} bytes, but its strings need "
            f"{at + sum(lengths)}",
        )
    array = np.empty(count, object)
    for index, length in enumerate(lengths):
        array[index] = content[at : at + length]
        at += length
    return array


def _unreadable(alias: str, reason: str) -> ServingError:
    return invalid(f"tensor parsing error: {alias}: {reason}")
