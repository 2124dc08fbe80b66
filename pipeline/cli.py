"""Commands of `python pipeline.py`: what a person types, before anything heavy loads.

Here are those of local runs; pipeline/history.py has `models`, pipeline/vertex/commands.py
what concerns Vertex AI.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from components.example_gen.layout import DataError
from pipeline import config as configuration
from pipeline import history
from pipeline.config import ConfigError, RunConfig, parse_assignment
from pipeline.exclusive import FolderInUse, exclusive
from pipeline.resolve import Resolved, resolve
from pipeline.vertex import commands as vertex
from pipeline.vertex.place import VertexError

USAGE_ERROR, RUN_FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs one command.

    Args:
        arguments: Command line without the program's name; none means `run`.
        environment: The process's environment variables.

    Returns:
        Exit status: 0 done, 1 the run failed (on Vertex AI: as seen with --wait), 2 the
        command cannot be carried out, 130 interrupted, 143 terminated.
    """
    parser = _parser()
    options = parser.parse_args(list(arguments) or ["run"])
    try:
        return options.command(options, environment)
    except (
        ConfigError,
        DataError,
        FolderInUse,
        VertexError,
        history.HistoryError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def for_tfx(environment: Mapping[str, str]) -> None:
    """Hands the pipeline to TFX's own command line, which has patched the runner."""
    from pipeline.dag import create_pipeline
    from pipeline.local import LocalRunner

    resolved = resolve([], environment, os.getcwd())
    runner = LocalRunner(_Silent())
    runner.run(create_pipeline(resolved.config, resolved.fingerprint))


class _Silent:
    def start(self, name: str) -> None: ...

    def end(self, state: str, note: str = "") -> None: ...


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipeline.py",
        description="Trains, compares and publishes residual networks on CIFAR.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the whole pipeline (the default)")
    run.add_argument(
        "--engine",
        choices=["local", "vertex"],
        default="local",
        help="this machine (the default), or Vertex AI: the same as submit",
    )
    _add_overrides(run)
    for_vertex = run.add_argument_group("with --engine vertex")
    vertex.add_place(for_vertex)
    vertex.add_submission(for_vertex)
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="write the last run's report again")
    _add_overrides(report)
    report.set_defaults(command=_report)

    show = commands.add_parser("config", help="list all configuration fields")
    _add_overrides(show)
    show.set_defaults(command=_show_config)

    history.add_parser(commands, _add_overrides)
    vertex.add_parsers(commands, _add_overrides)
    return parser


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime_parameter",
        "--runtime-parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a configuration field, e.g. train.epochs=3 (repeatable)",
    )


def _run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if options.engine == "vertex":
        return vertex.submit(options, environment)
    for name in ("project", "region", "run_id", "wait"):
        if getattr(options, name):
            raise ConfigError(
                f"--{name}: goes with --engine vertex; add that, or leave it out"
            )

    from rich.console import Console

    from pipeline import console

    began = time.time()
    resolved = resolve(options.runtime_parameter, environment, os.getcwd())
    config = resolved.config
    log = os.path.join(
        config.output_root,
        "logs",
        time.strftime("%Y%m%d-%H%M%S.log", time.gmtime(began)),
    )
    os.makedirs(os.path.dirname(log), exist_ok=True)
    signal.signal(signal.SIGTERM, _raise_exit)
    # The lock comes first: a second run is told at once, not after TensorFlow has loaded.
    with exclusive(config.output_root), console.captured_output(log) as screen:
        out = Console(file=screen, highlight=False)
        _print_heading(out, resolved, log)
        try:
            return _run_pipeline(out, resolved, began, log)
        except (KeyboardInterrupt, SystemExit) as stop:
            out.print("stopped; the same command goes on from here", style="yellow")
            return int(stop.code or 0) if isinstance(stop, SystemExit) else INTERRUPTED


