"""Work of the ExampleValidator: statistics against schema; anomalies stop the flow."""

from __future__ import annotations

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import types
from tfx.components.example_validator import executor as upstream
from tfx.components.example_validator import labels
from tfx.types import standard_component_specs
from tfx.utils import writer_utils

from components.dataset_schema import text


class AnomalyError(RuntimeError):
    """The data is not what the schema says; one line per anomaly, then the remedy."""


class Executor(upstream.Executor):
    """Validates as TFX does, reads our tags too, and raises if anything is wrong."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Validates all splits.

        Args:
            input_dict: `statistics` and `schema`.
            output_dict: `anomalies`.
            exec_properties: `exclude_splits`, as upstream.

        Raises:
            AnomalyError: There are anomalies in any split.
        """
        self._lines: list[str] = []
        result = super().Do(input_dict, output_dict, exec_properties)
        if self._lines:
            raise AnomalyError(
                "the examples are not what the schema says:\n"
                + "\n".join(f"  {line}" for line in self._lines)
                + "\nremedy: correct the data that data.name or data.path points to, "
                "or, if the data are right, components/dataset_schema/text.py"
            )
        return result

    def _Validate(  # noqa: N802 - TFX's name
        self, inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> anomalies_pb2.Anomalies:
        """Validates one split; upstream calls it for each."""
        anomalies = super()._Validate(inputs, outputs)
        statistics = inputs[standard_component_specs.STATISTICS_KEY]
        schema = inputs[standard_component_specs.SCHEMA_KEY]
        add_own_findings(anomalies, statistics, schema)
        folder = outputs[labels.SCHEMA_DIFF_PATH]
        writer_utils.write_anomalies(
            os.path.join(folder, upstream.DEFAULT_FILE_NAME), anomalies
        )
        split = os.path.basename(folder.rstrip("/")).removeprefix("Split-")
        self._lines += anomaly_lines(split, anomalies)
        return anomalies


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
