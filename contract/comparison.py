"""What was measured of the models on one split, and what was decided by it.

The Evaluator makes a Comparison (comparison.json), the ModelChooser a Decision
(decision.json, which holds the comparison it decided by); pusher and report read them.
Rates are fractions. A leaf: standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from contract.contenders import BASELINE, CANDIDATE, IN_SERVICE, in_order
from contract.typed_json import (
    Count,
    Interval,
    Record,
    Share,
    Size,
    Within,
    inside,
    refused,
    shown,
)

# Which have a key in the JSON form also where they are not there.
_ALWAYS_TOLD = (BASELINE, CANDIDATE, IN_SERVICE)
_MOST_MODELS = 100  # as many artifacts as a task of Vertex AI takes
LABEL = "label"  # feature of the slices of one class

E = TypeVar("E", bound=Record)


def pairs_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """Who is compared with whom: the first's error rate minus the second's.

    Each other contender with the baseline, then each contender with the model in service.

    Args:
        names: Of the models that are there, in any order.
    """
    ordered = in_order([*set(names)])
    others = [name for name in ordered if name not in (BASELINE, IN_SERVICE)]
    pairs = [(name, BASELINE) for name in others if BASELINE in ordered]
    if IN_SERVICE in ordered:
        contenders = [*others, *(name for name in ordered if name == BASELINE)]
        pairs += [(name, IN_SERVICE) for name in contenders]
    return pairs


@dataclass(frozen=True)
class Slice(Record):
    """The images on which a feature has one value."""

    feature: str  # "label", "brightness", "contrast", "size"
    value: int | str  # of "label" the class's index, of the others a band's name

    @property
    def key(self) -> str:
        """Under which it stands in JSON: "label=3", "brightness=low"."""
        return f"{self.feature}={self.value}"

    def words(self, class_names: Sequence[str]) -> str:
        """As people read it: "class cat", "brightness=low"."""
        if isinstance(self.value, int) and self.feature == LABEL:
            return f"class {class_names[self.value]}"
        return self.key


@dataclass(frozen=True, kw_only=True)
class ErrorRate(Record):
    """How often a network is wrong, with Wilson's interval."""

    error: Share
    ci95: tuple[Share, Share]
    examples: Count
    errors: Count


@dataclass(frozen=True, kw_only=True)
class Bin(Record):
    """The images that a network is about equally sure of."""

    low: Share  # of the bin's confidences
    high: Share
    examples: Annotated[int, Within(1, 2**63 - 1)]
    confidence: float  # mean
    accuracy: Share


