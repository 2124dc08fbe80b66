"""Contract of RunConfiguration: what it is told and what it hands on."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import component_spec

from components import artifacts
from pipeline.vertex.steps.first_step import executor

CONFIGURATION = executor.CONFIGURATION


class RunConfigurationSpec(types.ComponentSpec):
    """Parameters and output of RunConfiguration."""

    PARAMETERS = {
        executor.OVERRIDES: component_spec.ExecutionParameter(type=str),
        executor.FIXED: component_spec.ExecutionParameter(type=str),
        executor.TRAINING_JOBS: component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {
        executor.CONFIGURATION: component_spec.ChannelParameter(
            type=artifacts.RunConfiguration
        )
    }


class RunConfiguration(base_component.BaseComponent):
    """Turns the parameter `overrides` of a run into the parameters of all other nodes.

    Nothing is read before it has accepted the overrides. When the specification is
    compiled (pipeline/vertex/compile.py), it gets an output for every parameter that a
    run may change, besides:

    `outputs`:
      - `configuration`: run.json, see pipeline/vertex/steps/first_step/executor.py.
    """

    SPEC_CLASS = RunConfigurationSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self, *, overrides: str | RuntimeParameter, fixed: str, training_jobs: str
    ):
        """Creates the node.

        Args:
            overrides: JSON of the run's own overrides, see pipeline/vertex/overrides.py.
            fixed: JSON of the fields that are fixed when compiling.
            training_jobs: JSON: role -> CustomJob, see pipeline/vertex/jobs.py.
        """
        super().__init__(
            RunConfigurationSpec(
                overrides=overrides,
                fixed=fixed,
                training_jobs=training_jobs,
                configuration=types.Channel(type=artifacts.RunConfiguration),
            )
        )
