"""Configuration on paper: files for `--config`, and what `pipeline.py config` prints.

    # mine.toml                  {"preset": "smoke",             mine.json
    preset = "smoke"              "train": {"epochs": 3},
    train.epochs = 3              "output_root": "runs/1"}
    output_root = "runs/1"

A file holds what a command line may hold, as sections or by dotted names, with values of
their types; what is no value in TOML is "none". Relative paths start at the file's folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import textwrap
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from contract import paths
from contract.config.run import RunConfig
from contract.fields import (
    ConfigError,
    FieldInfo,
    assignment,
    has_type,
    leaves,
    once,
    override,
    to_dict,
    value_of,
)
from contract.stored import Unreadable, content
from pipeline.resolve import AUTO, DEFAULT, Resolved, Rules, absolute, resolve

# Fields that are paths: relative ones start at the folder of the file.
_PATHS = (
    *("output_root", "data.path", "data.tfds_dir", "data.extra"),
    *("serving.base_directory", "batch_predict.images"),
    *("baseline.initial_weights", "candidate.initial_weights"),
)
_MOST_BYTES = 1_000_000
_ORIGIN_COLUMN = 44


# ---- files for --config --------------------------------------------------------------


def read(path: str, directory: str) -> dict[str, str]:
    """Reads a file of fields.

    Args:
        path: Ends with .json or .toml.
        directory: Where a relative path starts.

    Returns:
        Dotted name -> value, checked, as text for a command line.

    Raises:
        ConfigError: It cannot be read, or a field in it cannot be used; one sentence with
            the file and, where there is one, the line.
    """
    shown = paths.shown(path)
    where = absolute(path, directory)
    text = _text(where, shown)
    try:
        values = _TYPES[os.path.splitext(where)[1]](text)
    except (ValueError, RecursionError) as error:
        message = f"{shown}: cannot be read ({' '.join(str(error).split())})"
        raise ConfigError(message) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{shown}: must be an object of fields and sections")
    known = leaves(RunConfig)
    found: dict[str, str] = {}
    for name, value in _flat(values, known):
        try:
            if name in found:
                raise ConfigError(f"{name} is given twice; give it once")
            found[name] = _as_text(name, value, known, os.path.dirname(where))
        except ConfigError as error:
            line = _line(text, name, where, known)
            raise ConfigError(f"{shown}{line}: {error}") from None
    return found


def _text(where: str, shown: str) -> str:
    if os.path.splitext(where)[1] not in _TYPES:
        raise ConfigError(
            f"--config={shown}: must be a file whose name ends with "
            f"{' or '.join(_TYPES)}"
        )
    try:
        with open(where, "rb") as file:
            return content(file, _MOST_BYTES).decode()
    except OSError as error:
        raise ConfigError(f"--config={shown}: {error.strerror}") from None
    except Unreadable as error:
        raise ConfigError(f"--config={shown}: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config={shown}: must be text in UTF-8") from None


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=once)


_TYPES: Mapping[str, Callable[[str], Any]] = {".json": _json, ".toml": tomllib.loads}


def _flat(
    values: Mapping[str, Any], known: Mapping[str, FieldInfo], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a section whose names a person chooses stays whole."""
    for key, value in values.items():
        name = prefix + key
        if isinstance(value, dict) and name not in known:
            if not value and not any(each.startswith(f"{name}.") for each in known):
                yield name, value  # no section that there is
            yield from _flat(value, known, name + ".")
        else:
            yield name, value


def _as_text(name: str, value: Any, known: Mapping[str, FieldInfo], folder: str) -> str:
    field = known.get(name)
    choices = typing.get_args(field.annotation) if field is not None else ()
    if isinstance(value, str) and value.lower() == "none" and value not in choices:
        value = None
    if field is not None and not has_type(field, value):
        shown = json.dumps(value, default=str)
        quotes = ", without quotes" if isinstance(value, str) else ""
        raise ConfigError(f"{name}={shown}: must be {field.rule}{quotes}")
    if name in _PATHS and isinstance(value, str):
        value = absolute(value, folder)
    checked = value_of(override(RunConfig(), {name: value}), name)
    return assignment(name, checked).removeprefix(f"{name}=")


