"""What a study is: rows of networks, claims made before anything runs, and its sizes.

A leaf of the room: standard library only, so that a wrong row is refused in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from contract.contenders import name_problem
from contract.typed_json import Count, Record
from trainer.units import NetworkSpec, parse_network

# Published as "fail", which is a test error above this (2016b, Table 1).
FAIL = "fail"
FAIL_ABOVE = 0.2

Metric = Literal["test_error", "train_error"]
Direction = Literal["higher", "lower"]
ScaleName = Literal["small", "paper"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network of a table, and what its paper says of it."""

    name: str  # lower-case letters and digits; the same row has one name in all studies
    title: str  # as the table calls it
    network: str  # as trainer.units.parse_network takes it
    # Data set -> test error in %, or FAIL; not there: not published.
    published: Mapping[str, float | str] = field(default_factory=dict)
    # What differs in its training: dotted fields of the section `train`, whose values are
    # set, or the scale's times a factor.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (problem := name_problem(self.name)) is not None:
            raise ValueError(f"row {self.name}: {problem}")
        parse_network(self.network)
        for name in (*self.overrides, *self.times):
            if not name.startswith("train.") or name == "train.seed":
                raise ValueError(
                    f"row {self.name}: {name} is no field of the training that a row may "
                    "change; the rows of a study share their data, and seeds are its own"
                )

    @property
    def spec(self) -> NetworkSpec:
        """The network."""
        return parse_network(self.network)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of a paper that the study can confirm or contradict."""

    text: str
    row: str
    reference: str  # the row that it is compared with
    metric: Metric = "test_error"
    direction: Direction
    # How much higher than the reference still counts as lower: "not higher" is lower than
    # the reference plus a margin.
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a study is run."""

    assignments: Mapping[str, Any]  # dotted fields of the configuration
    seeds: int = 5
    without: Sequence[str] = ()  # rows that only run when they are asked for by name
    reading: str = ""  # of what was found at it, on the study's page: why that may be


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table of a paper."""

    name: str
    title: str
    source: str  # paper and table
    question: str
    rows: tuple[Row, ...]
    reference: str  # the row that the others' differences are taken to
    claims: tuple[Claim, ...]
    scales: Mapping[str, Scale]
    data: tuple[str, ...] = ("cifar10",)  # published on; the first is the default
    note: str = ""  # how this differs from the paper, besides the scale

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"study {self.name}: row {name} is there twice")
        named = [self.reference]
        for claim in self.claims:
            named += [claim.row, claim.reference]
        for scale in self.scales.values():
            named += scale.without
        for name in named:
            if name not in names:
                raise ValueError(
                    f"study {self.name}: {name} is no row; it has {', '.join(names)}"
                )

    def row(self, name: str) -> Row:
        """The row of a name.

        Raises:
            LookupError: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise LookupError(f"study {self.name}: {name} is no row")


@dataclass(frozen=True, kw_only=True)
class Asked(Record):
    """What StudyReport is told of a plan: the rest stands in tables.py and in the answers."""

    study: str
    scale: str
    data: str
    seeds: tuple[Count, ...]
    trainings: Mapping[str, str]  # contender's name -> row's
