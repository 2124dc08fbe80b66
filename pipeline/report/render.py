"""The report as files: report.json (schema 1) and report.html, one self-contained page.

Plain dictionaries in (collect.py), files out. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from pipeline.console import clock
from pipeline.report import figures

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_ROLES = ("baseline", "candidate")


def write(report: Mapping[str, Any], directory: str) -> str:
    """Writes both files; each appears whole or not at all.

    Args:
        report: As `collect.collect` returns it.
        directory: Folder, made if missing.

    Returns:
        Path of report.html.
    """
    os.makedirs(directory, exist_ok=True)
    public = {key: value for key, value in report.items() if key != "page"}
    text = json.dumps(_finite(public), indent=2, allow_nan=False)
    page_text = html(report)
    _write_whole(os.path.join(directory, "report.json"), text + "\n")
    page = os.path.join(directory, "report.html")
    _write_whole(page, page_text)
    return page


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
        "clock": clock,
        "thousands": lambda number: "–" if number is None else f"{number:,.0f}",
        "signed_points": lambda share: f"{100 * share:+.2f}",
        "json": lambda value: json.dumps(value, indent=2),
    }
    page = report["page"]
    winner = report["decision"]["winner"]
    shown = winner or "candidate"
    drawings = {
        "errors": figures.errors(report["models"]),
        "curves": figures.learning_curves(
            page["histories"],
            {role: report["models"][role]["network"] for role in _ROLES},
        ),
        "balance": figures.class_balance(page["class_counts"], page["classes"]),
        "confusion": (
            figures.confusion_matrix(page["eval"][shown]["confusion"], page["classes"])
            if page["eval"][shown]["confusion"]
            else None
        ),
    }
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        **report, roles=_ROLES, shown=shown, figures=drawings, colours=figures.COLOURS
    )


def percent(share: float | None, digits: int = 2) -> str:
    """A fraction as "3.25 %", or a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


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


def _write_whole(path: str, text: str) -> None:
    descriptor, aside = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".report-")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
