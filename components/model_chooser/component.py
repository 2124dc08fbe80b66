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
        executor.POLICY: component_spec.ExecutionParameter(type=str),
        executor.BASELINE_NETWORK: component_spec.ExecutionParameter(type=str),
        executor.CANDIDATE_NETWORK: component_spec.ExecutionParameter(type=str),
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
    """Chooses one of two evaluated contenders, blesses it and says why.

    `outputs`:
      - `model`: the winner, copied; empty when nobody could be chosen.
      - `blessing`: as TFX's Pusher and Resolver read it.
      - `decision`: decision.json, see components/model_chooser/choice.py.
    """

    SPEC_CLASS = ModelChooserSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(  # noqa: PLR0913 - three inputs and three parameters, all by name
        self,
        *,
        evaluation: types.BaseChannel,
        baseline: types.BaseChannel,
        candidate: types.BaseChannel,
        policy: str,
        baseline_network: str,
        candidate_network: str,
    ):
        """Creates the node.

        Args:
            evaluation: ModelEvaluation of an Evaluator that ran with
                `pipeline.evaluation.eval_config`, the candidate as its model and the
                baseline as its baseline model.
            baseline: Model, as given to that Evaluator.
            candidate: Model, as given to that Evaluator.
            policy: A name from `choice.POLICIES`.
            baseline_network: Name of the baseline's network, for people.
            candidate_network: Name of the candidate's network, for people.
        """
        super().__init__(
            ModelChooserSpec(
                evaluation=evaluation,
                baseline=baseline,
                candidate=candidate,
                policy=policy,
                baseline_network=baseline_network,
                candidate_network=candidate_network,
                model=types.Channel(type=standard_artifacts.Model),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                decision=types.Channel(type=artifacts.Decision),
            )
        )
