"""Unpickling of arrays and plain containers, and of nothing else.

The official python files are pickles, and a pickle may run any code. This reader carries
out the few instructions that dictionaries, lists, text, numbers and NumPy's arrays are
written with. It knows five names, which stand for functions of its own that build arrays
from bytes; whatever else a pickle names or does is refused. Time and memory are bounded by
the length of the pickle. NumPy and the standard library only.
"""

from __future__ import annotations

import math
import pickletools
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from components.example_gen.errors import one_line

_DTYPES = {
    "u1": np.uint8,
    "i4": np.int32,
    "i8": np.int64,
    "f4": np.float32,
    "f8": np.float64,
}
# CIFAR-100's 50,000 names and 100,000 labels take some 400,000.
_MAX_INSTRUCTIONS = 2_000_000


class Refused(ValueError):
    """A pickle that holds something else, or is damaged."""


def loads(payload: bytes) -> Any:
    """Reads one pickle of any protocol, written by Python 2 or 3.

    Python 2's `str` becomes bytes.

    Raises:
        Refused: It names code, is cut off, or is not a pickle.
    """
    try:
        return _finished(_run(payload))
    except Refused:
        raise
    except Exception as error:  # damage has many types
        raise Refused(f"cannot be unpickled ({one_line(error):.200})") from None


def brief(value: Any) -> str:
    """A value in at most 40 characters, in a time that does not depend on its depth."""
    return f"{reprlib.repr(value):.40}"


class _Global:
    """What a name stands for; `call` is carried out by the instruction REDUCE."""

    def __init__(self, call: Callable[..., Any]):
        self.call = call


class _Dtype:
    """Stands in for numpy.dtype; byte order arrives by BUILD."""

    def __init__(self, code: Any, *_: Any):
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or text.lstrip("|<>=") not in _DTYPES:
            raise Refused(f"array of type {brief(code)} is not read")
        self.order = text[0] if text[0] in "<>" else "|"
        self.kind = np.dtype(_DTYPES[text.lstrip("|<>=")])

    def build(self, state: Any) -> None:
        order = state[1]
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise Refused(f"array with byte order {brief(order)} is not read")
        self.order = order


class _Array:
    """Stands in for an array until its bytes have arrived and been checked."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise Refused("array of objects is not read")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise Refused(f"array of shape {brief(shape)} is not read")
    kind = dtype.kind
    if len(shape) > 4 or len(data) != math.prod(shape) * kind.itemsize:
        raise Refused(f"array of shape {brief(shape)} has {len(data):,} bytes")
    if dtype.order in "<>":
        kind = kind.newbyteorder("<" if dtype.order == "<" else ">")
    return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")


def _no_array(*_: Any) -> Any:
    raise Refused("array made by its class is not read")


_NDARRAY = _Global(_no_array)  # named as an argument of _reconstruct


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _NDARRAY:
        raise Refused("array of an unknown class is not read")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _array(data, dtype, shape, order)
    return array


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes in protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise Refused("text in an unknown encoding is not read")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Global(_Dtype),
    ("_codecs", "encode"): _Global(_encode),
} | {
    (f"numpy.{core}.{module}", name): _Global(function)
    for core in ("core", "_core")
    for module, name, function in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("numeric", "_frombuffer", _from_buffer),
    )
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's; read as latin1


def _run(payload: bytes) -> Any:
    """Carries out the instructions of a pickle (pickletools.py describes them).

    `pickle.Unpickler` can be told which names to resolve, but not to leave out
    instructions, and its time has no bound: tuples within tuples, each holding the one
    before twice, take for ever as the key of a dictionary.
    """
    stack: list[Any] = []
    marks: list[int] = []  # lengths of the stack
    memo: dict[int, Any] = {}
    called = 0  # characters given to functions

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    argument: Any
    for number, (opcode, argument, _) in enumerate(pickletools.genops(payload)):
        if number >= _MAX_INSTRUCTIONS:
            raise Refused(f"more than {_MAX_INSTRUCTIONS:,} instructions are not read")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _NUMBERS or name in _TEXTS or name in _BYTES:
                stack.append(argument)
            case name if name in _STRINGS:
                stack.append(argument.encode("latin1"))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                marks.append(len(stack) - int(name[-1]))
                stack.append(tuple(since_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(since_mark())
            case "APPEND":
                item = stack.pop()
                _a(list, stack[-1]).append(item)
            case "APPENDS":
                items = since_mark()
                _a(list, stack[-1]).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = since_mark()
                stack.append(_update({}, items))
            case "SETITEM":
                marks.append(len(stack) - 2)
                items = since_mark()
                _update(stack[-1], items)
            case "SETITEMS":
                items = since_mark()
                _update(stack[-1], items)
            case "GLOBAL":
                stack.append(_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_name(_a(str, module), _a(str, name)))
            case "REDUCE":
                arguments, function = _a(tuple, stack.pop()), stack.pop()
                called += sum(len(each) for each in arguments if type(each) is str)
                if called > len(payload):  # the same text again and again
                    raise Refused("text that is used many times is not read")
                stack.append(_a(_Global, function).call(*arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], _Array | _Dtype):
                    raise Refused(
                        "a state for something else than an array is not read"
                    )
                stack[-1].build(state)
            case name:
                raise Refused(f"instruction {name} is not read")
    raise Refused("cannot be unpickled (it has no end)")


def _a(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise Refused(f"{type(value).__name__} in the place of {kind.__name__}")
    return value


def _update(entries: Any, items: list[Any]) -> dict[Any, Any]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, bytes, int):
            raise Refused(f"a key that is a {type(key).__name__} is not read")
        _a(dict, entries)[key] = value
    return entries


def _name(module: str, name: str) -> _Global:
    if (module, name) not in _NAMES:
        raise Refused(f"names {module}.{name}"[:120])
    return _NAMES[module, name]


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
