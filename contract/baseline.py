"""What a model met and answered before it was served: baseline.json inside the version.

The AtomicPusher writes it beside the SavedModel's own files, so that it travels with the
version wherever that is copied, and a rollback brings its own along; monitoring holds live
requests against it. Another version of the project may have written it. A leaf: standard
library only.

A distribution is kept as its quantiles at equal steps, from the smallest value to the
largest: 257 of them tell any share of it to within 1/512.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.typed_json import Count, Record, RecordError, Share, Size

SCHEMA = 1
QUANTILES = 257


@dataclass(frozen=True, kw_only=True)
class Distribution(Record):
    """Of one number."""

    count: Count  # values that it was measured from
    quantiles: tuple[float, ...]  # ascending

    def __post_init__(self) -> None:
        pairs = zip(self.quantiles, self.quantiles[1:], strict=False)
        if len(self.quantiles) < 2 or any(low > high for low, high in pairs):
            raise ValueError("quantiles must be two or more, in ascending order")
        if not self.count:
            raise ValueError("count must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ClassShare(Record):
    """How one class's share of the images is estimated from the answers' probabilities.

    The estimate for an image is `weights` times its probabilities, plus `offset`; over the
    eval images, as many of each class as among all labelled ones, its mean is `share`.
    """

    share: float  # of all labelled images
    weights: tuple[float, ...]  # by class, in label order
    offset: float
    deviation: Size  # of the estimate for one image
    skewness: float
    # Standard error of `share`, as the eval images tell it; None: of any such images.
    error: Size | None = None


@dataclass(frozen=True, kw_only=True)
class Reliability(Record):
    """Eval answers of about one confidence, and how many of them were right."""

    highest: Share  # confidence
    count: Count
    correct: Count

    def __post_init__(self) -> None:
        if not 0 < self.count >= self.correct:
            raise ValueError("count must be at least 1, and at least correct")


@dataclass(frozen=True, kw_only=True)
class Baseline(Record):
    """What live requests to a version are compared with; empty: it is not known."""

    schema: Count = SCHEMA
    class_names: tuple[str, ...] = ()  # in label order
    # Height, width, channels of what the model was trained on; None: they vary.
    image_shape: tuple[Count | None, Count | None, Count] | None = None
    # By name (components/drift/baseline.py), of the training images.
    numbers: Mapping[str, Distribution] = field(default_factory=dict)
    # Of the eval images.
    answers: tuple[Count, ...] = ()  # that were each class, in label order
    shares: tuple[ClassShare, ...] = ()  # of each class, in label order
    confidence: Distribution | None = None  # probability of the class that was answered
    reliability: tuple[Reliability, ...] = ()  # ascending

    @classmethod
    def adapted(cls, values: dict, where: str) -> dict:
        """Refuses what a later version wrote in another form."""
        schema = values.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise RecordError(
                f"{where} has schema {schema}, and this version of the project reads "
                f"{SCHEMA}: use the version that published the model"
            )
        return values

    def __post_init__(self) -> None:
        for name, found in {
            "answers": self.answers,
            "shares": self.shares,
        }.items():
            if found and len(found) != len(self.class_names):
                raise ValueError(f"{name} must have as many members as class_names")
        if any(len(each.weights) != len(self.class_names) for each in self.shares):
            raise ValueError("weights must have as many members as class_names")
