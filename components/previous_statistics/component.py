"""Contract of PreviousStatistics: what it reads and what it hands on."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.example_validator.executor import (
    EXAMPLES,
    INVARIANTS,
    PREVIOUS,
    RECORDS,
)
from components.previous_statistics import executor


class PreviousStatisticsSpec(types.ComponentSpec):
    """Inputs, output and parameter of PreviousStatistics."""

    PARAMETERS = {RECORDS: component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        INVARIANTS: component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        PREVIOUS: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics
        )
    }


class PreviousStatistics(base_component.BaseComponent):
    """Finds the accepted statistics that this run's data are compared with.

    The form of `components.example_validator.previous.PreviousStatistics` for engines
    without resolvers of ML Metadata (Vertex AI): it asks records in object storage. What
    it finds changes without its inputs, so it must not be answered from a cache.

    `outputs`:
      - `previous_statistics`: `accepted_statistics` of an earlier run, or an artifact
        whose custom property `empty` is 1.
    """

    SPEC_CLASS = PreviousStatisticsSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        invariants: types.BaseChannel,
        records: str,
    ):
        """Creates the node.

        Args:
            examples: Examples of this run, with the custom property `name`.
            invariants: Schema with the thresholds of this run.
            records: Folder, as given to the ExampleValidator.
        """
        super().__init__(
            PreviousStatisticsSpec(
                examples=examples,
                invariants=invariants,
                records=records,
                previous_statistics=types.Channel(
                    type=standard_artifacts.ExampleStatistics
                ),
            )
        )
