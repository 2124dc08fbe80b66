"""Numbers and names as the report writes them for people."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from components.model_chooser import choice
from contract.comparison import BASELINE, CANDIDATE, IN_SERVICE
from pipeline.console import clock

# fmt: off
_NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)
# fmt: on


def title(name: str) -> str:
    """Which model it is: "baseline", "in service", or a contender's own name."""
    return "in service" if name == IN_SERVICE else name


def called(name: str) -> str:
    """The same within a sentence: "the baseline", "contender wide"."""
    if name == IN_SERVICE:
        return "the model in service"
    return f"the {name}" if name in (BASELINE, CANDIDATE) else f"contender {name}"


def capital(text: str) -> str:
    """With a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def count(number: int) -> str:
    """A small number as a word."""
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"


def wrapped(name: str, width: int) -> list[str]:
    """A name in lines: broken between its parts, or anywhere if it must be."""
    found: list[str] = []
    for part in re.split("(?<=[_:=])", name):
        if found and len(found[-1] + part) <= width:
            found[-1] += part
        else:
            found += textwrap.wrap(part, width)
    return found


def percent(share: float | None, digits: int = 2) -> str:
    """A fraction as "3.25 %", or a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def signed_points(share: float) -> str:
    """A difference of fractions in percentage points: "+1.39", "−0.40", "0.00"."""
    # A minus is as wide as a plus.
    return choice.signed_points(share).replace("-", "−")


def points_interval(bounds: Sequence[float]) -> str:
    """Two differences in percentage points: "−0.40 to +1.39"."""
    return f"{signed_points(bounds[0])} to {signed_points(bounds[1])}"


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Like "1,234" or "1.5 ms"; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def bounds(pair: Sequence[float] | None) -> str:
    """Two numbers as "0.400 to 0.600"; nothing where there are none."""
    return "" if pair is None else f"{pair[0]:.3f} to {pair[1]:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Two fractions as "2.9 to 3.6 %"."""
    if bounds is None:
        return "–"
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def p_value(value: float) -> str:
    """Like "p = 0.125", "p < 0.001"."""
    return choice.p_value(value)


def p_only(value: float) -> str:
    """The same in a column of such values: "0.125", "< 0.001"."""
    return p_value(value).removeprefix("p ").removeprefix("= ")


def duration(seconds: float | None) -> str:
    """Like "12.5 s" or "3:39 min"; a dash where it is not known."""
    return "–" if seconds is None else in_one_piece(clock(seconds))


def in_one_piece(text: str) -> str:
    """A number and its unit stay on one line."""
    return text.replace(" ", "\u00a0")


def percent_in_one_piece(text: str) -> str:
    """In a sentence, a percentage stays on one line."""
    return text.replace(" %", "\u00a0%")
