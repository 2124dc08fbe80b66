"""The machinery of the configuration: fields with a sentence and a range, strict reading.

`contract.config` is built of it. The same JSON travels to every component, locally and on
Vertex AI. Only the standard library stands behind this file, so that a wrong value is
refused in milliseconds.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from contract import paths

_LISTED = 20  # names in a message

T = TypeVar("T")
Problem = Callable[[str], str | None]


class ConfigError(ValueError):
    """A value that cannot be used; the message names field, value, rule and remedy."""


def setting(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    problem: Problem | None = None,
) -> Any:
    """A dataclass field with the sentence and the closed range a person is shown.

    `problem`: what is wrong with a text, as a rule; None if nothing is.
    """
    return field(
        default=default,
        metadata={"help": help, "low": low, "high": high, "problem": problem},
    )


def entries(help: str, *, problem: Problem) -> Any:
    """A field of type Mapping[str, str] whose names a person chooses; empty at first.

    `section.name=value` sets one entry, `section.name=none` takes it away. `problem`: what
    is wrong with a name, as a rule; None if nothing is.
    """
    return field(
        default_factory=dict,
        metadata={"help": help, "low": -math.inf, "high": math.inf, "problem": problem},
    )


@dataclass(frozen=True)
class FieldInfo:
    """One leaf of the configuration, as a person sees it."""

    name: str  # dotted, e.g. "train.epochs"
    annotation: Any
    default: Any
    help: str
    low: float
    high: float
    problem: Problem | None

    @property
    def rule(self) -> str:
        """The values it takes, in words."""
        return _rule(self.annotation, self.low, self.high)

    @property
    def open(self) -> bool:
        """Whether it is a section whose names a person chooses, see `entries`."""
        return typing.get_origin(self.annotation) is collections.abc.Mapping


def leaves(cls: type, prefix: str = "") -> dict[str, FieldInfo]:
    """All leaf fields of a section by dotted name, in declaration order."""
    return dict(_leaves(cls, prefix))


@functools.cache
def _leaves(cls: type, prefix: str) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    hints = typing.get_type_hints(cls)
    defaults = cls()
    for item in dataclasses.fields(cls):
        name = prefix + item.name
        if dataclasses.is_dataclass(hints[item.name]):
            section = typing.cast(type, hints[item.name])
            nested = leaves(section, name + ".")
            actual = to_dict(getattr(defaults, item.name))
            for key, leaf in nested.items():
                short = key.removeprefix(name + ".")
                value = actual.get(short, leaf.default)
                nested[key] = dataclasses.replace(leaf, default=value)
            found |= nested
        else:
            found[name] = FieldInfo(
                name, hints[item.name], getattr(defaults, item.name), **item.metadata
            )
    return found


def override(config: T, values: Mapping[str, Any]) -> T:
    """Returns `config`, a section, with dotted fields replaced.

    Args:
        config: Where to start from.
        values: Dotted name -> value; text (from a command line) is converted to the
            field's type, other values must have it.

    Raises:
        ConfigError: Unknown name, wrong type, or a value outside the field's range.
    """
    known = leaves(type(config))
    for name, value in values.items():
        section, _, entry = name.rpartition(".")
        if name in known:
            config = _replaced(config, name.split("."), _checked(known[name], value))
        elif section in known and known[section].open:
            given = {**value_of(config, section)}
            if _is_none(value):
                given.pop(entry, None)
            else:
                given |= _checked(known[section], {entry: value})
            config = _replaced(config, section.split("."), given)
        else:
            raise ConfigError(_unknown(name, known))
    return config


def value_of(config: Any, name: str) -> Any:
    """The value of a dotted field; of an entry that is not there None."""
    return functools.reduce(_member, name.split("."), config)


def _member(section: Any, name: str) -> Any:
    if isinstance(section, Mapping):
        return section.get(name)
    return getattr(section, name)


def to_dict(section: Any) -> dict[str, Any]:
    """A section as nested plain dictionaries."""
    return dataclasses.asdict(section)


def to_json(section: Any) -> str:
    """Canonical JSON: sorted keys, no spaces; the same value gives the same text."""
    return json.dumps(to_dict(section), sort_keys=True, separators=(",", ":"))


def from_dict(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Builds a section strictly: unknown and missing fields are refused by name.

    Raises:
        ConfigError: As `override`; also when a field is missing.
    """
    hints = typing.get_type_hints(cls)
    own = {item.name: item for item in dataclasses.fields(typing.cast(Any, cls))}
    for name in values:
        if name not in own:
            raise ConfigError(_unknown(prefix + name, {prefix + key for key in own}))
    arguments: dict[str, Any] = {}
    for name, item in own.items():
        if name not in values:
            raise ConfigError(f"{prefix}{name} is missing from the configuration")
        value = values[name]
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{prefix}{name}={value!r}: must be a section (object)"
                )
            arguments[name] = from_dict(hints[name], value, f"{prefix}{name}.")
        else:
            info = FieldInfo(prefix + name, hints[name], None, **item.metadata)
            arguments[name] = _checked(info, value)
    return cls(**arguments)


