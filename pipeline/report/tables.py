"""The page's tables: what was measured, differences, slices.

In: the dictionary that build.py makes. Out: rows of texts and numbers for the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract.comparison import (
    BASELINE,
    IN_SERVICE,
    Comparison,
    Difference,
    ErrorRate,
    Slice,
)
from pipeline.report.words import (
    bounds,
    duration,
    interval,
    number,
    percent,
    percent_in_one_piece,
)

_EVAL, _TOP5, _TEST, _PUBLISHED = (
    "eval error",
    "top-5 error",
    "test error",
    "published test error",
)
_ENTROPY, _ECE, _LATENCY = "cross-entropy", "calibration error", "time for one image"
_PARAMETERS, _TOOK, _SPEED = "parameters", "training", "images/s in training"
# Of many models each has a row, and a telephone has room for four columns.
_GROUPS = {
    "Errors": (_EVAL, _TOP5, _TEST, _PUBLISHED),
    "Probabilities and time": (_ENTROPY, _ECE, _LATENCY),
    "Size and training": (_PARAMETERS, _TOOK, _SPEED),
}
# Most models of which each has a column.
MOST_COLUMNS = 3

# What was measured -> model's name -> value and its interval.
Measured = dict[str, dict[str, tuple[str, str]]]


def measured(report: Mapping[str, Any], names: Sequence[str]) -> Measured:
    """The table of results; what nobody has a value in is left out."""

    def rate(found: Mapping[str, Any] | None) -> tuple[str, str]:
        if not found or found["error"] is None:
            return "–", ""
        return percent(found["error"]), percent_in_one_piece(interval(found["ci95"]))

    def column(name: str) -> dict[str, tuple[str, str]]:
        model = report["models"][name]
        published = report["published"].get(name)
        return {
            _EVAL: rate(model["eval"]),
            _TOP5: rate(model["top5"]),
            _TEST: rate(model["test"]),
            _PUBLISHED: (percent(published["error"] if published else None), ""),
            _ENTROPY: (
                number(model["cross_entropy"], 3),
                bounds(model["cross_entropy_ci95"]),
            ),
            _ECE: (number(model["ece"], 3), bounds(model["ece_ci95"])),
            _LATENCY: (number(model["latency_ms"], 1, " ms"), ""),
            _PARAMETERS: (number(model["parameters"]), ""),
            _TOOK: (duration(model["train_seconds"]), ""),
            _SPEED: (number(model["images_per_second"]), ""),
        }

    columns = {name: column(name) for name in names}
    return {
        title: {name: columns[name][title] for name in names}
        for title in columns[names[0]]
        if any(columns[name][title][0] != "–" for name in names)
    }


def grouped(results: Measured) -> dict[str, Measured]:
    """The same as several narrow tables, by their captions."""
    groups = {
        caption: {title: results[title] for title in titles if title in results}
        for caption, titles in _GROUPS.items()
    }
    return {caption: rows for caption, rows in groups.items() if rows}


def differences(comparison: Comparison, to: str) -> dict[str, Difference]:
    """Contender -> its difference to the baseline, or to the model in service."""
    return {
        name: found
        for name in comparison.contenders
        if (found := comparison.pairs.get((name, to)))
    }


def worst_slices(
    comparison: Comparison,
    names: Sequence[str],
    rival: str,
    most: int = 12,
) -> list[dict[str, Any]]:
    """The slices on which the contenders err most, by the worse of them on each.

    Args:
        comparison: On the eval split.
        names: The models to show.
        rival: Whose difference to the baseline is shown.
        most: So many slices at most.

    Returns:
        For each slice: what it is, examples, name -> error entry, and the paired
        difference of rival and baseline with its interval, or None.
    """
    found: dict[Slice, dict[str, ErrorRate]] = {}
    for name in names:
        measured = comparison.models[name].measured
        for part, rate in measured.slices.items() if measured else ():
            found.setdefault(part, {})[name] = rate
    pair = comparison.pairs.get((rival, BASELINE))

    def worst(part: Slice) -> float:
        """How a model errs that may be replaced says little about what replaces it."""
        rates = found[part].items()
        return max(
            (rate.error for name, rate in rates if name != IN_SERVICE), default=0
        )

    return [
        {
            "name": part.words(comparison.class_names),
            "examples": max(rate.examples for rate in found[part].values()),
            "models": found[part],
            "difference": pair.slices.get(part) if pair else None,
        }
        for part in sorted(found, key=worst, reverse=True)[:most]
    ]
