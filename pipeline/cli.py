"""Commands of `python pipeline.py`: what a person types, before anything heavy loads.

What they do is in pipeline/local, pipeline/history (`models`) and pipeline/vertex.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.example_gen.errors import DataError
from contract import paths
from contract.config.run import RunConfig
from contract.fields import (
    ConfigError,
    leaves,
    of_section,
    parse_assignments,
)
from contract.typed_json import RecordError
from pipeline import configuration, prediction
from pipeline.failures import INTERRUPTED, NOBODY_READS, USAGE_ERROR
from pipeline.history import commands as history
from pipeline.history.published import HistoryError
from pipeline.local import commands as local
from pipeline.local import rules as local_rules
from pipeline.local.exclusive import FolderInUse
from pipeline.resolve import Rules
from pipeline.vertex import commands as vertex
from pipeline.vertex import rules as vertex_rules
from pipeline.vertex.place import VertexError

# Adds commands of a room above this one: takes argparse's subparsers, and what gives a
# parser the options of a configuration.
AddParser = Callable[[Any, Callable[[argparse.ArgumentParser], None]], None]

# Their messages are one line for a person.
KNOWN = (
    ConfigError, DataError, FolderInUse, VertexError, HistoryError, RecordError,
)  # fmt: skip


def main(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    more: Sequence[AddParser] = (),
) -> int:
    """Runs one command.

    Args:
        arguments: Command line without the program's name; without a command, `run`.
        environment: The process's environment variables.
        more: Commands besides the pipeline's own.

    Returns:
        Exit status: 0 done, 1 the run failed (on Vertex AI: as seen with --wait), 2 the
        command cannot be carried out, 130 interrupted, 141 nobody reads what it prints,
        143 terminated.
    """
    _prepare_streams()
    options = argparse.Namespace(given_in={})
    try:
        try:
            options = _parse(arguments, more)
            _read_files(options)
            return options.command(options, environment)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` for instance, has seen enough
        _silence()
        return NOBODY_READS
    except KNOWN as error:
        # Of a value that a file gave: which one.
        origin = options.given_in.get(str(error).partition("=")[0], "")
        file = f"{origin.removeprefix('file ')}: " if origin else ""
        print(f"error: {file}{error}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    except OSError as error:
        _silence()
        print(f"error: {_sentence(error)}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def for_tfx(environment: Mapping[str, str]) -> None:
    """Hands the pipeline to TFX's own command line."""
    try:
        local.for_tfx(environment)
    except KNOWN as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(USAGE_ERROR)


def _prepare_streams() -> None:
    """Lets output go on where it is closed (cron, >&-) or cannot encode a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence() -> None:
    """Drops what standard output did not take: it would fail again at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: OSError) -> str:
    """What the system refused, and of which file."""
    files = [str(file) for file in (error.filename, error.filename2) if file]
    return ": ".join([*files, error.strerror or str(error)])


def _parse(
    arguments: Sequence[str], more: Sequence[AddParser] = ()
) -> argparse.Namespace:
    """Reads a command line, in which `name=value` is short for --runtime_parameter."""
    words: list[str] = []
    for word in arguments:
        name = re.match(r"[a-z][a-z0-9_.]*(?==)", word)
        # What follows an option may be its value, as in --cron x=1; a field's name is one.
        option = words[-1] if words and re.match("-[^=]*$", words[-1]) else None
        known = name and ("." in name[0] or name[0] in leaves(RunConfig))
        takes = option and option.startswith(("--runtime", "--conf", "--output"))
        if name and not takes and (known or not option):
            words.append("--runtime_parameter")
        words.append(word)
    if not words or _is_option(words[0]):
        words = ["run", *words]
    if words[0] == "models" and (len(words) == 1 or words[1].startswith("--runtime")):
        words.insert(1, "list")
    parser = _parser(more)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        shown = paths.shown(" ".join(unknown))
        parser.error(f"unrecognized arguments: {shown}; {_remedy(unknown)}")
    options.given_in = {}
    return options


def _read_files(options: argparse.Namespace) -> None:
    """Puts the fields of --config's files before those of the command line."""
    typed = parse_assignments(options.runtime_parameter)
    texts: list[str] = []
    for path in options.config:
        found = configuration.read(path, os.getcwd())
        texts += [f"{name}={value}" for name, value in found.items()]
        options.given_in |= dict.fromkeys(found, f"file {path}")
    for name in typed:
        options.given_in.pop(name, None)
    options.runtime_parameter = [*texts, *options.runtime_parameter]


def _is_option(word: str) -> bool:
    """Whether it is an option of a command; --help, however abbreviated, is of all."""
    return word.startswith("-") and word != "-h" and not "--help".startswith(word)


def _remedy(unknown: Sequence[str]) -> str:
    """How the fields that such arguments mean are given."""
    words = [part for word in unknown for part in word.split("=", 1)]
    name = words[0].lstrip("-").replace("-", "_")
    value = words[1] if len(words) > 1 and not words[1].startswith("-") else "..."
    value = paths.shown(value)
    fields = list(leaves(RunConfig))
    section = of_section(name, fields)
    if section:
        return section
    meant = [each for each in fields if f".{each}".endswith(f".{name}")]
    meant = meant or difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
    if not meant:
        return (
            "configuration fields are given as name=value, such as train.epochs=3; "
            "`pipeline.py config` lists them"
        )
    return "write " + " or ".join(f"{each}={value}" for each in meant)


def _parser(more: Sequence[AddParser]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipeline.py",
        description="Trains, compares and publishes residual networks on CIFAR.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=help, description=help)
        _add_overrides(parser)
        return parser

    run = add("run", "run the whole pipeline (the default)")
    run.add_argument(
        "--engine",
        choices=["local", "vertex"],
        default="local",
        help="this machine (the default), or Vertex AI: the same as submit",
    )
    run.add_argument(
        *("--dry", "--dry-run"),
        action="store_true",
        help="only say which nodes would run, and why; changes nothing",
    )
    for_vertex = run.add_argument_group("with --engine vertex")
    vertex.add_place(for_vertex)
    vertex.add_submission(for_vertex)
    run.set_defaults(command=_run)

    report = add("report", "write the last run's report again")
    report.set_defaults(command=local.report)

    show = add(
        "config",
        "list all configuration fields: value, where it comes from, meaning, rule",
    )
    show.add_argument(
        "--engine", choices=["local", "vertex"], default="local", help="default: local"
    )
    configuration.add_options(show)
    show.set_defaults(command=_config)

    history.add_parser(commands, _add_overrides)
    prediction.add_parser(commands, _add_overrides)
    vertex.add_parsers(commands, _add_overrides)
    for add_parser in more:
        add_parser(commands, _add_overrides)
    return parser


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime_parameter",
        "--runtime-parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a configuration field, e.g. train.epochs=3 (repeatable); "
        "NAME=VALUE alone does the same",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="fields from a .json or .toml file (repeatable); the command line wins, and "
        "relative paths in it start at its folder",
    )


def _config(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    rules: Rules = vertex_rules if options.engine == "vertex" else local_rules
    return configuration.show(options, environment, rules)


def _run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if options.engine == "vertex":
        if options.dry:
            raise ConfigError(
                "--dry: asks the cache of a local run; `pipeline.py compile` shows what a "
                "run on Vertex AI would do and cost"
            )
        return vertex.submit(options, environment)
    for name in ("project", "region", "run_id", "wait"):
        if getattr(options, name):
            raise ConfigError(
                f"--{name}: goes with --engine vertex; add that, or leave it out"
            )
    return (local.dry_run if options.dry else local.run)(options, environment)
