"""What must not change from run to run, and not differ from split to split.

In: TFDV's statistics of labels and image numbers (image_statistics.py), and a schema
whose comparators hold the thresholds (components/dataset_schema/text.py). Out: every
distance that a comparator asks for, and whether it is too large.

Two samples of one source differ by chance, small ones by a lot: of 144 honest digits a
class has 5 to 24. A distance therefore violates its threshold only if chance explains it
in fewer than 1 of 10,000 comparisons of honest samples of these sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

CHANCE = 1e-4
L_INFINITY, JENSEN_SHANNON = "L-infinity norm", "Jensen-Shannon divergence"

Kind = Literal["drift", "skew"]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far one feature of two samples is apart."""

    kind: Kind
    feature: str
    measure: str  # L_INFINITY or JENSEN_SHANNON
    value: float
    threshold: float
    violated: bool  # above the threshold, and more than chance
    here: str  # what this sample has, in words, e.g. "class cat is 2.1 %"
    there: str  # the same of the reference, e.g. "10.0 %"


def compare(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    reference: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    kind: Kind,
) -> list[Distance]:
    """Measures what the schema's comparators ask for, in the schema's order.

    Args:
        statistics: Of the sample in question, at least one example.
        reference: "drift": of the same split in an earlier run. "skew": of train, while
            `statistics` are of another split. (TFDV calls them training and serving
            statistics. Both measures are symmetric.)
        schema: `drift_comparator`s or `skew_comparator`s of the features.
        kind: Which of the two comparators is meant.
    """
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    anomalies = (
        tfdv.validate_statistics(statistics, schema, previous_statistics=reference)
        if kind == "drift"
        else tfdv.validate_statistics(reference, schema, serving_statistics=statistics)
    )
    ours, theirs = _by_name(statistics), _by_name(reference)
    found = {}
    for info in anomalies.drift_skew_info:
        name = info.path.step[0]
        (measured,) = (*info.drift_measurements, *info.skew_measurements)
        labels = measured.type == anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY
        judge = _labels if labels else _number
        chance, here, there = judge(
            ours[name], theirs[name], measured.value, measured.threshold
        )
        found[name] = Distance(
            kind=kind,
            feature=name,
            measure=L_INFINITY if labels else JENSEN_SHANNON,
            value=measured.value,
            threshold=measured.threshold,
            violated=measured.value > measured.threshold and not chance,
            here=here,
            there=there,
        )
    return [found[f.name] for f in schema.feature if f.name in found]


def _labels(
    ours: statistics_pb2.FeatureNameStatistics,
    theirs: statistics_pb2.FeatureNameStatistics,
    value: float,  # noqa: ARG001 - as _number
    threshold: float,
) -> tuple[bool, str, str]:
    """Whether chance explains the shares of the classes, and the most changed one.

    Given the sum of a class over both samples, its count in one is hypergeometric if
    both come from one source (Fisher's exact test); divided among the classes.
    """
    from scipy import stats

    here, there = (
        {b.label: b.sample_count for b in feature.string_stats.rank_histogram.buckets}
        for feature in (ours, theirs)
    )
    classes = sorted(here.keys() | there.keys())
    a = np.array([here.get(name, 0) for name in classes])
    b = np.array([there.get(name, 0) for name in classes])
    law = stats.hypergeom(a.sum() + b.sum(), a + b, a.sum())
    p = 2 * np.minimum(law.cdf(a), law.sf(a - 1)) * len(classes)
    change = np.abs(a / a.sum() - b / b.sum())
    guilty = (change > threshold) & (p < CHANCE)
    worst = int(np.argmax(np.where(guilty, change, 0) if guilty.any() else change))
    return (
        not guilty.any(),
        f"class {classes[worst]} is {a[worst] / a.sum():.2%}",
        f"{b[worst] / b.sum():.2%}",
    )


def _number(
    ours: statistics_pb2.FeatureNameStatistics,
    theirs: statistics_pb2.FeatureNameStatistics,
    value: float,
    threshold: float,  # noqa: ARG001 - as _labels
) -> tuple[bool, str, str]:
    """Whether chance explains a divergence of two histograms, and both means.

    Near 0 the divergence of two samples of one source is
    (1/n + 1/m) / (8 ln 2) x chi-squared with one degree of freedom less than bins; far
    from 0 it is smaller (Lin 1991; Grosse et al. 2002, Phys. Rev. E 65, 041905). With few
    images per bin it exceeds that law: in 100,000 simulated pairs of each of 42 kinds, the
    largest was 1.19 x the law's quantile for a tenth of `CHANCE`.
    """
    from scipy import stats

    a, b = (_counts(feature) for feature in (ours, theirs))
    bins = np.count_nonzero(a + b)
    largest = 1.25 * stats.chi2.isf(CHANCE / 10, max(bins - 1, 1))
    largest *= (1 / a.sum() + 1 / b.sum()) / (8 * math.log(2))
    return (
        bool(value <= largest),
        f"the mean is {ours.num_stats.mean:.3f}",
        f"{theirs.num_stats.mean:.3f}",
    )


def _counts(feature: statistics_pb2.FeatureNameStatistics) -> np.ndarray:
    (standard,) = (h for h in feature.num_stats.histograms if not h.type)
    return np.array([bucket.sample_count for bucket in standard.buckets])


def _by_name(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    return {f.path.step[0]: f for f in statistics.datasets[0].features}