def _line(text: str, name: str, where: str, known: Mapping[str, FieldInfo]) -> str:
    """Where a field is, as ", line 3"; nothing if it is nowhere by that name."""
    if where.endswith(".json"):
        found = _json_lines(text).get(name)
    else:
        found = _toml_line(text, name, known)
    return f", line {found}" if found else ""


def _json_lines(text: str) -> dict[str, int]:
    """Dotted name -> line, of the names in a JSON object that can be read."""
    found: dict[str, int] = {}
    above: list[str] = []
    line, key, last = 1, "", ("", 1)
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[{}:\n]', text):
        if token == "\n":
            line += 1
        elif token == "{":
            above.append(key)
        elif token == "}":
            above.pop()
        elif token == ":":
            key, at = last
            found[".".join([*above[1:], key])] = at
        else:
            last = (json.loads(token), line)
    return found


def _toml_line(text: str, name: str, known: Mapping[str, FieldInfo]) -> int | None:
    """The first line with which what stands above it has the field."""
    lines = text.split("\n")
    for number in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value
        if any(found == name for found, _ in _flat(values, known)):
            return number
    return None


# ---- pipeline.py config --------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the forms in which `config` prints."""
    forms = parser.add_mutually_exclusive_group()
    for form in ("json", "toml"):
        forms.add_argument(
            f"--{form}",
            dest="form",
            action="store_const",
            const=form,
            help=f"as a file that --config takes: config --{form} > mine.{form}",
        )


def show(
    options: argparse.Namespace, environment: Mapping[str, str], rules: Rules
) -> int:
    """Prints the resolved configuration; reads no data."""
    resolved = resolve(
        options.runtime_parameter, environment, os.getcwd(), rules, options.given_in
    )
    form = {"json": as_json, "toml": as_toml, None: _listing}[options.form]
    print(form(resolved))  # noqa: T201
    return 0


def as_json(resolved: Resolved) -> str:
    """All fields, as --config takes them."""
    return json.dumps(to_dict(resolved.config), indent=2)


def as_toml(resolved: Resolved) -> str:
    """All fields, as --config takes them, each with its origin as a comment."""
    sections: dict[str, list[str]] = {"": []}
    for name, leaf in leaves(RunConfig).items():
        section, _, key = name.rpartition(".")
        value = value_of(resolved.config, name)
        if leaf.open:
            rows = [(entry, text) for entry, text in value.items()]
            section = name
        else:
            rows = [(key, value)]
        into = sections.setdefault(section, [])
        for entry, each in rows:
            origin = _origin(resolved, f"{section}.{entry}" if section else entry)
            line = f"{_toml_key(entry)} = {_toml_value(each)}"
            into.append(f"{line:<{_ORIGIN_COLUMN}}  # {_one_line(origin)}")
    blocks = [
        "\n".join([*([f"[{section}]"] if section else []), *lines])
        for section, lines in sections.items()
    ]
    return "\n\n".join(blocks)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # As JSON, but that TOML wants characters beyond U+FFFF in eight digits.
    escaped = json.dumps(value, ensure_ascii=False)
    return "".join(
        c if c.isascii() and c != "\x7f" else f"\\U{ord(c):08x}" for c in escaped
    )


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _origin(resolved: Resolved, name: str) -> str:
    """Where a field's value comes from; an entry may have come with its section."""
    section = name.rpartition(".")[0]
    origins = resolved.origins
    return origins.get(name) or origins.get(section) or DEFAULT


def _listing(resolved: Resolved) -> str:
    """For people: each field as it is typed, where it comes from, and what it means."""
    # A file keeps one line, so that it can be searched.
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    lines: list[str] = []
    for name, leaf in leaves(RunConfig).items():
        value = value_of(resolved.config, name)
        if leaf.open and value:
            given = {f"{name}.{entry}": text for entry, text in value.items()}
        else:
            given = {name: value}
        for each, text in given.items():
            typed = _typed(assignment(each, text))
            origin = _one_line(_origin(resolved, each))
            lines.append(f"{typed:<{_ORIGIN_COLUMN}}  # {origin}")
        meaning = f"{leaf.help}; {leaf.rule}"
        if resolved.origins.get(name) == AUTO:
            meaning = f"{resolved.data_reason}; {meaning}"
        indent = " " * 4
        lines += textwrap.wrap(
            meaning,
            wide,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _typed(text: str) -> str:
    """An assignment as a shell takes it."""
    if re.fullmatch(r"[\w@%+=:,./~-]+|[\w.]+={}", text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"