def _run_pipeline(out: Any, resolved: Resolved, began: float, log: str) -> int:
    from rich.text import Text

    from pipeline import console

    def fail(message: str) -> int:
        out.print(Text(f"error: {message}", style="red"), soft_wrap=True)
        out.print(Text(f"log:   {log}"), soft_wrap=True)
        return RUN_FAILED

    config = resolved.config
    with console.RunDisplay(out, width=len("loading TensorFlow and TFX")) as display:
        display.start("loading TensorFlow and TFX")
        from pipeline import local
        from pipeline.dag import create_pipeline
        from trainer.strategy import StrategyError, prepare_devices

        try:
            prepare_devices(config.train)
        except StrategyError as error:
            return fail(str(error))
        pipeline = create_pipeline(config, resolved.fingerprint)
        display.end("done")
        runner = local.LocalRunner(display)
        try:
            runner.run(pipeline)
        except local.ComponentFailed as error:
            return fail(str(error))
        display.start("Report")
        page, report = _write_report(
            config, str(runner.run_id), resolved.data_reason, began
        )
        display.end("done")
    _print_verdict(out, report, page)
    return 0


def _write_report(
    config: RunConfig, run_id: str, data_reason: str, began: float
) -> tuple[str, dict[str, Any]]:
    from pipeline.report import collect, render

    database = _database(config)
    facts = collect.run_facts(
        configuration.to_dict(config), data_reason, began, time.time() - began
    )
    collect.record_run(database, run_id, facts)
    report = collect.collect(database, run_id)
    return render.write(report, _report_directory(config)), report


def _database(config: RunConfig) -> str:
    return os.path.join(config.output_root, "metadata.sqlite")


def _report_directory(config: RunConfig) -> str:
    return os.path.join(config.output_root, "report")


def _print_verdict(out: Any, report: dict[str, Any], page: str) -> None:
    from rich.table import Table

    from pipeline.console import clock, print_lines
    from pipeline.report.render import TITLES, interval, percent

    decision = report["decision"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("network", no_wrap=True)
    table.add_column("role", no_wrap=True)
    for heading in ("eval error", "95 % interval", "test error", "training"):
        table.add_column(heading, justify="right", no_wrap=True)
    for role, model in report["models"].items():
        if model is None:
            continue
        seconds = model["train_seconds"]
        table.add_row(
            model["network"],
            TITLES[role],
            percent(model["eval"]["error"]),
            interval(model["eval"]["ci95"]),
            percent(model["test"]["error"]),
            "–" if seconds is None else clock(seconds),
            style="bold green" if role == decision["winner"] else "",
        )
    out.print()
    out.print(table)
    out.print()
    pushed = report["pushed"]
    lines = {
        "verdict": decision["reason"],
        **(
            {"blocked": "; ".join(decision["blocked_by"])}
            if decision["blocked_by"]
            else {}
        ),
        "pushed": (
            f"version {pushed['version']}, {pushed['path']}" if pushed else "nothing"
        ),
        "report": page,
        "took": clock(report["run"]["seconds"]),
    }
    print_lines(out, lines)


def _raise_exit(number: int, _: object) -> None:
    """SIGTERM ends the run like Ctrl-C: locks are freed, nothing is left half-written."""
    raise SystemExit(128 + number)


def _print_heading(out: Any, resolved: Resolved, log: str) -> None:
    from pipeline.console import print_lines

    config = resolved.config
    lines = {
        "data": f"{config.data.name} ({resolved.data_reason})",
        "networks": f"baseline {config.baseline.network}, candidate "
        f"{config.candidate.network}; preset {config.preset}",
        "output": config.output_root,
        "log": log,
    }
    print_lines(out, lines)


def _report(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    given = dict(map(parse_assignment, options.runtime_parameter))
    root = given.get("output_root", "").rstrip("/")
    if "://" in root:
        raise ConfigError(
            f"output_root={root}: a run on Vertex AI writes its report itself; fetch it "
            f"with `gcloud storage cp {root}/report/report.html .`"
        )
    resolved = resolve(options.runtime_parameter, environment, os.getcwd())
    from pipeline.report import collect, render

    database = _database(resolved.config)
    run_id = collect.latest_run(database)
    if run_id is None:
        raise ConfigError(
            f"output_root={resolved.config.output_root}: no finished run is recorded "
            "there; run the pipeline first"
        )
    report = collect.collect(database, run_id)
    print(render.write(report, _report_directory(resolved.config)))  # noqa: T201
    return 0


def _show_config(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    resolved = resolve(options.runtime_parameter, environment, os.getcwd())
    for name, leaf in configuration.leaves(RunConfig).items():
        value: Any = resolved.config
        for part in name.split("."):
            value = getattr(value, part)
        print(f"{name}={value}\n    {leaf.help}; {leaf.rule}")  # noqa: T201
    return 0
