"""`python pipeline.py models ...`: what was published, why, and an earlier one again.

Loads ML Metadata or google-cloud-storage, and only once a command runs; TensorFlow only
to write a report again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contract.records import REPORT_FILE, REPORT_FOLDER
from pipeline.history import stores
from pipeline.history.published import Places, Published, places, places_of_run
from pipeline.local import database
from serving import quiet

_AFTER_ROLLBACK = (  # in object storage
    "TensorFlow Serving takes it when it next reads models.config; Model Registry and "
    "Endpoints stay as they are"
)


def add_parser(
    commands: Any, add_overrides: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Adds `models list`, `models show` and `models rollback` to the command line."""

    def add(group: Any, name: str, help: str) -> argparse.ArgumentParser:
        return group.add_parser(name, help=help, description=help)

    models = add(
        commands,
        "models",
        "list published versions, show one, publish an earlier one again",
    )
    actions = models.add_subparsers(required=True, metavar="ACTION")

    listing = add(actions, "list", "all published versions, newest first (the default)")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(command=_list)

    show = add(actions, "show", "one version with its whole lineage, JSON")
    show.add_argument("version", type=int, metavar="VERSION")
    show.set_defaults(command=_show)

    rollback = add(
        actions, "rollback", "publish an earlier version again, as a new one"
    )
    rollback.add_argument("version", type=int, metavar="VERSION")
    rollback.set_defaults(command=_rollback)
    for parser in (listing, show, rollback):
        add_overrides(parser)


def _list(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    found = stores.read(places(options.runtime_parameter, os.getcwd()))
    if options.json:
        _print(json.dumps([each.to_dict() for each in found], indent=2))
    else:
        _print(as_text(found))
    return 0


def _show(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    where = places(options.runtime_parameter, os.getcwd())
    _print(json.dumps(stores.lineage(where, options.version), indent=2))
    return 0


def _rollback(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    where = places(options.runtime_parameter, os.getcwd())
    new = stores.rollback(where, options.version)
    _print(
        f"version {options.version} is published again as version {new.version}, "
        f"{new.path}"
    )
    if where.remote:
        _print(_AFTER_ROLLBACK)
    elif os.path.isfile(os.path.join(where.output_root, REPORT_FOLDER, REPORT_FILE)):
        _update_report(where)
    return 0


def _update_report(where: Places) -> None:
    """The last run's report says what is in service."""
    try:
        _print(f"report    {write_report_again(where.output_root)}")
    except Exception as error:  # noqa: BLE001 - the rollback is done, whatever is missing
        _print(
            f"the report still says what was in service before ({error}); "
            "`pipeline.py report` writes it again"
        )


def write_report_again(output_root: str) -> str | None:
    """Writes the last finished run's report once more, with what is in service now.

    Returns:
        Path of report.html; None if no run has come to its end.

    Raises:
        HistoryError: The metadata cannot be read.
    """
    with quiet.loading_tensorflow():
        from pipeline.report import collect, render

    metadata = database.path(output_root)
    run_id = collect.latest_run(metadata)
    if run_id is None:
        return None
    config = collect.recorded_facts(metadata, run_id).config
    served = stores.in_service(places_of_run(config, output_root))
    report = collect.collect(metadata, run_id, in_service=served)
    return render.write(report, os.path.join(output_root, REPORT_FOLDER))


def _print(text: str) -> None:
    print(text)  # noqa: T201


def as_text(history: Sequence[Published]) -> str:
    """A table for people, the verdict below each version.

    What others wrote stands there without what could move a terminal's cursor.
    """
    # Here, as elsewhere: every command line waits for what this file imports.
    from pipeline.report import words

    if not history:
        return "nothing was published yet"
    rows = [
        ("version", "published (UTC)", "network", "role", "eval error",
         "95 % interval", "data", "by", "folder"),
    ]  # fmt: skip
    folders = {each.folder for each in history}
    for each in history:
        by = f"rollback to {each.rollback_of}" if each.rollback_of else each.by
        state = "there" if each.exists else "missing"
        state += ", in service" if each.in_service else ""
        if len(folders) > 1:  # of several models, each has a version in service
            state += f", {each.folder}"
        rows.append(
            (
                str(each.version),
                each.pushed[:16].replace("T", " "),
                each.network or "–",
                each.role or "–",
                words.percent(each.eval_error),
                words.interval(each.ci95),
                each.dataset or "–",
                by,
                state,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    for index in reversed(range(len(history))):
        reason = history[index].reason
        if reason:
            lines.insert(index + 2, f"    {reason}")
    return "\n".join(
        "".join(c if c.isprintable() else "?" for c in line) for line in lines
    )
