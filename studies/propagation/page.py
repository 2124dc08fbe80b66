"""The findings as pages for people: HTML with figures, and a table for the terminal.

Plain numbers in (as in the JSON files), text out. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract import whole_file
from pipeline.report import templates
from pipeline.report.looks import LOOKS
from studies.propagation import plan
from studies.propagation.charts import Axis, Points, chart, keys

Json = Mapping[str, Any]

_DEPTH = Axis("share of the units, from the images (0) to the loss (1)")
_UNIT = Axis("unit")


def write(folder: str, name: str, result: Json, html: str) -> str:
    """Writes <name>.json and then report.html; returns the page's path."""
    os.makedirs(folder, exist_ok=True)
    data = json.dumps(result, indent=2, allow_nan=False)
    for file, text in ((f"{name}.json", f"{data}\n"), ("report.html", html)):
        whole_file.write(os.path.join(folder, file), text.encode())
    return os.path.join(folder, "report.html")


def propagation(result: Json) -> str:
    """The page of what needs no training."""
    of = {row["network"]: row for row in result["networks"]}
    depths = {
        network: row
        for network, row in of.items()
        if network in {row.network for row in plan.ROWS}
    }
    figures = [
        _figure(
            "Gradient |dE/dx_l| over that at the last unit's output",
            {name: _relative(row, "gradient") for name, row in depths.items()},
            _DEPTH,
            Axis("", logarithmic=True),
        ),
        _figure(
            "Variance of the activations x_l",
            {name: _relative(row, "variance", 1.0) for name, row in depths.items()},
            _DEPTH,
            Axis("", logarithmic=True),
        ),
        _figure(
            "Growth of the squared gradient per unit, measured over law",
            {
                name: _relative(row, "law", 1.0)
                for name, row in depths.items()
                if row["law_median"] is not None
            },
            _DEPTH,
            Axis(""),
            line_at=1.0,
        ),
        _figure(
            "What a stage's gradient keeps along shortcuts alone: constant scaling",
            {
                f"λ = {factor:g}": _first_stage(of[row.network])
                for factor, row in zip(plan.LAMBDAS, plan.SCALED, strict=True)
                if row.network in of
            },
            _UNIT,
            Axis("", logarithmic=True),
        ),
        _figure(
            "The same with gates at their initial bias",
            {
                _gate_name(row.network): _first_stage(of[row.network])
                for row in plan.GATED
                if row.network in of
            },
            _UNIT,
            Axis("", logarithmic=True),
        ),
        _figure(
            f"{plan.DEEPEST_PLAIN}: gradient over that at the last unit's output",
            {
                f"{'BN' if row['batch_norm'] else 'no BN'}, kernels × {row['factor']:g}": (
                    _relative(row, "gradient")
                )
                for row in result["plain"]
                if row["network"] == plan.DEEPEST_PLAIN
            },
            _DEPTH,
            Axis("", logarithmic=True),
        ),
    ]
    shares = [
        (of[row.network], title)
        for row, title in (
            *((row, f"λ = {factor:g}") for row, factor in zip(
                plan.SCALED, plan.LAMBDAS, strict=True
            )),
            *((row, _gate_name(row.network)) for row in plan.GATED),
        )
        if row.network in of
    ]  # fmt: skip
    return _render(
        "propagation.html.jinja",
        result=result,
        held=sum(each["holds"] for each in result["findings"]),
        figures=figures,
        shares=[
            (title, row["nominal_share"], _end_share(row)) for row, title in shares
        ],
        plan=plan,
    )


def lesions(result: Json) -> str:
    """The page of trained networks."""
    models = result["models"]
    figures = [
        _figure(
            "Error with one unit removed, %",
            {
                model["network"]: _errors(model, "removed")
                for model in models
            },
            _UNIT,
            Axis(""),
        ),
        _figure(
            "Error with a unit and the next one swapped, %",
            {
                model["network"]: _errors(model, "swapped")
                for model in models
            },
            _UNIT,
            Axis(""),
        ),
        *(
            _figure(
                f"Gradient |dE/dx_l| over that at the last unit's output: {model['network']}",
                {
                    "at initialisation": _relative(model["initial"], "gradient"),
                    "trained": _relative(model["trained"], "gradient"),
                },
                _DEPTH,
                Axis("", logarithmic=True),
            )
            for model in models
        ),
        *(
            _figure(
                f"Variance of the activations x_l: {model['network']}",
                {
                    "at initialisation": _relative(model["initial"], "variance", 1.0),
                    "trained": _relative(model["trained"], "variance", 1.0),
                },
                _DEPTH,
                Axis("", logarithmic=True),
            )
            for model in models
        ),
    ]  # fmt: skip
    return _render("lesions.html.jinja", result=result, figures=figures)


