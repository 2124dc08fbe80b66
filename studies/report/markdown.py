"""The findings of a study as Markdown: report.md, and a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from studies.report import words
from studies.report.measure import SEEDS_RULE
from studies.report.result import StudyResult


def render(result: StudyResult) -> str:
    """The whole report but for its curves."""
    return f"# {words.heading(result)}\n\n{findings(result)}"


def findings(result: StudyResult) -> str:
    """What was found, without a heading."""
    parts = [
        f"{result.question} After {result.source}.",
        f"{words.size(result)}. {words.hours(result.seconds)} of training; report written "
        f"on {result.machine or 'an unknown machine'}, commit {result.commit or 'unknown'}.",
    ]
    if result.scale == "small":
        parts.append(
            "**Small scale**: the depths are the published ones, images and trainings are "
            "not. Errors are not comparable with the published ones, their order is."
        )
    reference = result.row(result.reference).title
    parts += [
        "## Claims, stated before",
        table(
            ("claim", "difference, points [95 %]", "p after Holm", "verdict"),
            [
                (
                    f"{claim.text} ({words.rule(claim, result)})",
                    words.difference(claim.difference),
                    words.p_value(claim.holm_p_value),
                    f"**{claim.verdict}**",
                )
                for claim in result.claims
            ],
        ),
        SEEDS_RULE,
        "## Rows",
        table(
            (
                "row", "published, %", "median, %", "mean ± deviation",
                f"minus {reference}, points [95 %]", "training error, %", "parameters",
                "remarks",
            ),
            [
                (
                    row.title,
                    words.published(row),
                    words.measured(row),
                    words.spread(row),
                    words.difference(row.difference),
                    words.percent(row.train_error),
                    f"{row.parameters or 0:,}",
                    words.remarks(row),
                )
                for row in result.rows
            ],
        ),
        _method(result),
    ]  # fmt: skip
    if result.left_out:
        parts.append("Left out: " + "; ".join(result.left_out) + ".")
    if result.note:
        parts.append(f"Besides: {result.note}.")
    return "\n\n".join(parts) + "\n"


def _method(result: StudyResult) -> str:
    methods = sorted({claim.difference.method for claim in result.claims})
    said = f" ({'; '.join(methods)})" if methods else ""
    return (
        f"Differences are of the same seeds{said}. A training that diverged counts with the "
        f"error of guessing, {words.percent(result.chance_error)} %. Training errors are of "
        "the last tenth of the steps, on augmented images, in training mode."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar in a cell is written so that it ends none."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "---|" * len(head)
    return "\n".join([line(head), rule, *map(line, rows)])
