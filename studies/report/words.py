"""How the findings of a study are said, on the page, in Markdown and in the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract.datasets import DATASETS
from contract.sentences import enumeration
from studies.report.result import ClaimResult, Difference, RowResult, StudyResult

METRICS = {"test_error": "test error", "train_error": "training error"}
STATES = {
    "fail": "fail (above 20 %)",
    "diverged": "diverged",
    "at chance": "has not left chance in so short a training",
}


def percent(share: float) -> str:
    """Like "8.17"."""
    return f"{100 * share:.2f}"


def points(share: float) -> str:
    """Like "+1.56" and "−0.24", with the sign that is a minus."""
    return f"{100 * share:+.2f}".replace("-", "\u2212")


def p_value(value: float | None) -> str:
    """Like "0.013", "<0.001"; a dash where none is known."""
    if value is None:
        return "\u2013"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def published(row: RowResult) -> str:
    """As the paper has it; a dash where it has nothing."""
    if row.published is None:
        return "\u2013"
    return row.published if isinstance(row.published, str) else f"{row.published:.2f}"


def spread(row: RowResult) -> str:
    """Like "8.20 ± 0.31"; of one seed no deviation."""
    if row.deviation is None:
        return percent(row.mean)
    return f"{percent(row.mean)} ± {percent(row.deviation)}"


def measured(row: RowResult) -> str:
    """The median, or what there is in its place."""
    if row.state == "diverged":
        return STATES["diverged"]
    return percent(row.median)


def remarks(row: RowResult) -> str:
    """What must be known of a row besides its numbers."""
    said = []
    if row.state in ("fail", "at chance"):
        said.append(STATES[row.state])
    diverged = [
        f"seed {each.seed} at step {each.steps}"
        for each in row.trained
        if each.test_error is None
    ]
    if diverged:
        said.append("diverged: " + enumeration(diverged))
    if row.changes:
        said.append("trained with " + changes(row.changes))
    return "; ".join(said)


def changes(found: Mapping[str, Any]) -> str:
    """Fields of a training, in words."""
    return enumeration([f"{name}={value}" for name, value in found.items()])


def difference(found: Difference | None) -> str:
    """Like "+1.56 [+0.98, +2.14]"."""
    if found is None:
        return "reference"
    return f"{points(found.mean)}{interval(found)}"


def interval(found: Difference) -> str:
    """Like " [+0.98, +2.14]"; empty where there is none."""
    if found.interval is None:
        return ""
    low, high = found.interval
    return f" [{points(low)}, {points(high)}]"


def claim_of(result: StudyResult, row: RowResult) -> ClaimResult | None:
    """What is claimed of a row's test error against the reference row's, if anything."""
    for claim in result.claims:
        if (claim.row, claim.reference, claim.metric) == (
            row.name,
            result.reference,
            "test_error",
        ):
            return claim
    return None


def rule(claim: ClaimResult, result: StudyResult) -> str:
    """What a claim says in numbers."""
    plus = f" + {100 * claim.margin:g} points" if claim.margin else ""
    row, reference = (result.row(n).title for n in (claim.row, claim.reference))
    return (
        f"{METRICS[claim.metric]} of {row} {claim.direction} than of {reference}{plus}"
    )


def size(result: StudyResult) -> str:
    """How large it was run, in a sentence without a full stop."""
    height, width, _ = result.image_shape
    train = result.train
    name = DATASETS[result.data].title if result.data in DATASETS else result.data
    seeds = enumeration([str(seed) for seed in result.seeds])
    return (
        f"{name} at {width} x {height} pixels, {result.train_images:,} images trained on, "
        f"{result.test_images:,} test images; {train.get('steps') or train.get('epochs')} "
        f"{'steps' if train.get('steps') else 'passes'} of batch "
        f"{train.get('global_batch_size')}, schedule {train.get('schedule')}, learning rate "
        f"{train.get('learning_rate')}; seed{'s' * (len(result.seeds) > 1)} {seeds}"
    )


def heading(result: StudyResult) -> str:
    """Title, with the scale."""
    return f"{result.title} ({result.scale} scale)"


def open_claims(result: StudyResult) -> list[str]:
    """Claims that this many seeds tell neither way."""
    return [
        claim.text for claim in result.claims if claim.verdict == "not distinguishable"
    ]


def hours(seconds: float) -> str:
    """Like "1.25 h" or "14 min"."""
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
