"""The plan as data, the findings as pages and tables, the command line."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from studies.propagation import charts, page, plan
from trainer.units import parse_network

PROJECT = Path(__file__).parents[2]


def test_every_row_is_a_network_and_no_bounds_are_empty():
    rows = (*plan.ROWS, *plan.SCALED, *plan.GATED)
    names = [row.network for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        parse_network(row.network)
        assert row.law is None or row.law[0] < 1 < row.law[1]
    scales = [parse_network(row.network) for row in plan.SCALED]
    assert [spec.shortcut_scale for spec in scales] == list(plan.LAMBDAS)
    assert {spec.residual_scale for spec in scales} == {1.0}


@pytest.mark.parametrize(
    ("value", "low", "high", "holds"),
    [
        (1.0, 0.9, 1.1, True),
        (1.2, 0.9, 1.1, False),
        (0.5, None, 0.5, True),
        (0.6, None, 0.5, False),
        (0.5, 1.0, None, False),
        (float("nan"), None, 1.0, False),
        (float("nan"), 0.0, None, False),
    ],
)
def test_a_claim_holds_within_its_bounds(value, low, high, holds):
    finding = plan.Finding(about="a", claim="b", value=value, low=low, high=high)
    assert finding.holds is holds


def unit(name: str, gradient: float, share: float | None) -> dict:
    return {
        "unit": name,
        "variance": 2.0,
        "gradient": gradient,
        "along": share,
        "share": share,
        "law": None if share is None else 0.97,
    }


def units() -> list[dict]:
    return [
        unit(f"stage{stage}/unit{n}", 10.0 * n, None if n == 1 else 0.25 * n)
        for stage in (1, 2, 3)
        for n in (1, 2, 3)
    ]


def network(name: str) -> dict:
    return {
        "network": name,
        "seconds": 1.0,
        "output_gradient": 0.1,
        "law_median": 0.97,
        "nominal_share": 0.5,
        "units": units(),
    }


@pytest.fixture
def result() -> dict:
    return {
        "schema": 1,
        "images": 16,
        "seed": 1,
        "machine": "<loom>",
        "seconds": 12.0,
        "networks": [
            network(row.network) for row in (*plan.ROWS, *plan.SCALED, *plan.GATED)
        ],
        "plain": [
            {
                "network": row.network,
                "batch_norm": row.batch_norm,
                "factor": row.factor,
                "ratio": 123.0,
                "output_gradient": 0.1,
                "units": units(),
            }
            for row in plan.PLAIN
        ],
        "smallest": [{"weight": 0.5, "plain": 0.125, "batch_norm": 1, "shortcut": 3.4}],
        "findings": [
            {
                "about": "preact_resnet110",
                "claim": "Eq. 4 holds",
                "value": 3.2e-7,
                "low": None,
                "high": 1e-5,
                "exact": True,
                "holds": True,
            },
            {
                "about": "preact_resnet1001",
                "claim": "median of measured over law",
                "value": 1.34,
                "low": 0.8,
                "high": 1.2,
                "exact": False,
                "holds": False,
            },
        ],
    }


def model() -> dict:
    signals = {"output_gradient": 0.1, "units": units()}
    names = [each["unit"] for each in units()]
    return {
        "contender": "candidate",
        "network": "preact_resnet20",
        "units": names,
        "error": 0.1,
        "removed": [{"units": [name], "error": 0.2} for name in names],
        "swapped": [{"units": names[1:3], "error": 0.3}],
        "initial": signals,
        "trained": signals,
    }


@pytest.fixture
def injured() -> dict:
    return {
        "schema": 1,
        "run": "r1",
        "dataset": "digits",
        "images": 1000,
        "signal_images": 64,
        "machine": "m",
        "seconds": 3.0,
        "models": [model()],
    }


def check_page(html: str) -> None:
    assert not re.search(r"https?://(?!www\.w3\.org)", html)  # nothing is fetched
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    drawings = re.findall(r'<svg class="chart"[^>]*>', html)
    assert drawings
    told = [re.search(r'role="img" aria-label="[^"]{20,}"', each) for each in drawings]
    assert all(told)
    # Every colour that is used is one of the page's.
    used = set(re.findall(r"var\((--\w+)\)", html))
    assert used <= set(re.findall(r"(--\w+):", html))


def test_the_page_tells_every_claim_and_whether_it_holds(result):
    html = page.propagation(result)
    check_page(html)
    assert "1 of 2 claims hold" in html and "&lt;loom&gt;" in html
    rows = re.findall(r"<tr>.*?</tr>", html, flags=re.DOTALL)
    (good,) = (row for row in rows if "Eq. 4 holds" in row)
    (bad,) = (row for row in rows if "measured over law" in row)
    assert "✓ holds" in good and "at most 1e-05" in good and "3.2e-07" in good
    assert "✗ does not hold" in bad and "0.8 to 1.2" in bad and "1.34" in bad


def test_the_page_of_lesions(injured):
    html = page.lesions(injured)
    check_page(html)
    assert "10.0 % errors" in html and "20.0 % (median)" in html


def test_a_network_without_lesions_has_a_page(injured):
    injured["models"][0] |= {"removed": [], "swapped": []}
    check_page(page.lesions(injured))


def test_the_terminal_shows_the_same(result, injured):
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=120)
    console.print(page.screen(result))
    console.print(page.lesions_screen(injured))
    text = file.getvalue()
    assert "1.34" in text and "0.8 to 1.2" in text and "✗" in text and "✓" in text
    assert "20.0 %, 20.0 %" in text


def test_files_are_whole_and_strict_json(result, tmp_path):
    path = page.write(str(tmp_path / "a"), "propagation", result, "<html>")
    assert Path(path).read_text() == "<html>"
    assert json.loads((tmp_path / "a" / "propagation.json").read_text()) == result
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "propagation.json",
        "report.html",
    ]
    with pytest.raises(ValueError, match="JSON"):
        page.write(str(tmp_path / "b"), "propagation", {"v": float("inf")}, "")


def test_a_chart_puts_its_numbers_where_the_axis_says():
    svg = charts.chart(
        "n",
        {"a": [(0, 1), (1, 100)], "zero": [(0, 0.0), (1, 1)]},
        charts.Axis("x"),
        charts.Axis("y", logarithmic=True),
    )
    points = re.findall(r'points="([^"]*)"', svg)
    (x0, y0), (x1, y1) = (p.split(",") for p in points[0].split())
    assert float(x0) < float(x1) and float(y0) > float(y1)
    assert len(points[1].split()) == 1  # zero has no logarithm
    assert "from 1 at 0 to 100 at 1" in svg
    grid = [float(y) for y in re.findall(r'class="grid"[^>]* y1="([\d.]+)"', svg)]
    assert float(y0) == max(grid) and float(y1) == min(grid)  # 10^0 and 10^2 are ticks


def test_a_flat_line_and_a_single_point_are_drawn():
    for points in ([(0, 3.0), (1, 3.0)], [(0, 3.0)], [(0, 0.0)]):
        svg = charts.chart("n", {"a": points}, charts.Axis("x"), charts.Axis("y"))
        assert "nan" not in svg and "<polyline" in svg


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lesions", "--images=0"], "--images=0: must be at least 1"),
        (["surgery"], "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(arguments, words):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "studies.propagation", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and words in done.stderr
    loaded = re.findall(r"\|\s+(tensorflow|tfx|keras)\s*$", done.stderr, re.MULTILINE)
    assert not loaded
