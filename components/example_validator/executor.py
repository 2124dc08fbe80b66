"""Work of the ExampleValidator: data against schema, earlier data, and each other.

First, TFX's own comparison of statistics and schema. Then, if the flow states invariants,
labels and image numbers are measured from the examples and compared: each split with the
same one of the last accepted run (drift), eval and test with train (skew). Anything wrong
stops the flow. Images that stand in the data twice and labels that contradict each other
are counted and told (consistency.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor as upstream
from tfx.components.example_validator import labels
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.types import artifact_utils, standard_component_specs
from tfx.types.standard_artifacts import (
    ExampleAnomalies,
    Examples,
    ExampleStatistics,
    Schema,
)
from tfx.utils import io_utils, writer_utils

from components.dataset_schema import text
from components.declaration import Output, executor_of
from components.drift import image_statistics, invariants
from components.example_validator import accepted_records, consistency
from contract import features
from contract.datasets import DATASETS, Dataset
from contract.progress import PROGRESS_LOGGER
from trainer.examples import batches, dataset_in, part_of, pixels_of

# Custom properties of `accepted_statistics`: of which data set and examples they are, and
# which thresholds these met.
NAME, EXAMPLES_URI, INVARIANTS_URI = "name", "examples_uri", "invariants_uri"
DISTANCES = "distances"  # of `anomalies`: list of objects, see `_record`
# Custom property of an earlier run's, where every output must have an artifact: 1 says that
# there are none.
EMPTY = "empty"

_progress = logging.getLogger(PROGRESS_LOGGER)

# Split, and how far one of its features is from that of the reference.
_Found = tuple[str, invariants.Distance]


class AnomalyError(RuntimeError):
    """The data is not what the schema says; one line per anomaly, then the remedy."""


def validate(
    *,
    statistics: ExampleStatistics,
    schema: Schema,
    examples: Examples,
    invariants: Schema,
    previous_statistics: ExampleStatistics | None,
    exclude_splits: Sequence[str] = (),
    records: str | None,
    anomalies: Output[ExampleAnomalies],
    accepted_statistics: Output[ExampleStatistics],
) -> None:
    """Validates as TFX does, reads our tags too, compares, and raises if anything is wrong.

    Upstream's writes anomalies down and lets the flow train on, and compares nothing.

    Args:
        statistics: Checked against `schema`.
        schema: Of the examples.
        examples: The examples themselves.
        invariants: With drift_comparators and skew_comparators, see
            `components.dataset_schema.text.invariants_text`.
        previous_statistics: `accepted_statistics` of an earlier run, as
            `components.previous_statistics.strategy.PreviousStatistics` resolves it, or
            the component of that name in `components.previous_statistics` finds it; in
            the first run none, or an empty one. Without it splits are compared, runs are
            not.
        exclude_splits: Names of splits that are not looked at.
        records: Folder, local or gs://, where it is noted that data were accepted, for
            flows without ML Metadata.
        anomalies: As upstream's; SchemaDiff.pb also holds the measured distances
            (`drift_skew_info`), and the custom property `distances` lists them. The
            property `consistency` counts repeated images and contradictory labels.
        accepted_statistics: Of labels and image numbers per split. They exist only for
            data that were accepted, and are what a later run is compared with.

    Raises:
        AnomalyError: There are anomalies, drift or skew in any split.
    """
    keys = standard_component_specs
    checked = _Upstream()
    checked.Do(
        {keys.STATISTICS_KEY: [statistics], keys.SCHEMA_KEY: [schema]},
        {keys.ANOMALIES_KEY: [anomalies]},
        {keys.EXCLUDE_SPLITS_KEY: json.dumps(exclude_splits)},
    )
    if checked.lines:
        raise AnomalyError(
            "the examples are not what the schema says:\n"
            + "\n".join(f"  {line}" for line in checked.lines)
            + "\nremedy: correct the data that data.name or data.path points to, "
            "or, if the data are right, components/dataset_schema/text.py"
        )
    # Not before the schema holds: what is no image cannot be measured.
    accepted_statistics.split_names = artifact_utils.encode_split_names(
        [
            split
            for split in artifact_utils.decode_split_names(examples.split_names)
            if split not in exclude_splits
        ]
    )
    for name, value in {
        NAME: examples.get_string_custom_property(NAME),
        EXAMPLES_URI: examples.uri,
        INVARIANTS_URI: invariants.uri,
    }.items():
        accepted_statistics.set_string_custom_property(name, value)
    found, counted = _compare(
        examples, invariants, previous_statistics, accepted_statistics
    )
    lines = [_sentence(split, d) for split, d in found if d.violated]
    if lines:
        raise AnomalyError(
            "the data are not what they were, or their splits differ:\n"
            + "\n".join(f"  {line}" for line in lines)
        )
    _publish(anomalies, found, counted)
    if records:
        accepted_records.write(records, _record_of(accepted_statistics))


Executor = executor_of(validate)


class _Upstream(upstream.Executor):
    """TFX's own, which reads our tags too; `lines` tells what it has found."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _Validate(  # noqa: N802 - TFX's name
        self, inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> anomalies_pb2.Anomalies:
        """Validates one split; upstream calls it for each."""
        anomalies = super()._Validate(inputs, outputs)
        add_own_findings(
            anomalies,
            inputs[standard_component_specs.STATISTICS_KEY],
            inputs[standard_component_specs.SCHEMA_KEY],
        )
        folder = outputs[labels.SCHEMA_DIFF_PATH]
        writer_utils.write_anomalies(
            os.path.join(folder, upstream.DEFAULT_FILE_NAME), anomalies
        )
        split = os.path.basename(folder.rstrip("/")).removeprefix("Split-")
        self.lines += anomaly_lines(split, anomalies)
        return anomalies


