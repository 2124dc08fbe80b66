"""What the terminal says at a run's end, at 80 columns."""

import io

import pytest
from rich.console import Console

from pipeline.local import verdict
from tests.pipeline.report import forms


def shown(report) -> list[str]:
    """The lines of both tables."""
    written = io.StringIO()
    verdict.show(Console(file=written, width=80), report, "/x/report.html")
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    return lines[
        : next(n for n, line in enumerate(lines) if line.startswith("verdict"))
    ]


@pytest.mark.parametrize(
    "form",
    ["plain numbers", "in service stays", "three contenders", "seven contenders"],
)
def test_no_number_is_cut_at_80_columns(form):
    report = forms.all_forms()[form]
    lines = shown(report)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for model in filter(None, report["models"].values()):
        if model["eval"]["error"] is not None:
            assert f"{100 * model['eval']['error']:.2f} %" in text
            assert f"{100 * model['test']['error']:.2f} %" in text
    assert "…" not in text
    assert text.count("10:01:01 h") == sum(
        bool(model) and model["train_seconds"] == 36_061.0
        for model in report["models"].values()
    )


def test_of_two_contenders_the_verdict_says_what_there_is_to_say_of_the_difference():
    assert not any("Holm" in line for line in shown(forms.report()))


def test_of_more_each_is_held_against_the_baseline():
    report = forms.with_more(forms.report(), {"wide": "preact_resnet14"})
    lines = shown(report)
    (start,) = (n for n, line in enumerate(lines) if "p after Holm" in line)
    pairs = report["comparison"]["eval"].pairs
    for line, name in zip(lines[start + 1 :], ("candidate", "wide"), strict=False):
        found = pairs[name, "baseline"]
        points = f"{100 * found.difference:+.2f}".replace("-", "−")
        assert line.split()[:2] == [name, points.replace("+0.00", "0.00")]
        assert line.split()[-2:] == [
            f"{found.p_value:.3f}",
            f"{found.holm_p_value:.3f}",
        ]
