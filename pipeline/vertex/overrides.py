"""Overrides of one run on Vertex AI: one pipeline parameter, a strict JSON object.

`{"candidate.network": "preact_resnet56", "train.epochs": 3}`: dotted names of
`contract.config` with values of their types. What the compiled specification itself says
(machines, addresses, which nodes there are) is fixed and refused here. A leaf: it
imports the configuration only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from contract.config.run import RunConfig
from contract.fields import (
    ConfigError,
    FieldInfo,
    has_type,
    leaves,
    once,
    override,
    value_of,
)

PARAMETER = "overrides"  # name of the pipeline parameter

# Fields that the compiled specification holds; a name or, with a dot at the end, a section.
COMPILED = (
    "vertex.",
    "contenders",
    "contenders.",
    "pipeline_name",
    "output_root",
    "enable_cache",
    "serving.push",
    "serving.base_directory",
    "batch_predict.",
)

Value = str | int | float | bool | Mapping[str, str] | None


def is_compiled(name: str) -> bool:
    """Whether a field is fixed when the specification is compiled."""
    return any(
        name.startswith(entry) if entry.endswith(".") else name == entry
        for entry in COMPILED
    )


def split(
    assignments: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Parts a person's assignments into (fixed when compiled, free in every run)."""
    fixed = {k: v for k, v in assignments.items() if is_compiled(k)}
    return fixed, {k: v for k, v in assignments.items() if k not in fixed}


def fixed(config: RunConfig) -> dict[str, Value]:
    """Every compiled field with its value."""
    return {
        name: value_of(config, name) for name in leaves(RunConfig) if is_compiled(name)
    }


def encode(assignments: Mapping[str, str]) -> str:
    """Writes overrides as the text of the parameter: typed, sorted, canonical.

    Args:
        assignments: Dotted name -> text, as given on a command line.

    Raises:
        ConfigError: Unknown name, value that its field does not take, or a field that is
            fixed when the specification is compiled.
    """
    for name in assignments:
        _refuse_compiled(name)
    config = override(RunConfig(), assignments)
    return dumps({name: value_of(config, name) for name in assignments})


def dumps(values: Mapping[str, Any]) -> str:
    """Canonical JSON: the same values give the same text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode(text: str) -> dict[str, Value]:
    """Reads the text of the parameter, strictly.

    Returns:
        Dotted name -> value of the field's type, within its range.

    Raises:
        ConfigError: Not a JSON object, a name twice or unknown, a value of another type
            or outside its range, or a field that is fixed when the specification is
            compiled. One sentence.
    """
    values = _parse(text)
    known = leaves(RunConfig)
    for name, value in values.items():
        _refuse_compiled(name)
        if name in known and not has_type(known[name], value):
            raise ConfigError(
                f"{PARAMETER}: {name}={json.dumps(value)}: must be {_kinds(known[name])}"
            )
    try:
        config = override(RunConfig(), values)
    except ConfigError as error:
        raise ConfigError(f"{PARAMETER}: {error}") from None
    return {name: value_of(config, name) for name in values}


def _parse(text: str) -> dict[str, Any]:
    def no_constant(name: str) -> Any:
        raise ConfigError(f"{name} is not JSON; give a finite number")

    try:
        values = json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{PARAMETER}: not JSON ({error}); give an object such as "
            '{"train.epochs": 3}'
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{PARAMETER}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{PARAMETER}={text[:60]}: must be a JSON object of dotted names, such as "
            '{"train.epochs": 3}'
        )
    return values


def _refuse_compiled(name: str) -> None:
    if is_compiled(name):
        raise ConfigError(
            f"{PARAMETER}: {name} is fixed when the pipeline is compiled; compile again "
            f"with --runtime_parameter {name}=..."
        )


def _kinds(field: FieldInfo) -> str:
    """The JSON values that a field takes, in words."""
    return field.rule if "text" not in field.rule else f"{field.rule} in quotes"
