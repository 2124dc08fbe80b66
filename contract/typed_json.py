"""Frozen dataclasses as JSON, and back: strict about what a field may hold.

In: a file that another process wrote, perhaps an earlier or a later version of the project,
perhaps cut or edited since. Out: a value that holds what its annotations promise, or one
sentence. Keys that a class does not have are skipped (a later version's), and a field with
a default may be missing (an earlier version's).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import io
import json
import math
import types
import typing
from dataclasses import dataclass
from typing import IO, Annotated, Any, Self

from contract import stored


class RecordError(ValueError):
    """A file that cannot be used; the message names file, field, value and rule."""


@dataclass(frozen=True)
class Within:
    """The closed range of a number, as metadata of `Annotated`."""

    low: float = -math.inf
    high: float = math.inf


Share = Annotated[float, Within(0, 1)]
Count = Annotated[int, Within(0, 2**63 - 1)]  # as NumPy and TensorFlow count
Size = Annotated[float, Within(0)]  # milliseconds, seconds and the like
Interval = tuple[float, float]  # its lower and its upper end
# Of a training also NaN and infinity are told, as Python's JSON writes them.
AnyFloat = Annotated[float, None]


class Record:
    """Base of the frozen dataclasses that travel as JSON.

    A field is a text, a number, a truth value, an optional one, a tuple, a Mapping
    with texts as keys, another Record, or Any (plain JSON).
    """

    def plain(self) -> dict[str, Any]:
        """The JSON form as plain dictionaries and lists."""
        return {
            item.name: _plain(getattr(self, item.name))
            for item in dataclasses.fields(typing.cast(Any, self))
        }

    def to_json(self, **options: Any) -> str:
        """The JSON form as text; `options` as of json.dumps."""
        return json.dumps(self.plain(), **options)

    @classmethod
    def from_plain(cls, values: Any, where: str) -> Self:
        """Reads what `plain` made, of this version or an earlier one.

        Args:
            values: Of json.loads.
            where: What a message calls it: a file's path, and the place in it.

        Raises:
            RecordError: It is of another form.
        """
        if not isinstance(values, dict):
            raise refused(where, values, "must be an object")
        values = cls.adapted(values, where)
        arguments = {}
        for item in dataclasses.fields(typing.cast(Any, cls)):
            place = inside(where, item.name)
            if item.name in values:
                kind = _hints(cls)[item.name]
                arguments[item.name] = _read(kind, values[item.name], place)
            elif (
                item.default is dataclasses.MISSING
                and item.default_factory is dataclasses.MISSING
            ):
                raise RecordError(f"{place} is missing{REMEDY}")
        try:
            return cls(**arguments)
        except RecordError:
            raise
        except ValueError as problem:  # of the class's own rules
            raise RecordError(f"{where}: {problem}{REMEDY}") from None

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Reads what `to_json` made; arguments and errors as of `from_plain`."""
        return cls.read(io.BytesIO(text.encode(errors="surrogatepass")), where)

    @classmethod
    def read(cls, file: IO[bytes], where: str) -> Self:
        """Reads a file that holds what `to_json` made.

        Args:
            file: Opened; of more than 64 MiB it is refused.
            where: Its path, for messages.

        Raises:
            RecordError: It is no such file.
        """
        try:
            values = stored.json_object(file, _MOST_BYTES)
        except stored.Unreadable as problem:
            raise RecordError(f"{where}: {problem}{REMEDY}") from None
        return cls.from_plain(values, where)

    @classmethod
    def adapted(cls, values: dict[str, Any], where: str) -> dict[str, Any]:  # noqa: ARG003
        """Field -> JSON value, or value; for classes whose JSON is not field by field."""
        return values


_MOST_BYTES = 64 << 20
_LONGEST = 60  # characters of a value that are shown
REMEDY = (
    "; the file is damaged or was edited: put back what was written, or make it anew"
)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.plain()
    if isinstance(value, collections.abc.Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def inside(where: str, name: Any) -> str:
    """The place of a field: "comparison.json: models.baseline"."""
    return f"{where}{'.' if ': ' in where else ': '}{shown(name)}"


def refused(where: str, value: Any, rule: str) -> RecordError:
    """The error about a value that breaks a rule ("must be ...")."""
    return RecordError(f"{where}={shown(value)}: {rule}{REMEDY}")


def shown(value: Any) -> str:
    """What a file holds, in a message: on one line, and not much of it."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = str(value)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if text.isprintable() else repr(text)


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of an annotation from JSON; one that is a Record already stays."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or isinstance(value, Record):
        return value
    if origin is Annotated:
        return _number(arguments[0], value, where, arguments[1])
    if origin in (types.UnionType, typing.Union):
        return _one_of(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is collections.abc.Mapping:
        if not isinstance(value, collections.abc.Mapping):
            raise refused(where, value, "must be an object")
        return {
            _read(arguments[0], key, where): _read(
                arguments[1], item, inside(where, key)
            )
            for key, item in value.items()
        }
    if issubclass(kind, Record):
        return kind.from_plain(value, where)
    if kind in (int, float):
        return _number(kind, value, where, Within())
    if not isinstance(value, kind):
        raise refused(where, value, f"must be {_NAMES[kind]}")
    if isinstance(value, str) and not _is_text(value):
        raise refused(where, value, "must be text")
    return value


_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def _is_text(value: str) -> bool:
    """Half of a surrogate pair, which JSON may name, can be neither shown nor stored."""
    return value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value)


def _number(kind: type, value: Any, where: str, within: Within | None) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (kind is float and isinstance(value, float))):
        raise refused(where, value, f"must be {_NAMES[kind]}")
    try:
        number = kind(value)
    except OverflowError:
        raise refused(where, value, "must be a number") from None
    if within is None:
        return number
    if isinstance(number, float) and not math.isfinite(number):
        raise refused(where, value, "must be a finite number")
    if not within.low <= number <= within.high:
        least = f"at least {within.low:g}"
        most = "" if within.high == math.inf else f" and at most {within.high:g}"
        raise refused(where, value, f"must be {least}{most}")
    return number


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _read(kinds[0], value, where)
    problem: RecordError | None = None
    for kind in kinds:
        try:
            return _read(kind, value, where)
        except RecordError as refusal:
            problem = refusal
    raise problem or refused(where, value, "cannot be read")


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise refused(where, value, "must be a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    elif len(kinds) != len(value):
        raise refused(where, value, f"must be a list of {len(kinds)}")
    return tuple(
        _read(kind, item, f"{where}[{index}]")
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )
