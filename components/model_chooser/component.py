"""Contract of the ModelChooser: what it reads and what it hands on."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components import artifacts
from components.model_chooser import executor


class ModelChooserSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of the ModelChooser."""

    PARAMETERS = {
        executor.RULE: component_spec.ExecutionParameter(type=str),
        executor.SOURCE: component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        executor.EVALUATION: component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation
        ),
        executor.BASELINE: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
        executor.CANDIDATE: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
    }
    OUTPUTS = {
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.BLESSING: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing
        ),
        executor.DECISION: component_spec.ChannelParameter(type=artifacts.Decision),
    }


class ModelChooser(base_component.BaseComponent):
    """Chooses one of the evaluated contenders, blesses it and says why.

    `outputs`:
      - `model`: the winner, copied; empty when nothing is to be pushed.
      - `blessing`: as TFX's Pusher and Resolver read it.
      - `decision`: decision.json, see contract/comparison.py.
    """

    SPEC_CLASS = ModelChooserSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        evaluation: types.BaseChannel,
        baseline: types.BaseChannel,
        candidate: types.BaseChannel,
        rule: str,
        source: str,
    ):
        """Creates the node.

        Args:
            evaluation: ModelEvaluation of components.evaluator, on the eval split.
            baseline: Model, as given to that Evaluator.
            candidate: Model, as given to that Evaluator.
            rule: JSON of `contract.config.evaluation`.
            source: Digest of the code that chooses, so that a changed one runs again.
        """
        super().__init__(
            ModelChooserSpec(
                evaluation=evaluation,
                baseline=baseline,
                candidate=candidate,
                rule=rule,
                source=source,
                model=types.Channel(type=standard_artifacts.Model),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                decision=types.Channel(type=artifacts.Decision),
            )
        )
