"""What a study has found, as one typed value: study.json.

StudyReport writes it; the page, the Markdown and the documentation are made from it alone.
A leaf: standard library only. Errors are fractions; what was published is in %, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.typed_json import AnyFloat, Count, Interval, Record, Share, Size

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Trained(Record):
    """One training: a row with one seed."""

    seed: Count
    test_error: Share | None  # None: it diverged
    eval_error: Share | None
    # Of the last tenth of the steps, of augmented images, in training mode.
    train_error: Share | None
    steps: Count  # where it diverged, or its length
    seconds: Size | None  # of training
    # Whether its test error is beyond doubt (95 %) lower than that of the best guess.
    left_chance: bool
    problem: str | None  # why there is no test error
    history: tuple[Mapping[str, AnyFloat], ...]  # see contract.model_run


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """One row's errors minus another's, of the same seeds."""

    pairs: Count
    mean: float
    interval: Interval | None  # 95 %; None: there is no way to tell
    p_value: Share | None
    method: str


@dataclass(frozen=True, kw_only=True)
class RowResult(Record):
    """A row of the table."""

    name: str
    title: str
    network: str
    parameters: Count | None
    changes: Mapping[str, Any]  # of its training, against the study's
    published: float | str | None  # test error in %, "fail", or nothing
    trained: tuple[Trained, ...]
    median: Share  # of the test errors; who diverged counts as guessing
    mean: Share
    deviation: Size | None  # of a sample; None: one seed
    train_error: Share  # median
    # "fail" (as published), "diverged", "at chance": in so short a training; or none.
    state: str | None
    difference: (
        Difference | None
    )  # of test errors to the reference row; None: it is that


@dataclass(frozen=True, kw_only=True)
class ClaimResult(Record):
    """What became of a claim."""

    text: str
    row: str
    reference: str
    metric: str
    direction: str
    margin: Size
    difference: Difference
    holm_p_value: Share | None  # over the claims of this report
    verdict: str  # "as published", "not distinguishable", "opposite", "not tested"


@dataclass(frozen=True, kw_only=True)
class StudyResult(Record):
    """A study: study.json."""

    schema: Count = SCHEMA
    study: str
    title: str
    source: str
    question: str
    note: str
    scale: str
    data: str
    image_shape: tuple[Count, Count, Count]
    train_images: Count
    test_images: Count
    chance_error: Share  # of whoever always answers the most frequent class
    seeds: tuple[Count, ...]
    reference: str
    train: Mapping[str, Any]  # the section of the reference row's first training
    rows: tuple[RowResult, ...]
    claims: tuple[ClaimResult, ...]
    left_out: tuple[str, ...]  # titles of rows that were not run
    claims_left_out: tuple[str, ...] = ()
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    # That wrote the report; of a local study also the one that trained.
    machine: str | None = None

    @property
    def seconds(self) -> float:
        """Spent in training steps, over all rows and seeds."""
        return sum(each.seconds or 0.0 for row in self.rows for each in row.trained)

    def row(self, name: str) -> RowResult:
        """The row of a name."""
        return next(row for row in self.rows if row.name == name)