@dataclass(frozen=True, kw_only=True)
class Measures(ErrorRate):
    """What one model did on all images of a split."""

    top5: ErrorRate | None  # None: too few classes for that to say anything
    cross_entropy: float
    cross_entropy_ci95: Interval
    ece: Size  # expected calibration error; sums of probabilities may pass 1 a little
    ece_ci95: Interval
    reliability: tuple[Bin, ...]
    slices: Mapping[Slice, ErrorRate]
    # Images by true class (rows) and predicted class (columns).
    confusion: tuple[tuple[Count, ...], ...]

    def plain(self) -> dict[str, Any]:
        """Slices by their keys."""
        return super().plain() | {"slices": _plain_slices(self.slices)}

    @classmethod
    def adapted(cls, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Slices by feature and value."""
        return _with_slices(ErrorRate, values, where)


@dataclass(frozen=True, kw_only=True)
class ComparedModel(Record):
    """One model in a comparison: a contender's, or the one in service."""

    network: str
    problem: str | None  # why nothing can be concluded from it, as a sentence
    # Median of one image at a time; of earlier versions, whose Evaluator took it.
    latency_ms: Size | None = None
    images_per_second: Size | None  # in batches
    load_seconds: Size | None
    artifact_id: int | None = None  # of its Model or PushedModel
    measured: Measures | None  # None: it could not be run

    def __post_init__(self) -> None:
        if self.measured is None and not self.problem:
            raise ValueError("neither an error rate nor a problem is told")

    def plain(self) -> dict[str, Any]:
        """What was measured stands beside the rest."""
        found = super().plain()
        return found | (found.pop("measured") or {"error": None})

    @classmethod
    def adapted(cls, values: dict[str, Any], where: str) -> dict[str, Any]:
        """What was measured is a value of its own."""
        known = values.get("error", 0) is not None
        return values | {
            "measured": Measures.from_plain(values, where) if known else None
        }


@dataclass(frozen=True, kw_only=True)
class SliceDifference(Record):
    """A paired difference on a slice; the interval holds for all slices together."""

    difference: float
    interval: Interval
    examples: Count


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """The first network's error rate minus the second's, on the same images."""

    difference: float
    ci95: Interval
    bootstrap_ci95: Interval
    p_value: Share
    only_first_wrong: Count
    only_second_wrong: Count
    both_wrong: Count
    examples: Count
    method: str
    slices: Mapping[Slice, SliceDifference]
    # Corrected for as many comparisons as there are with the baseline. None: there is one,
    # and nothing to correct.
    holm_p_value: Share | None = None  # of those with the baseline alone
    joint_ci95: Interval | None = None  # holds for all of them together

    @property
    def deciding_p_value(self) -> float:
        """Corrected if there is anything to correct."""
        return self.p_value if self.holm_p_value is None else self.holm_p_value

    @property
    def deciding_ci95(self) -> tuple[float, float]:
        """Corrected if there is anything to correct."""
        return self.joint_ci95 or self.ci95

    def plain(self) -> dict[str, Any]:
        """Slices by their keys; without corrections where there are none."""
        found = super().plain() | {"slices": _plain_slices(self.slices)}
        for name in ("holm_p_value", "joint_ci95"):
            if found[name] is None:
                del found[name]
        return found

    @classmethod
    def adapted(cls, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Slices by feature and value."""
        return _with_slices(SliceDifference, values, where)


@dataclass(frozen=True, kw_only=True)
class Comparison(Record):
    """All models on one split: comparison.json."""

    split: str
    examples: Count
    class_names: tuple[str, ...]  # in label order
    constant_error: Share  # of whoever always answers the most frequent class
    # By contender's name, and "in_service"; nothing in service: not there.
    models: Mapping[str, ComparedModel]
    # As of `pairs_of`, the first's minus the second's; there if both were measured.
    pairs: Mapping[tuple[str, str], Difference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = range(len(self.class_names))
        measured = {
            name: model.measured
            for name, model in self.models.items()
            if model.measured
        }
        for name, found in measured.items():
            sizes = {len(found.confusion), *map(len, found.confusion)}
            if sizes != {len(names)}:
                raise ValueError(
                    f"the confusion of {shown(name)} must have {len(names)} rows and columns"
                )
        for found in (*measured.values(), *self.pairs.values()):
            for part in found.slices:
                if part.feature == LABEL and part.value not in names:
                    raise ValueError(
                        f"the slice {shown(part.key)} must be of one of {len(names)} classes"
                    )
        for pair in pairs_of(self.models):
            if (pair in self.pairs) != (set(pair) <= measured.keys()):
                raise ValueError(
                    f"{shown(pair_key(*pair))} must be there if both were measured, "
                    "and only then"
                )

    @property
    def contenders(self) -> tuple[str, ...]:
        """Who took part in the run: the baseline first, then by name."""
        return tuple(name for name in in_order([*self.models]) if name != IN_SERVICE)

    def plain(self) -> dict[str, Any]:
        """Pairs by their keys; null for what is not there."""
        names = in_order([*{*_ALWAYS_TOLD, *self.models}])
        return {
            "split": self.split,
            "examples": self.examples,
            "class_names": list(self.class_names),
            "constant_error": self.constant_error,
            "models": dict.fromkeys(names)
            | {name: model.plain() for name, model in self.models.items()},
            "pairs": {pair_key(*pair): None for pair in pairs_of(names)}
            | {pair_key(*pair): found.plain() for pair, found in self.pairs.items()},
        }

    @classmethod
    def adapted(cls, values: dict[str, Any], where: str) -> dict[str, Any]:
        """Pairs by their names; without what is null."""
        found = dict(values)
        for name in ("models", "pairs"):
            if not isinstance(found.get(name), dict):
                raise refused(inside(where, name), found.get(name), "must be an object")
        found["models"] = {
            name: model for name, model in found["models"].items() if model is not None
        }
        if len(found["models"]) > _MOST_MODELS:
            rule = f"must have {_MOST_MODELS} entries at most"
            raise refused(inside(where, "models"), found["models"], rule)
        found["pairs"] = {
            (first, second): Difference.from_plain(
                pair, inside(inside(where, "pairs"), key)
            )
            for first, second in pairs_of(found["models"])
            if (pair := found["pairs"].get(key := pair_key(first, second))) is not None
        }
        return found


@dataclass(frozen=True, kw_only=True)
class Decision(Record):
    """Who won, and why: decision.json."""

    policy: str
    # Name of the contender that is pushed; "in_service": nothing is pushed, what serves
    # stays; None: nothing is pushed and nothing is in service.
    winner: str | None
    reason: str
    # "<name>: it ..." for each rule that a contender broke.
    blocked_by: tuple[str, ...]
    comparison: Comparison  # on the eval split

    def __post_init__(self) -> None:
        if self.winner is not None and self.winner not in self.comparison.models:
            raise ValueError(f"the winner {shown(self.winner)} was not compared")


def pair_key(first: str, second: str) -> str:
    """Under which a pair stands in JSON: "candidate_minus_baseline"."""
    return f"{first}_minus_{second}"


def _plain_slices(slices: Mapping[Slice, Record]) -> dict[str, Any]:
    return {part.key: part.plain() | found.plain() for part, found in slices.items()}


def _with_slices(kind: type[E], values: dict[str, Any], where: str) -> dict[str, Any]:
    """`values` with `slices` by feature and value, of which earlier files have no pair."""
    slices = values.get("slices")
    if not isinstance(slices, dict):
        raise refused(inside(where, "slices"), slices, "must be an object")
    found = {}
    for key, entry in slices.items():
        place = inside(inside(where, "slices"), key)
        built = kind.from_plain(entry, place)
        if "feature" not in entry:
            feature, _, value = key.partition("=")
            digits = feature == LABEL and value.isdecimal() and len(value) < 10
            entry = {"feature": feature, "value": int(value) if digits else value}
        found[Slice.from_plain(entry, place)] = built
    return values | {"slices": found}