def _compare(
    examples: Examples,
    invariants: Schema,
    previous: ExampleStatistics | None,
    accepted: ExampleStatistics,
) -> tuple[list[_Found], dict[str, Any]]:
    """Measures the splits of `accepted`, writes its statistics, compares.

    Returns:
        What differs, and what `consistency.examine` counts.
    """
    schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(invariants.uri))
    ours: dict[str, statistics_pb2.DatasetFeatureStatisticsList] = {}
    contents: dict[str, consistency.Contents] = {}
    dataset = dataset_in(examples)
    for split in artifact_utils.decode_split_names(accepted.split_names):
        folder = artifact_utils.get_split_uri([examples], split)
        ours[split], contents[split] = measure_split(folder, schema, dataset)
        target = artifact_utils.get_split_uri([accepted], split)
        io_utils.write_bytes_file(
            os.path.join(target, stats_artifact_utils.BINARY_PB_BASENAME),
            ours[split].SerializeToString(),
        )
    earlier: dict[str, statistics_pb2.DatasetFeatureStatisticsList] = {}
    if previous is not None and not previous.get_int_custom_property(EMPTY):
        for split in artifact_utils.decode_split_names(previous.split_names):
            found = stats_artifact_utils.load_statistics(previous, split)
            earlier[split] = found.proto()
    known = DATASETS.get(dataset.name)
    counted = consistency.examine(contents, known.superclasses if known else ())
    sizes = {split: len(part.labels) for split, part in contents.items()}
    for sentence in consistency.warnings(counted, sizes):
        _progress.warning("warning: %s", sentence)
    return compare_splits(ours, earlier, schema), counted


def compare_splits(
    ours: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    previous: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    schema: schema_pb2.Schema,
) -> list[_Found]:
    """All comparisons of a run.

    Args:
        ours: Split -> statistics of this run.
        previous: The same of an earlier one; splits that only one of them has are not
            compared.
        schema: With the comparators.
    """
    found: list[_Found] = []
    for split, statistics in ours.items():
        references: dict[
            invariants.Kind, statistics_pb2.DatasetFeatureStatisticsList | None
        ] = {
            "drift": previous.get(split),
            "skew": ours.get(features.TRAIN) if split != features.TRAIN else None,
        }
        for kind, reference in references.items():
            if reference is not None:
                found += [
                    (split, distance)
                    for distance in invariants.compare(
                        statistics, reference, schema, kind
                    )
                ]
    return found


