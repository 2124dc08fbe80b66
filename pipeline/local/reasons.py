"""Why a node would run: what differs between two of its executions, in words.

In: an execution's parameters and inputs as ML Metadata keeps them. Out: short sentences
that name the field, the file or the input. Standard library only.
"""

from __future__ import annotations

import difflib
import json
import os
import urllib.parse
from collections.abc import Collection, Mapping
from typing import Any

from contract import paths
from contract.provenance import code_changes

_LONGEST_VALUE = 40  # characters
_BEFORE = 15  # of them before the place where two values part
_NAMED_FILES = 3
_ABSENT = object()


def of_parameters(
    before: Mapping[str, Any], after: Mapping[str, Any], sections: Mapping[str, str]
) -> list[str]:
    """What differs between the parameters of two executions.

    Args:
        before: Name -> value; text may be JSON, also JSON within JSON.
        after: The same of the later one.
        sections: Parameters that are sections of the configuration, with the names by
            which a person knows them; "": their members are known by their own.

    Returns:
        "train.seed 1 -> 2", "trainer/run.py edited".
    """
    old, new = fields(before, sections), fields(after, sections)
    told, code = [], []
    for name in [*new, *(old.keys() - new.keys())]:
        one, other = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if one == other:
            continue
        if name.rpartition(".")[2] == "source":
            code += _of_code(str(one), str(other))
        elif name == "fingerprint":
            told += _of_data(str(one), str(other))
        else:
            told.append(_of_value(name, one, other))
    return told + code


def of_inputs(
    before: Mapping[str, list[int]],
    after: Mapping[str, list[int]],
    anew: Collection[int],
) -> list[str]:
    """What differs between the inputs of two executions.

    Args:
        before: Key -> ids of artifacts.
        after: The same of the later one.
        anew: Ids of artifacts that do not exist yet.

    Returns:
        "new inputs: examples, model".
    """
    made, told = [], []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key, []), after.get(key, [])
        if old == new:
            continue
        if any(number in anew for number in new):
            made.append(key)
        elif not new:
            told.append(f"{key}: none any more")
        else:
            told.append(f"{key}: {'another one' if old else 'there is one now'}")
    if made:
        told.insert(0, f"new input{'s' if len(made) > 1 else ''}: {', '.join(made)}")
    return told


def fields(values: Mapping[str, Any], sections: Mapping[str, str]) -> dict[str, Any]:
    """Parameters as single fields by dotted name, JSON taken apart."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _taken_apart(sections.get(name, name), value)
    # A Trainer says whose network it trains.
    role = found.get("role")
    if not isinstance(role, str):
        return found
    return {
        f"{role}.{name.removeprefix('model.')}"
        if name.startswith("model.")
        else name: v
        for name, v in found.items()
    }


def _taken_apart(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {name: value}
    if not isinstance(value, dict) or not value:
        return {name: value}
    found: dict[str, Any] = {}
    for key, member in value.items():
        found |= _taken_apart(f"{name}.{key}" if name else key, member)
    return found


def _of_value(name: str, before: Any, after: Any) -> str:
    rest = ""
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        lines = [*difflib.unified_diff(before.split("\n"), after.split("\n"), n=0)][2:]
        gone = [line[1:].strip() for line in lines if line.startswith("-")]
        come = [line[1:].strip() for line in lines if line.startswith("+")]
        before, after = (gone or ["nothing"])[0], (come or ["nothing"])[0]
        if (more := max(len(gone), len(come)) - 1) > 0:
            rest = f" and {more} more line{'s' if more > 1 else ''}"
    one, other = _contrasted(_text(before), _text(after))
    return f"{name} {one} -> {other}{rest}"


def _text(value: Any) -> str:
    if value is None or value is _ABSENT:
        return "none"
    return paths.shown(value if isinstance(value, str) else json.dumps(value))


def _contrasted(one: str, other: str) -> tuple[str, str]:
    """Two texts, of long ones the place where they part."""
    if max(len(one), len(other)) <= _LONGEST_VALUE:
        return one, other
    begin = max(len(os.path.commonprefix([one, other])) - _BEFORE, 0)

    def cut(text: str) -> str:
        shown = text[begin : begin + _LONGEST_VALUE]
        dots = "..." if begin + _LONGEST_VALUE < len(text) else ""
        return ("..." if begin else "") + shown + dots

    return cut(one), cut(other)


def _of_code(before: str, after: str) -> list[str]:
    changes = code_changes(before, after)
    if changes is None:
        return ["its code"]
    return _shortened(changes, "file")


def _of_data(before: str, after: str) -> list[str]:
    """Of `components.example_gen.sources.fingerprint`: a digest, and maybe one per file."""
    old, new = (
        dict(word.rsplit(":", 1) for word in text.split()[1:])
        for text in (before, after)
    )
    if not old or not new:
        return ["other data"]
    changes = [
        f"data: {urllib.parse.unquote(name)} "
        + (
            "changed"
            if name in old and name in new
            else "new"
            if name in new
            else "gone"
        )
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    return _shortened(changes, "data file") or ["data from another source"]


def _shortened(changes: list[str], what: str) -> list[str]:
    more = len(changes) - _NAMED_FILES
    if more <= 0:
        return changes
    return [*changes[:_NAMED_FILES], f"{more} more {what}{'s' if more > 1 else ''}"]