def from_json(cls: type[T], text: str) -> T:
    """Reads what `to_json` wrote.

    Raises:
        ConfigError: Not JSON, or as `from_dict`.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"configuration is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"configuration is not a JSON object: {text[:60]!r}")
    return from_dict(cls, values)


def parse_assignment(text: str) -> tuple[str, str]:
    """Splits `name=value` as given on a command line.

    Raises:
        ConfigError: No `=`, or nothing before it.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ConfigError(f"{text!r}: must be name=value, for example train.epochs=3")
    return name.strip(), value


def parse_assignments(texts: typing.Iterable[str]) -> dict[str, str]:
    """Dotted name -> text; of a name given twice the last one, and in its place.

    Raises:
        ConfigError: As `parse_assignment`.
    """
    found: dict[str, str] = {}
    for name, value in map(parse_assignment, texts):
        found.pop(name, None)
        found[name] = value
    return found


def assignment(name: str, value: Any) -> str:
    """A field's value as text for a command line: `name=value`."""
    if value is None:
        return f"{name}=none"
    if isinstance(value, bool):
        return f"{name}={str(value).lower()}"
    if isinstance(value, Mapping):
        return f"{name}={json.dumps(value, sort_keys=True, separators=(',', ':'))}"
    return f"{name}={value}"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice; json.loads's `object_pairs_hook`.

    Raises:
        ConfigError: One does.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{paths.shown(twice)} is given twice; give it once")
    return values


def has_type(field: FieldInfo, value: Any) -> bool:
    """Whether a value that is no text for a command line has the field's type.

    Its range is checked elsewhere.
    """
    options = (
        typing.get_args(field.annotation)
        if isinstance(field.annotation, types.UnionType)
        else (field.annotation,)
    )
    return any(_is_a(option, value) for option in options)


