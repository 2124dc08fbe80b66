"""The page for people: alarms, tests, accuracy, and the most unusual images of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2

from monitoring import words
from monitoring.monitor import Report

_TEMPLATE = "page.html.jinja"


def render(report: Report, pictures: Mapping[str, Sequence[str]]) -> str:
    """The page, one file that needs no other.

    Args:
        report: What is told.
        pictures: By version, data URLs in the order of `unusual`; none: without pictures.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        report=report,
        pictures=pictures,
        made=words.clock(report.made),
        title=words.title,
        clock=words.clock,
        unknown=words.unknown,
    )
