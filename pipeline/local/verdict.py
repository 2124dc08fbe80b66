"""What the terminal says at the end of a run: the models, the verdict, what was published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.console import clock, print_lines
from pipeline.report.words import (
    interval,
    p_only,
    percent,
    percent_in_one_piece,
    points_interval,
    signed_points,
    title,
    wrapped,
)

_NETWORK = 17  # most columns of one; with options it takes several lines


def show(
    out: Any, report: Mapping[str, Any], page: str, predictions: str | None = None
) -> None:
    """Prints it.

    Args:
        out: A rich.console.Console; 80 columns are enough.
        report: As pipeline/report/build.py makes it.
        page: Path of report.html.
        predictions: Path of what the new version answered to a folder, if it was asked.
    """
    decision = report["decision"]
    out.print()
    out.print(_models(report))
    out.print()
    if len(report["differences"]) > 1:
        out.print(_differences(report))
        out.print()
    lines = {
        "verdict": decision["reason"],
        **({"remark": ". ".join(found)} if (found := report["remarks"]) else {}),
        **(
            {"blocked": "; ".join(decision["blocked_by"])}
            if decision["blocked_by"]
            else {}
        ),
        **published_lines(report),
        **({"predicted": predictions} if predictions else {}),
        "report": page,
        "took": clock(report["run"]["seconds"]),
    }
    print_lines(out, lines, prose=("verdict", "remark", "blocked"))
    for sentence in report["data"]["warnings"]:
        print_lines(out, {"warning": sentence}, prose=("warning",), style="yellow")


def _table() -> Any:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _models(report: Mapping[str, Any]) -> Any:
    """A row for each model."""
    table = _table()
    longest = max(len(model["network"]) for model in report["models"].values() if model)
    table.add_column("network", overflow="fold", width=min(longest, _NETWORK))
    table.add_column("role", overflow="fold")
    for heading in ("eval error", "95 % interval", "test error", "training"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, model in report["models"].items():
        if model is None:
            continue
        seconds = model["train_seconds"]
        table.add_row(
            "\n".join(wrapped(model["network"], _NETWORK)),
            title(name),
            percent(model["eval"]["error"]),
            percent_in_one_piece(interval(model["eval"]["ci95"])),
            percent(model["test"]["error"]),
            "–" if seconds is None else clock(seconds),
            style=_style(report, name),
        )
    return table


def _differences(report: Mapping[str, Any]) -> Any:
    """Of several contenders, each against the baseline."""
    table = _table()
    table.add_column("minus baseline", overflow="fold")
    for heading in ("points", "95 % interval", "p", "p after Holm"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in report["differences"].items():
        table.add_row(
            title(name),
            signed_points(found["minus_baseline"]),
            points_interval(found["ci95"]),
            p_only(found["p_value"]),
            p_only(found["holm_p_value"]),
            style=_style(report, name),
        )
    return table


def _style(report: Mapping[str, Any], name: str) -> str:
    return "bold green" if name == report["decision"]["winner"] else ""


def published_lines(report: Mapping[str, Any]) -> dict[str, str]:
    """What this run published, and what is in service if that is something else."""
    pushed, serving = report["pushed"], report["in_service"]
    earlier = any(
        row["id"] == "AtomicPusher" and row["cached"] for row in report["components"]
    )
    if pushed and serving and serving["version"] == pushed["version"]:
        # A pusher that ran again for the model in service published nothing.
        earlier |= serving["pushed"] < report["run"]["started"]
    if not pushed:
        lines = {"pushed": "nothing"}
    elif earlier:
        lines = {
            "pushed": f"nothing new; version {pushed['version']} was pushed by an "
            "earlier run"
        }
    else:
        lines = {"pushed": f"version {pushed['version']}, {pushed['path']}"}
        if serving and serving["version"] == pushed["version"]:
            return lines
    if serving:
        of = serving["rollback_of"]
        by = f", a rollback to {of}" if of else ""
        lines["serving"] = f"version {serving['version']}{by}, {serving['path']}"
    return lines