def bounds(finding: Json) -> str:
    """What was stated before: "at most 1e-06", "0.9 to 1.1"."""
    low, high = finding["low"], finding["high"]
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def value(number: float | None) -> str:
    """A measured number in three digits."""
    return "–" if number is None else f"{number:.3g}"


def screen(result: Json) -> Any:
    """The findings of `propagation` as a table of rich's."""
    table = _table("network", "claim", "measured", "stated", "")
    for each in result["findings"]:
        table.add_row(
            short(each["about"]),
            each["claim"],
            value(each["value"]),
            bounds(each),
            "[green]✓[/]" if each["holds"] else "[red]✗[/]",
        )
    return table


def lesions_screen(result: Json) -> Any:
    """The trained networks of `lesions` as a table of rich's."""
    table = _table(
        "network", "error", "one removed: median, worst", "swapped: median, worst"
    )
    for model in result["models"]:
        table.add_row(
            model["network"],
            f"{100 * model['error']:.1f} %",
            *(
                "–"
                if not model[kind]
                else f"{100 * middle(model[kind]):.1f} %, {100 * worst(model[kind]):.1f} %"
                for kind in ("removed", "swapped")
            ),
        )
    return table


def middle(rows: Sequence[Json]) -> float:
    """Median error of lesions."""
    errors = sorted(row["error"] for row in rows)
    return (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2


def worst(rows: Sequence[Json]) -> float:
    """The largest one."""
    return max(row["error"] for row in rows)


def short(network: str) -> str:
    """A network's name without the constants that are the same in all rows."""
    return network.replace(":shortcut=constant_scaling", "").replace(
        ":residual_scale=1", ""
    ).replace(":shortcut=", " ").replace(":shortcut_scale=", " λ=").replace(
        ":gate_bias=", " b="
    )  # fmt: skip


def _table(*titles: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(titles):
        table.add_column(title, justify="left" if i < 2 else "right", overflow="fold")
    return table


def _gate_name(network: str) -> str:
    return short(network).split(" ", 1)[1].replace("_", " ")


def _relative(row: Json, key: str, base: float | None = None) -> Points:
    """A signal along the units, over that at the last unit's output."""
    units = row["units"]
    base = row["output_gradient"] if base is None else base
    return [
        (place / (len(units) - 1), unit[key] / base)
        for place, unit in enumerate(units)
        if unit[key] is not None
    ]


def _first_stage(row: Json) -> Points:
    return [
        (place + 1, unit["share"])
        for place, unit in enumerate(row["units"])
        if unit["unit"].startswith("stage1/") and unit["share"] is not None
    ]


def _end_share(row: Json) -> list[float]:
    """|s_l| over the gradient at the stage's end, at each stage's first repeated unit."""
    first = {}
    for unit in row["units"]:
        if unit["share"] is not None:
            first.setdefault(unit["unit"].split("/")[0], unit["share"])
    return list(first.values())


def _errors(model: Json, kind: str) -> Points:
    place = {name: number for number, name in enumerate(model["units"], 1)}
    return [(place[row["units"][0]], 100 * row["error"]) for row in model[kind]]


def _figure(
    title: str,
    series: Mapping[str, Points],
    x: Axis,
    y: Axis,
    line_at: float | None = None,
) -> dict[str, Any]:
    there = {short(name): points for name, points in series.items() if points}
    return {
        "title": title,
        "svg": chart(title, there, x, y, line_at) if there else "",
        "keys": keys([*there]),
    }


def _render(template: str, **values: Any) -> str:
    environment = templates.environment(Path(__file__).parent)
    environment.filters |= {
        "value": value,
        "bounds": bounds,
        "short": short,
        "middle": middle,
        "worst": worst,
    }
    return environment.get_template(template).render(looks=LOOKS.values(), **values)
