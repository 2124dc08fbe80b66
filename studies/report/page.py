"""The findings of a study as one page that needs no other file: report.html."""

from __future__ import annotations

from pathlib import Path

from pipeline.report import templates
from studies.report import curves, words
from studies.report.measure import SEEDS_RULE
from studies.report.result import StudyResult

_TEMPLATE = "page.html.jinja"


def render(result: StudyResult) -> str:
    """The page."""
    environment = templates.environment(Path(__file__).parent)
    return environment.get_template(_TEMPLATE).render(
        result=result,
        words=words,
        reference=result.row(result.reference),
        panels=curves.panels(result),
        seeds_rule=SEEDS_RULE,
        undecided=words.open_claims(result),
    )