def measure_split(
    folder: str, schema: schema_pb2.Schema, dataset: Dataset
) -> tuple[statistics_pb2.DatasetFeatureStatisticsList, consistency.Contents]:
    """Statistics of the image numbers and of the class names of one split, and contents.

    Args:
        folder: Of TFRecords of ingested tf.Examples, valid, at least one.
        schema: Its features with a string_domain are labels: the domain names the
            classes in order.
        dataset: Shape of the images.
    """
    classes = {
        feature.name: np.array(feature.string_domain.value, object)
        for feature in schema.feature
        if feature.HasField("string_domain")
    }
    columns: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    digests: list[bytes] = []
    for batch in _batches(folder, list(classes), part_of(dataset)):
        images = batch.pop(features.IMAGE)
        digests += [hashlib.sha256(image).digest() for image in images]
        part = image_statistics.measure(pixels_of(images, dataset))
        part |= {name: classes[name][batch[name]] for name in classes}
        for name, values in part.items():
            columns.setdefault(name, []).append(values)
        for name, parts in labels.items():
            parts.append(batch[name])
    joined = {name: np.concatenate(parts) for name, parts in labels.items()}
    return (
        image_statistics.statistics(
            {name: np.concatenate(parts) for name, parts in columns.items()}
        ),
        consistency.Contents(
            digests, joined[features.LABEL], joined.get(features.COARSE_LABEL)
        ),
    )


def _batches(folder: str, label_keys: list[str], most: int) -> Iterator[dict[str, Any]]:
    """Images as in examples (bytes) and labels (int64), each [at most `most`]."""
    files = sorted(tf.io.gfile.glob(os.path.join(folder, "*")))
    found = batches(files, [features.IMAGE, *label_keys], parallel=2, most=most)
    for batch in found.prefetch(1):
        yield {name: column.numpy() for name, column in batch.items()}


# Comparator -> what a split is compared with, the field of labels, of image numbers.
_WORDS: dict[invariants.Kind, tuple[str, str, str]] = {
    "drift": ("in the last accepted run", "drift.labels", "drift.images"),
    "skew": ("in train", "drift.skew_labels", "drift.skew_images"),
}
_MEANT = {
    "drift": "correct the data, or accept the change with one run of",
    "skew": "correct the data, or allow the difference with",
}


def _sentence(split: str, distance: invariants.Distance) -> str:
    """One violation: where, what, how much, the threshold, the remedy."""
    where, of_labels, of_images = _WORDS[distance.kind]
    numeric = distance.feature in image_statistics.NUMBERS
    name = of_images if numeric else of_labels
    return (
        f"split {split}, feature {distance.feature}: {distance.here}, but "
        f"{distance.there} {where} ({distance.measure} {distance.value:.3g}, threshold "
        f"{distance.threshold:.3g}); {_MEANT[distance.kind]} --runtime_parameter {name}=none"
    )


def _publish(
    anomalies: ExampleAnomalies,
    found: list[_Found],
    counted: dict[str, Any],
) -> None:
    """Writes distances and counts where people and the report find them."""
    anomalies.set_json_value_custom_property(DISTANCES, [_record(*f) for f in found])
    anomalies.set_string_custom_property(consistency.PROPERTY, json.dumps(counted))
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = os.path.join(
            artifact_utils.get_split_uri([anomalies], split), upstream.DEFAULT_FILE_NAME
        )
        written = anomalies_pb2.Anomalies.FromString(io_utils.read_bytes_file(path))
        for ours, distance in found:
            if ours == split:
                _add_measurement(written, distance)
        writer_utils.write_anomalies(path, written)


def _record_of(accepted: ExampleStatistics) -> accepted_records.Record:
    return accepted_records.Record(
        uri=accepted.uri,
        split_names=artifact_utils.decode_split_names(accepted.split_names),
        **{
            key: accepted.get_string_custom_property(key)
            for key in (NAME, EXAMPLES_URI, INVARIANTS_URI)
        },
    )


def _record(split: str, distance: invariants.Distance) -> dict[str, Any]:
    return {
        "split": split,
        "kind": distance.kind,
        "feature": distance.feature,
        "measure": distance.measure,
        "value": distance.value,
        "threshold": distance.threshold,
    }


