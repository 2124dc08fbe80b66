"""The report as files: report.json (schema 1), report.html and pictures to try.

In: the dictionary that build.py makes. Out: files. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from components.model_chooser import choice
from components.model_chooser.choice import p_value
from contract.comparison import (
    BASELINE,
    CANDIDATE,
    IN_SERVICE,
    Comparison,
    ErrorRate,
    Slice,
)
from contract.contenders import in_order
from contract.records import PAGE_FILE, PICTURES_FOLDER, REPORT_FILE
from pipeline.console import clock
from pipeline.nodes import KINDS
from pipeline.report import figures

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
TITLES = {
    BASELINE: "baseline",
    CANDIDATE: "candidate",
    IN_SERVICE: "in service",
    None: "nobody",
}


def write(report: Mapping[str, Any], directory: str) -> str:
    """Writes both files and the pictures; each appears whole or not at all.

    Args:
        report: As `build.build` returns it.
        directory: Local folder, made if missing.

    Returns:
        Path of report.html.
    """
    texts = files(report)
    pictures = os.path.join(directory, PICTURES_FOLDER)
    shutil.rmtree(pictures, ignore_errors=True)  # perhaps another data set's
    os.makedirs(pictures)
    for name, uri in report["page"]["pictures"].items():
        content = base64.b64decode(uri.partition(",")[2])
        _write_whole(os.path.join(pictures, f"{name}.png"), content)
    for name, text in texts.items():
        _write_whole(os.path.join(directory, name), text.encode())
    return os.path.join(directory, PAGE_FILE)


def files(report: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of both files; the page, which people look at, comes last."""
    public = {key: value for key, value in report.items() if key != "page"} | {
        "comparison": {
            split: compared.plain() for split, compared in report["comparison"].items()
        }
    }
    data = json.dumps(_finite(public), indent=2, allow_nan=False)
    return {REPORT_FILE: data + "\n", PAGE_FILE: html(report)}


def html(report: Mapping[str, Any]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "clock": lambda seconds: _in_one_piece(clock(seconds)),
        "thousands": number,
        "signed_points": signed_points,
        "p_value": lambda value: _in_one_piece(p_value(value)),
        "unbroken": lambda text: text.replace(" %", "\u00a0%"),
        "name": _breakable,
        "node_title": _node_title,
        "moment": lambda text: f"{text[:10]} {text[11:16]} UTC",
        "json": lambda value: json.dumps(value, indent=2),
        "number": number,
    }
    page = report["page"]
    winner = report["decision"]["winner"]
    shown = winner or "candidate"
    roles = [role for role in in_order([*report["models"]]) if report["models"][role]]
    networks = {role: report["models"][role]["network"] for role in roles}
    compared: Comparison = report["comparison"]["eval"]
    measured = {role: model.measured for role, model in compared.models.items()}
    pairs = {
        role: compared.pairs.get((role, IN_SERVICE)) for role in compared.contenders
    }
    confusion = found.confusion if (found := measured.get(shown)) else None
    classes = page["classes"]
    drawings = {
        "errors": figures.errors(report["models"]),
        "curves": figures.learning_curves(page["histories"], networks),
        "balance": figures.class_balance(page["class_counts"], classes),
        "reliability": figures.reliability(
            {
                role: found.reliability if (found := measured.get(role)) else None
                for role in roles
            },
            networks,
        ),
        "confusion": (
            figures.confusion_matrix(confusion, classes) if confusion else None
        ),
    }
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        **report,
        roles=roles,
        titles=TITLES,
        shown=shown,
        figures=drawings,
        lines=figures.LINES,
        contenders=[role for role in roles if role in page["histories"]],
        named=figures.NAMED,
        lead=lead(report),
        against_service={role: pair for role, pair in pairs.items() if pair},
        # Vertex AI tells a component neither.
        timed=any(row["seconds"] is not None for row in report["components"]),
        numbered=any(row["id"] is not None for row in page["artifacts"]),
        measured=_measured(report, roles),
        confused=[
            (classes[row], classes[column], count)
            for row, column, count in figures.most_confused(confusion or [])
        ],
        slices=worst_slices(compared, classes),
    )


