"""From answers to findings: errors per row and seed, paired differences, verdicts.

In: what every trained network answered to the same test images, and how it was trained.
Out: a StudyResult. No TensorFlow here. Seeds are pairs: the same seed starts from the same
numbers and sees the same batches, so that of two rows the differences per seed are
compared, by Student's t. Of a single seed only the images can be resampled.

Sources: Student 1908 (paired t); Holm 1979; McNemar 1947 and Efron 1979 by
components/evaluator/paired.py.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from components.evaluator import paired
from contract.model_run import ModelRun
from studies.report.result import (
    ClaimResult,
    Difference,
    RowResult,
    StudyResult,
    Trained,
)
from studies.study import FAIL, FAIL_ABOVE, Asked, Claim, Row, Study

# Of p after Holm. A study may be looked at twice: with the seeds planned, and, where they
# tell a claim neither way, once more with twice as many. Half of 0.05 for each look.
LEVEL = 0.025
SEEDS_RULE = (
    "The seeds are fixed before the study runs. Where they tell a claim neither way, the "
    "study may be run once more with twice as many; so that two looks together err in 5 % "
    f"of all cases at most, each calls a difference real where p after Holm is below {LEVEL}."
)
AS_PUBLISHED, OPPOSITE = "as published", "opposite"
NOT_DISTINGUISHABLE, NOT_TESTED = "not distinguishable", "not tested"
_LAST = 0.1  # share of the steps whose training error counts


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """One training, and what its network made of the test images."""

    run: ModelRun
    wrong: np.ndarray | None  # bool [test images]; None: it diverged
    eval_error: float | None
    problem: str | None


def measure(
    study: Study,
    asked: Asked,
    answered: Mapping[str, Answered],
    *,
    chance_error: float,
    test_images: int,
    machine: str | None = None,
) -> StudyResult:
    """Compares all rows.

    Args:
        study: Its rows and claims.
        asked: What was run.
        answered: By the contender's name.
        chance_error: On test, of always answering the most frequent class.
        test_images: How many there are.
        machine: That writes the report, in words.
    """
    found: dict[str, dict[int, Answered]] = {}
    for name, row in asked.trainings.items():
        seed = int(answered[name].run.train["seed"])
        found.setdefault(row, {})[seed] = answered[name]
    rows = [row for row in study.rows if row.name in found]
    there = {row.name for row in rows}
    reference = found[study.reference]
    claims = [c for c in study.claims if {c.row, c.reference} <= there]
    first = reference[asked.seeds[0]].run
    return StudyResult(
        study=study.name,
        title=study.title,
        source=study.source,
        question=study.question,
        note=study.note,
        scale=asked.scale,
        data=asked.data,
        image_shape=first.image_shape or (0, 0, 0),
        train_images=first.train_examples or 0,
        test_images=test_images,
        chance_error=chance_error,
        seeds=asked.seeds,
        reference=study.reference,
        train=first.train,
        rows=tuple(
            _row(row, found[row.name], reference, asked, chance_error) for row in rows
        ),
        claims=_claims(claims, found, chance_error),
        left_out=tuple(row.title for row in study.rows if row.name not in there),
        claims_left_out=tuple(c.text for c in study.claims if c not in claims),
        commit=first.commit,
        versions=first.versions,
        machine=machine,
    )


def _row(
    row: Row,
    found: Mapping[int, Answered],
    reference: Mapping[int, Answered],
    asked: Asked,
    chance: float,
) -> RowResult:
    trained = [_trained(seed, each, chance) for seed, each in sorted(found.items())]
    errors = [_or_chance(each.test_error, chance) for each in trained]
    first = next(iter(found.values())).run
    usual = next(iter(reference.values())).run
    changes = {
        name: value
        for name, value in first.train.items()
        if name != "seed" and usual.train.get(name) != value
    }
    return RowResult(
        name=row.name,
        title=row.title,
        network=row.network,
        parameters=first.parameters,
        changes=changes,
        published=row.published.get(asked.data),
        trained=tuple(trained),
        median=statistics.median(errors),
        mean=statistics.fmean(errors),
        deviation=statistics.stdev(errors) if len(errors) > 1 else None,
        train_error=statistics.median(
            _or_chance(each.train_error, chance) for each in trained
        ),
        state=_state(trained, statistics.median(errors), asked.scale),
        difference=None
        if found is reference
        else difference(found, reference, "test_error", chance),
    )


def _trained(seed: int, each: Answered, chance: float) -> Trained:
    error = None if each.wrong is None else float(np.mean(each.wrong))
    left = False
    if each.wrong is not None:
        _, highest = paired.wilson(int(each.wrong.sum()), len(each.wrong))
        left = highest < chance
    return Trained(
        seed=seed,
        test_error=error,
        eval_error=each.eval_error,
        train_error=training_error(each.run) if each.problem is None else None,
        steps=each.run.steps or 0,
        seconds=each.run.seconds,
        left_chance=left,
        problem=each.problem,
        history=each.run.history,
    )


def training_error(run: ModelRun) -> float | None:
    """Of the last tenth of the steps: augmented images, in training mode."""
    points = [p for p in run.history if "accuracy" in p]
    if not points or not run.steps:
        return None
    # A point is a mean over the steps since the one before.
    before = [0.0, *(p["step"] for p in points)]
    weights, errors = [], []
    for last, point in zip(before, points, strict=False):
        if point["step"] > run.steps * (1 - _LAST) or point is points[-1]:
            weights.append(point["step"] - last)
            errors.append(1 - point["accuracy"])
    return float(np.clip(np.average(errors, weights=weights), 0, 1))


def _state(trained: Sequence[Trained], median: float, scale: str) -> str | None:
    diverged = [each for each in trained if each.test_error is None]
    if 2 * len(diverged) > len(trained):
        return "diverged"
    if scale == "paper":
        return FAIL if median > FAIL_ABOVE else None
    at_chance = [each for each in trained if not each.left_chance]
    return "at chance" if 2 * len(at_chance) > len(trained) else None


def _or_chance(error: float | None, chance: float) -> float:
    """Who diverged knows nothing: it counts as guessing."""
    return chance if error is None else error


def difference(
    row: Mapping[int, Answered],
    reference: Mapping[int, Answered],
    metric: str,
    chance: float,
    margin: float = 0.0,
) -> Difference:
    """The first one's errors minus the second one's.

    Args:
        row: Seed -> training.
        reference: The same of the other row.
        metric: "test_error" or "train_error".
        chance: The error of guessing, with which a diverged training counts.
        margin: The p-value is of "the difference is this".
    """
    seeds = sorted(row.keys() & reference.keys())

    def value(each: Answered) -> float:
        if each.wrong is None:
            return chance
        if metric == "test_error":
            return float(np.mean(each.wrong))
        return _or_chance(training_error(each.run), chance)

    values = [value(row[seed]) - value(reference[seed]) for seed in seeds]
    if len(values) > 1:
        low, high, p_value = student(values, margin)
        return Difference(
            pairs=len(values),
            mean=statistics.fmean(values),
            interval=(low, high),
            p_value=p_value,
            method=f"Student's t over {len(values)} seeds, paired",
        )
    mean = values[0] if values else math.nan
    one = Difference(
        pairs=len(values),
        mean=mean,
        interval=None,
        p_value=None,
        method="one seed: how seeds differ is not known",
    )
    first, second = (each[seeds[0]].wrong for each in (row, reference))
    if metric != "test_error" or margin or first is None or second is None:
        return one
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return replace(
        one,
        interval=paired.bootstrap(only_first, only_second, len(first)),
        p_value=paired.mcnemar(only_first, only_second),
        method="one seed: bootstrap of the test images and exact McNemar test, which know "
        "nothing of other seeds",
    )


def student(values: Sequence[float], margin: float = 0.0) -> tuple[float, float, float]:
    """The 95 % interval of a mean, and the two-sided p-value of "it is `margin`".

    Args:
        values: Independent, about normal; two at least.
        margin: The hypothesis.
    """
    count, mean = len(values), statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(count)
    reach = float(stats.t.ppf((1 + paired.CONFIDENCE) / 2, count - 1)) * error
    if error == 0:
        return mean, mean, float(mean == margin)
    p_value = 2 * float(stats.t.sf(abs(mean - margin) / error, count - 1))
    return mean - reach, mean + reach, p_value


def _claims(
    claims: Sequence[Claim],
    found: Mapping[str, Mapping[int, Answered]],
    chance: float,
) -> tuple[ClaimResult, ...]:
    """All claims, corrected for there being several."""
    differences = [
        difference(
            found[claim.row], found[claim.reference], claim.metric, chance, claim.margin
        )
        for claim in claims
    ]
    tested = [each.p_value for each in differences if each.p_value is not None]
    corrected = iter(paired.holm(tested))
    results = []
    for claim, each in zip(claims, differences, strict=True):
        holm = None if each.p_value is None else next(corrected)
        results.append(
            ClaimResult(
                text=claim.text,
                row=claim.row,
                reference=claim.reference,
                metric=claim.metric,
                direction=claim.direction,
                margin=claim.margin,
                difference=each,
                holm_p_value=holm,
                verdict=_verdict(claim, each.mean, holm),
            )
        )
    return tuple(results)


def _verdict(claim: Claim, mean: float, holm: float | None) -> str:
    if holm is None:
        return NOT_TESTED
    if holm >= LEVEL:
        return NOT_DISTINGUISHABLE
    higher = mean > claim.margin
    return AS_PUBLISHED if higher == (claim.direction == "higher") else OPPOSITE
