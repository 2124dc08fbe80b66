"""Unpickling of arrays and plain containers, and of nothing else.

The official python files are pickles, and a pickle may run any code. This reader knows
five names, all replaced by functions of its own that build arrays from bytes; whatever
else a pickle names is refused. No NumPy constructor ever sees a value from the file
before it has been checked. NumPy and the standard library only.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

_DTYPES = {
    "u1": np.uint8,
    "i4": np.int32,
    "i8": np.int64,
    "f4": np.float32,
    "f8": np.float64,
}
_MAX_MEMO = 10_000_000  # entries; the official files have 40,000


class Refused(ValueError):
    """A pickle that holds something else, or is damaged."""


def loads(payload: bytes) -> Any:
    """Reads one pickle of any protocol, written by Python 2 or 3.

    Python 2's `str` becomes bytes.

    Raises:
        Refused: It names code, is cut off, or is not a pickle.
    """
    try:
        _check_memo(payload)
        value = _Unpickler(io.BytesIO(payload), encoding="bytes").load()
    except Refused:
        raise
    except Exception as error:  # the unpickler raises nearly any type on damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"cannot be unpickled ({reason:.200})") from None
    return _finished(value)


class _Dtype:
    """Stands in for numpy.dtype; byte order arrives by __setstate__."""

    def __init__(self, code: Any, *_: Any):
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or text.lstrip("|<>=") not in _DTYPES:
            raise Refused(f"array of type {code!r:.40} is not read")
        self.order = text[0] if text[0] in "<>" else "|"
        self.kind = np.dtype(_DTYPES[text.lstrip("|<>=")])

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise Refused(f"array with byte order {order!r:.40} is not read")
        self.order = order


class _Array:
    """Stands in for an array until its bytes have arrived and been checked."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _build(data, dtype, shape, "F" if fortran else "C")


def _build(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise Refused("array of objects is not read")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise Refused(f"array of shape {shape!r:.40} is not read")
    kind = dtype.kind
    if len(data) != math.prod(shape) * kind.itemsize or len(shape) > 4:
        raise Refused(f"array of shape {shape!r:.40} has {len(data):,} bytes")
    if dtype.order in "<>":
        kind = kind.newbyteorder("<" if dtype.order == "<" else ">")
    return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _Array:
        raise Refused("array of an unknown class is not read")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _build(data, dtype, shape, order)
    return array


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes in protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise Refused("text in an unknown encoding is not read")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
} | {
    (f"numpy.{core}.{module}", name): function
    for core in ("core", "_core")
    for module, name, function in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("numeric", "_frombuffer", _from_buffer),
    )
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Resolves the few names that arrays need."""
        if (module, name) not in _NAMES:
            raise Refused(f"names {module}.{name}"[:120])
        return _NAMES[module, name]


def _check_memo(payload: bytes) -> None:
    """Refuses memo numbers for which the unpickler's table would fill the memory."""
    for opcode, argument, _ in pickletools.genops(payload):
        if (
            opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
            and (argument or 0) > _MAX_MEMO
        ):
            raise Refused(f"memo entry {argument} is not read")


def _finished(value: Any) -> Any:
    """Puts arrays in the place of their stand-ins in the outer container."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {
            key: item.value if isinstance(item, _Array) else item
            for key, item in value.items()
        }
    return value
