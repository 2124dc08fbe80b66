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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import markupsafe

from contract import whole_file
from contract.comparison import BASELINE, IN_SERVICE, Comparison
from contract.contenders import in_order
from contract.records import PAGE_FILE, PICTURES_FOLDER, REPORT_FILE
from contract.sentences import enumeration
from pipeline.nodes import KINDS
from pipeline.report import figures, looks, selection, tables, templates, words
from pipeline.report.words import percent

_TEMPLATE = "page.html.jinja"
_NUMBER = r"(?:-?\d[\d.eE+-]*|null)"
_NUMBERS = re.compile(rf"\[\n\s+({_NUMBER}(?:,\n\s+{_NUMBER})*)\n\s+\]")


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
    for number, (name, uri) in enumerate(report["page"]["pictures"].items()):
        content = base64.b64decode(uri.partition(",")[2])
        file = f"{_as_file_name(name, number)}.png"
        whole_file.write(os.path.join(pictures, file), content)
    for name, text in texts.items():
        whole_file.write(os.path.join(directory, name), text.encode())
    return os.path.join(directory, PAGE_FILE)


def _as_file_name(name: str, number: int) -> str:
    """The name of a class; one that leads elsewhere, or could be no file, is its number."""
    plain = re.fullmatch(r"\w[\w .+-]*", name) and len(name.encode()) < 200
    return name if plain else f"class {number}"


def files(report: Mapping[str, Any]) -> dict[str, str]:
    """Name -> text of both files; the page, which people look at, comes last."""
    public = {key: value for key, value in report.items() if key != "page"} | {
        "comparison": {
            split: compared.plain() for split, compared in report["comparison"].items()
        }
    }
    data = json.dumps(_finite(public), indent=2, allow_nan=False)
    # A row of a confusion matrix is a line: with a line for each number the report of 1,000
    # classes has 70 MB. No string of JSON holds a line break.
    data = _NUMBERS.sub(lambda row: "[" + re.sub(r"\n\s+", " ", row[1]) + "]", data)
    return {REPORT_FILE: data + "\n", PAGE_FILE: html(report)}


def html(report: Mapping[str, Any]) -> str:
    """The page as text."""
    environment = templates.environment(Path(__file__).parent)
    environment.filters |= {
        "percent": words.percent,
        "interval": words.interval,
        "clock": words.duration,
        "thousands": words.number,
        "signed_points": words.signed_points,
        "points_interval": words.points_interval,
        "p_value": lambda value: words.in_one_piece(words.p_value(value)),
        "unbroken": words.percent_in_one_piece,
        "name": _breakable,
        "node_title": _node_title,
        "moment": lambda text: f"{text[:10]} {text[11:16]} UTC",
        "json": lambda value: json.dumps(value, indent=2),
        "number": words.number,
        "called": words.called,
        "capital": words.capital,
        "p_only": lambda value: words.in_one_piece(words.p_only(value)),
        "double": lambda length: f"{2 * length:g}",
        "count": words.count,
        "enumeration": enumeration,
    }
    return environment.get_template(_TEMPLATE).render(**report, **_shown(report))


def _shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs beside the report itself."""
    page, models = report["page"], report["models"]
    winner = report["decision"]["winner"]
    compared: Comparison = report["comparison"]["eval"]
    names = [name for name in in_order([*models]) if models[name]]
    contenders = [name for name in names if name != IN_SERVICE]
    rival = selection.rival(compared, winner)
    shown = winner or rival
    drawn = selection.drawn(compared, winner)
    many = len(names) > tables.MOST_COLUMNS
    in_figures = {
        name: figures.Drawn(
            network=models[name]["network"],
            title=words.title(name),
            look=look,
            short=many,
        )
        for name, look in looks.assigned(drawn).items()
    }
    in_slices = (
        [n for n in names if n in (BASELINE, rival, IN_SERVICE)] if many else names
    )
    measured = {name: model.measured for name, model in compared.models.items()}
    confusion = found.confusion if (found := measured.get(shown)) else None
    classes = page["classes"]
    results = tables.measured(report, names)
    differences = {
        to: tables.differences(compared, to) for to in (BASELINE, IN_SERVICE)
    }
    return {
        "names": names,
        "titles": {name: words.title(name) for name in names},
        "contenders": contenders,
        "heading": _heading([models[name]["network"] for name in contenders]),
        "lead": lead(report),
        "rival": rival,
        "pair": compared.pairs.get((rival, BASELINE)),
        "shown": shown,
        "results": tables.grouped(results) if many else {"": results},
        "many": many,
        "against": differences,
        "in_slices": in_slices,
        "by_size": any(
            part.feature == "size"
            for found in measured.values()
            if found
            for part in found.slices
        ),
        "slices": tables.worst_slices(compared, in_slices, rival),
        "confused": [
            (classes[row], classes[column], count)
            for row, column, count in figures.most_confused(confusion or [])
        ],
        "drawn": in_figures,
        "trained": [name for name in drawn if name != IN_SERVICE],
        "left_out": [name for name in contenders if name not in drawn],
        "looks": looks.LOOKS.values(),
        "split_curves": len(page["histories"]) > figures.TOGETHER,
        "figures": {
            "errors": figures.errors(models, in_figures),
            "differences": [
                figures.differences(
                    {
                        name: (found.difference, found.ci95)
                        for name, found in pairs.items()
                    },
                    in_figures,
                    words.called(to),
                )
                for to, pairs in differences.items()
                if pairs
            ],
            "curves": figures.learning_curves(
                {n: page["histories"][n] for n in drawn if n != IN_SERVICE}, in_figures
            ),
            "reliability": figures.reliability(
                {
                    n: found.reliability if (found := measured[n]) else None
                    for n in drawn
                },
                in_figures,
            ),
            "confusion": (
                figures.confusion_matrix(confusion, classes) if confusion else None
            ),
            "balance": figures.class_balance(page["class_counts"], classes),
        },
        "named": figures.NAMED,
        # Vertex AI tells a component neither.
        "timed": any(row["seconds"] is not None for row in report["components"]),
        "numbered": any(row["id"] is not None for row in page["artifacts"]),
    }


def _heading(networks: Sequence[str]) -> str:
    """The contenders' networks, the baseline's first."""
    baseline, *others = networks
    if len(others) > 2:
        return f"{baseline} against {words.count(len(others))} other networks"
    return f"{baseline} against {enumeration(others)}"


def _breakable(name: str) -> markupsafe.Markup:
    """A long name may be broken after each underscore, colon or equals sign."""
    return markupsafe.Markup("<wbr>").join(re.split(r"(?<=[_:=])(?=\w)", name))


def _node_title(node_id: str) -> str:
    """What a node is; nothing of a node that another release of the project had."""
    return next((kind.title for kind in KINDS.values() if kind.has(node_id)), "")


def lead(report: Mapping[str, Any]) -> str:
    """The decision as a short paragraph for people who do not read tables."""
    winner, pushed = report["decision"]["winner"], report["pushed"]
    models = report["models"]
    if winner == IN_SERVICE:
        return f"The model in service, {models[winner]['network']}, stays."
    if winner is None:
        return "No model is good enough to be published."
    name = words.capital(f"{words.called(winner)}, {models[winner]['network']},")
    error = percent(models[winner]["eval"]["error"], 1)
    if pushed:
        served = models[IN_SERVICE]
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


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number becomes null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