def _add_measurement(
    anomalies: anomalies_pb2.Anomalies, distance: invariants.Distance
) -> None:
    """As TFDV notes a measured distance; tfdv.display_anomalies reads it."""
    infos = (i for i in anomalies.drift_skew_info if i.path.step == [distance.feature])
    info = next(infos, None)
    if info is None:
        info = anomalies.drift_skew_info.add()
        info.path.step.append(distance.feature)
    measured = (
        info.drift_measurements if distance.kind == "drift" else info.skew_measurements
    )
    kinds = anomalies_pb2.DriftSkewInfo.Measurement
    measured.add(
        type=kinds.L_INFTY
        if distance.measure == invariants.L_INFINITY
        else kinds.JENSEN_SHANNON_DIVERGENCE,
        value=distance.value,
        threshold=distance.threshold,
    )


def anomaly_lines(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """One line per anomaly: split, feature, what is wrong in short, and in full."""
    found = [
        (feature, info) for feature, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        found.append(("(all)", anomalies.dataset_anomaly_info))
    return [
        f"split {split}, feature {feature}: {info.short_description}: "
        f"{info.description}"
        for feature, info in found
    ]


def add_own_findings(
    anomalies: anomalies_pb2.Anomalies,
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
) -> None:
    """Adds what TFDV cannot check or lets pass.

    That is the tags of components/dataset_schema/text.py, and a split without examples, in
    which TFDV finds nothing wrong. A feature that is absent is TFDV's own finding.
    """
    (dataset,) = statistics.datasets
    if not dataset.num_examples:
        anomalies.dataset_anomaly_info.CopyFrom(
            _info(_reason("No examples", "The split is empty."))
        )
        return
    by_name = {feature.path.step[0]: feature for feature in dataset.features}
    for feature in schema.feature:
        for tag in feature.annotation.tag:
            present = by_name.get(feature.name)
            reason = _tag_violation(tag, present) if present else None
            if not reason:
                continue
            if feature.name in anomalies.anomaly_info:
                found = anomalies.anomaly_info[feature.name]
                found.description = f"{found.description} {reason.description}"
                found.reason.append(reason)
            else:
                anomalies.anomaly_info[feature.name].CopyFrom(_info(reason))
                anomalies.anomaly_info[feature.name].path.step.append(feature.name)


def _tag_violation(
    tag: str, feature: statistics_pb2.FeatureNameStatistics
) -> anomalies_pb2.AnomalyInfo.Reason | None:
    kind = feature.WhichOneof("stats")
    if tag.startswith(text.MINIMUM_BYTES_TAG):
        least = int(tag.removeprefix(text.MINIMUM_BYTES_TAG))
        must = f"each must have {least:,}."
        shortest = feature.bytes_stats.min_num_bytes
        if kind == "bytes_stats" and shortest < least:
            return _reason(
                "Values too short",
                f"The shortest value has {shortest:,.0f} bytes; {must}",
            )
        # Statistics made without the schema know the average alone.
        average = feature.string_stats.avg_length
        if kind == "string_stats" and average < least:
            return _reason(
                "Values too short",
                f"Values have {average:,.1f} bytes on average; {must}",
            )
    if tag == text.UNIQUE_TAG and kind == "string_stats":
        values = feature.string_stats.common_stats.tot_num_values
        unique = feature.string_stats.unique
        if unique < values:
            return _reason(
                "Values not unique",
                f"There are {values:,} values, but only {unique:,} different ones.",
            )
    return None


def _reason(short: str, full: str) -> anomalies_pb2.AnomalyInfo.Reason:
    return anomalies_pb2.AnomalyInfo.Reason(
        type=anomalies_pb2.AnomalyInfo.CUSTOM_VALIDATION,
        short_description=short,
        description=full,
    )


def _info(reason: anomalies_pb2.AnomalyInfo.Reason) -> anomalies_pb2.AnomalyInfo:
    return anomalies_pb2.AnomalyInfo(
        severity=anomalies_pb2.AnomalyInfo.ERROR,
        short_description=reason.short_description,
        description=reason.description,
        reason=[reason],
    )