def _measured(
    report: Mapping[str, Any], roles: Sequence[str]
) -> dict[str, dict[str, tuple[str, str]]]:
    """The table of results: what was measured -> role -> value and its interval.

    A row that nobody has a value in is left out.
    """

    def rate(found: Mapping[str, Any] | None) -> tuple[str, str]:
        if not found or found["error"] is None:
            return "–", ""
        return percent(found["error"]), interval(found["ci95"]).replace(" %", "\u00a0%")

    def column(role: str) -> dict[str, tuple[str, str]]:
        model = report["models"][role]
        published = report["published"].get(role)
        seconds = model["train_seconds"]
        took = "–" if seconds is None else _in_one_piece(clock(seconds))
        return {
            "eval error": rate(model["eval"]),
            "top-5 error": rate(model["top5"]),
            "test error": rate(model["test"]),
            "published test error": (
                percent(published["error"] if published else None),
                "",
            ),
            "cross-entropy": (
                number(model["cross_entropy"], 3),
                bounds(model["cross_entropy_ci95"]),
            ),
            "calibration error": (number(model["ece"], 3), bounds(model["ece_ci95"])),
            "time for one image": (number(model["latency_ms"], 1, " ms"), ""),
            "parameters": (number(model["parameters"]), ""),
            "training": (took, ""),
            "images/s in training": (number(model["images_per_second"]), ""),
        }

    columns = {role: column(role) for role in roles}
    return {
        title: {role: columns[role][title] for role in roles}
        for title in columns[roles[0]]
        if any(columns[role][title][0] != "–" for role in roles)
    }


def _in_one_piece(text: str) -> str:
    """A number and its unit stay on one line."""
    return text.replace(" ", "\u00a0")


def _breakable(name: str) -> markupsafe.Markup:
    """A long name may be broken after each underscore or equals sign."""
    return markupsafe.Markup("<wbr>").join(re.split("(?<=[_=])", name))


def _node_title(node_id: str) -> str:
    """What a node is; nothing of a node that another release of the project had."""
    return next((kind.title for kind in KINDS.values() if kind.has(node_id)), "")


def lead(report: Mapping[str, Any]) -> str:
    """The decision as a short paragraph for people who do not read tables."""
    winner, pushed = report["decision"]["winner"], report["pushed"]
    models = report["models"]
    if winner == "in_service":
        return f"The model in service, {models[winner]['network']}, stays."
    if winner is None:
        return "No model is good enough to be published."
    name = f"The {winner}, {models[winner]['network']},"
    error = percent(models[winner]["eval"]["error"], 1)
    if pushed:
        served = models["in_service"]
        instead = (
            f" It replaces {served['network']} ({percent(served['eval']['error'], 1)})."
            if served
            else " Nothing was in service before."
        )
        return (
            f"{name} wins with {error} errors and is published as version "
            f"{pushed['version']}.{instead}"
        )
    return f"{name} wins with {error} errors, but failed when it was tried in a server."


def worst_slices(
    comparison: Comparison, classes: Sequence[str], most: int = 12
) -> list[dict[str, Any]]:
    """The slices on which the contenders err most, by the worse of them on each.

    Returns:
        For each slice: name, examples, role -> error entry, and the paired difference of
        candidate and baseline with its interval, or None.
    """
    found: dict[Slice, dict[str, ErrorRate]] = {}
    for role, model in comparison.models.items():
        for part, rate in model.measured.slices.items() if model.measured else ():
            found.setdefault(part, {})[role] = rate
    pair = comparison.pairs.get((CANDIDATE, BASELINE))

    def worst(part: Slice) -> float:
        """How a model errs that may be replaced says little about what replaces it."""
        rates = found[part].items()
        return max(
            (rate.error for role, rate in rates if role != IN_SERVICE), default=0
        )

    return [
        {
            "name": part.words(classes),
            "examples": max(rate.examples for rate in found[part].values()),
            "models": found[part],
            "difference": pair.slices.get(part) if pair else None,
        }
        for part in sorted(found, key=worst, reverse=True)[:most]
    ]


def percent(share: float | None, digits: int = 2) -> str:
    """A fraction as "3.25 %", or a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def signed_points(share: float) -> str:
    """A difference of fractions in percentage points: "+1.39", "−0.40", "0.00"."""
    # A minus is as wide as a plus.
    return choice.signed_points(share).replace("-", "−")


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Like "1,234" or "1.5 ms"; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def bounds(pair: Sequence[float] | None) -> str:
    """Two numbers as "0.400 to 0.600"; nothing where there are none."""
    return "" if pair is None else f"{pair[0]:.3f} to {pair[1]:.3f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Two fractions as "2.9 to 3.6 %"."""
    if bounds is None:
        return "–"
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number becomes null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_whole(path: str, content: bytes) -> None:
    descriptor, aside = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".report-")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
