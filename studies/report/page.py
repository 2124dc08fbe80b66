"""The findings of a study as one page that needs no other file: report.html."""

from __future__ import annotations

from pathlib import Path

import jinja2

from studies.report import curves, words
from studies.report.measure import SEEDS_RULE
from studies.report.result import StudyResult

_TEMPLATE = "page.html.jinja"


def render(result: StudyResult) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        result=result,
        words=words,
        reference=result.row(result.reference),
        panels=curves.panels(result),
        seeds_rule=SEEDS_RULE,
        undecided=words.open_claims(result),
    )
