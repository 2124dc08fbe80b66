"""Contract of the ExampleValidator: TFX's own checks and more, and it stops the flow."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.utils import json_utils

from components.example_validator import executor


class BlockingExampleValidatorSpec(types.ComponentSpec):
    """TFX's ExampleValidatorSpec and the comparisons."""

    PARAMETERS = {
        executor.EXCLUDE_SPLITS: component_spec.ExecutionParameter(type=str),
        executor.RECORDS: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        executor.STATISTICS: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics
        ),
        executor.SCHEMA: component_spec.ChannelParameter(
            type=standard_artifacts.Schema
        ),
        executor.EXAMPLES: component_spec.ChannelParameter(
            type=standard_artifacts.Examples, optional=True
        ),
        executor.INVARIANTS: component_spec.ChannelParameter(
            type=standard_artifacts.Schema, optional=True
        ),
        executor.PREVIOUS: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }
    OUTPUTS = {
        executor.ANOMALIES: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleAnomalies
        ),
        executor.ACCEPTED: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }


class BlockingExampleValidator(base_component.BaseComponent):
    """TFX's ExampleValidator that fails when it finds anomalies, drift or skew.

    Upstream's writes anomalies down and lets the flow train on, and compares nothing.
    Give it the id that people know: `.with_id("ExampleValidator")`.

    `outputs`:
      - `anomalies`: as upstream's; SchemaDiff.pb also holds the measured distances
        (`drift_skew_info`), and the custom property `distances` lists them. The
        property `consistency` counts repeated images and contradictory labels.
      - `accepted_statistics`, with `invariants` only: statistics of labels and image
        numbers per split. They exist only for data that were accepted, and are what a
        later run is compared with.
    """

    SPEC_CLASS = BlockingExampleValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(  # noqa: PLR0913 - inputs of a node
        self,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        examples: types.BaseChannel | None = None,
        invariants: types.BaseChannel | None = None,
        previous_statistics: types.BaseChannel | None = None,
        exclude_splits: list[str] | None = None,
        records: str | None = None,
    ):
        """Creates the node.

        Args:
            statistics: ExampleStatistics, checked against `schema`.
            schema: Schema of the examples.
            examples: The Examples themselves; needed with `invariants`.
            invariants: Schema with drift_comparators and skew_comparators, see
                `components.dataset_schema.text.invariants_text`. None: nothing is
                compared.
            previous_statistics: `accepted_statistics` of an earlier run, resolved by
                `components.example_validator.previous.PreviousStatistics`, or found by
                the component of that name in `components.previous_statistics`; empty
                in the first run. None: splits are compared, runs are not.
            exclude_splits: Names of splits that are not looked at.
            records: Folder, local or gs://, in which that component looks. None: ML
                Metadata alone keeps what was accepted.

        Raises:
            ValueError: `invariants` without `examples`.
        """
        if invariants is not None and examples is None:
            raise ValueError("invariants need examples, of which they are measured")
        accepted = (
            types.Channel(type=standard_artifacts.ExampleStatistics)
            if invariants is not None
            else None
        )
        super().__init__(
            BlockingExampleValidatorSpec(
                statistics=statistics,
                schema=schema,
                examples=examples,
                invariants=invariants,
                previous_statistics=previous_statistics,
                exclude_splits=json_utils.dumps(exclude_splits or []),
                records=records,
                anomalies=types.Channel(type=standard_artifacts.ExampleAnomalies),
                accepted_statistics=accepted,
            )
        )