def _is_a(kind: Any, value: Any) -> bool:
    if kind is type(None):
        return value is None
    if typing.get_origin(kind) is Literal:
        return isinstance(value, str)
    if typing.get_origin(kind) is collections.abc.Mapping:
        return isinstance(value, Mapping)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _replaced(section: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    if rest:
        value = _replaced(getattr(section, head), rest, value)
    return dataclasses.replace(section, **{head: value})


def of_section(name: str, known: typing.Iterable[str]) -> str:
    """What to write if a name is not a field's but a section's; else ""."""
    inside = next((each for each in known if each.startswith(f"{name}.")), "")
    return inside and (
        f"{name} is a section, and its fields are given one by one, such as "
        f"{inside}=...; `pipeline.py config` lists them"
    )


# Fields of earlier versions -> what stands in their place.
_RENAMED = {
    "vertex.spot": "vertex.scheduling=spot",
    "evaluation.max_latency_ms": "canary.max_latency_ms",
    "evaluation.max_latency_ratio": "canary.max_latency_ratio",
}


def _unknown(name: str, known: typing.Iterable[str]) -> str:
    known = list(known)
    meant = [each for each in known if each.endswith(f".{name}")]
    meant = meant or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if meant:
        hint = f"did you mean {' or '.join(meant)}?"
    elif len(known) > _LISTED:
        hint = "`pipeline.py config` lists them all"
    else:
        hint = f"known: {', '.join(known)}"
    if name in _RENAMED:
        hint = f"it is {_RENAMED[name]} now"
    hint = of_section(name, known) or hint
    return f"{paths.shown(name)}: there is no such configuration field; {hint}"


def _rule(annotation: Any, low: float, high: float) -> str:
    optional = _is_optional(annotation)
    kind = _without_none(annotation)
    if typing.get_origin(kind) is Literal:
        words = "one of " + ", ".join(typing.get_args(kind))
    elif typing.get_origin(kind) is collections.abc.Mapping:
        words = "a text for each name of your own"
    elif kind is bool:
        words = "true or false"
    elif kind in (int, float):
        words = "a whole number" if kind is int else "a number"
        if low > -math.inf and high < math.inf:
            words += (
                f" from {low:g} to {high:g}"
                if kind is float
                else f" from {low} to {high}"
            )
    else:
        words = "text"
    return words + (" or none" if optional else "")


def _is_optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        (kind,) = [a for a in typing.get_args(annotation) if a is not type(None)]
        return kind
    return annotation


def _checked(info: FieldInfo, value: Any) -> Any:
    """Converts text to the field's type and checks the range."""

    def refuse(but: str = "") -> ConfigError:
        rule = info.rule + but
        return ConfigError(f"{info.name}={paths.shown(value)}: must be {rule}")

    if info.open:
        return _checked_entries(info, value)
    kind = _without_none(info.annotation)
    if typing.get_origin(kind) is Literal and value in typing.get_args(kind):
        return value
    if _is_none(value):
        if _is_optional(info.annotation):
            return None
        raise refuse(", not none" if kind is str else "")
    if typing.get_origin(kind) is Literal:
        raise refuse()
    if kind is bool:
        if isinstance(value, str):
            value = {"true": True, "1": True, "false": False, "0": False}.get(
                value.lower(), value
            )
        if not isinstance(value, bool):
            raise refuse()
        return value
    if kind in (int, float):
        if isinstance(value, bool):
            raise refuse()
        try:
            number = kind(value) if isinstance(value, str) else value
        except ValueError:
            raise refuse() from None
        if kind is float and isinstance(number, int):
            number = float(number)
        if not isinstance(number, kind) or not info.low <= number <= info.high:
            raise refuse()
        return number
    if not isinstance(value, str):
        raise refuse()
    if not value.strip():
        raise refuse(", not empty")
    if info.problem is not None and (problem := info.problem(value)) is not None:
        raise ConfigError(f"{info.name}={paths.shown(value)}: {problem}")
    # It stands in messages, logs and names of resources, each on one line.
    if paths.text_problem(value) is not None:
        raise refuse(" on one line, without control characters")
    return value


def _checked_entries(info: FieldInfo, value: Any) -> dict[str, str]:
    """Of a section whose names a person chooses: each name and each text.

    Its whole may be given as a JSON object.
    """
    if isinstance(value, str):
        with contextlib.suppress(json.JSONDecodeError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{info.name}={paths.shown(value)}: is a section, and its entries are given one "
            f"by one, such as {info.name}.name=..."
        )
    checked = {}
    for name, text in value.items():
        place = f"{info.name}.{paths.shown(name)}"
        if info.problem is not None and (problem := info.problem(name)) is not None:
            raise ConfigError(f"{place}: {problem}")
        each = dataclasses.replace(info, name=place, annotation=str, problem=None)
        checked[name] = _checked(each, text)
    return checked


def _is_none(value: Any) -> bool:
    return value is None or (
        isinstance(value, str) and value.lower() in ("none", "null")
    )
