"""Contract of the Evaluator: what it reads and what it hands on."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.evaluator import executor


class EvaluatorSpec(types.ComponentSpec):
    """Inputs, output and parameters of the Evaluator."""

    PARAMETERS = {
        executor.SPLIT: component_spec.ExecutionParameter(type=str),
        executor.CLASS_NAMES: component_spec.ExecutionParameter(type=str),
        executor.LABEL_KEY: component_spec.ExecutionParameter(type=str),
        executor.BATCH_SIZE: component_spec.ExecutionParameter(type=int),
        executor.BASELINE_NETWORK: component_spec.ExecutionParameter(type=str),
        executor.CANDIDATE_NETWORK: component_spec.ExecutionParameter(type=str),
        executor.SOURCE: component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        executor.EXAMPLES: component_spec.ChannelParameter(
            type=standard_artifacts.Examples
        ),
        executor.TRANSFORM_GRAPH: component_spec.ChannelParameter(
            type=standard_artifacts.TransformGraph
        ),
        executor.BASELINE: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
        executor.CANDIDATE: component_spec.ChannelParameter(
            type=standard_artifacts.Model
        ),
        executor.IN_SERVICE: component_spec.ChannelParameter(
            type=standard_artifacts.PushedModel, optional=True
        ),
    }
    OUTPUTS = {
        executor.EVALUATION: component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation
        )
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Runs up to three models over the same images, once, and compares them.

    TFX's Evaluator takes two models and compares them unpaired; this one adds the model
    in service, keeps every prediction and counts what differs image by image.

    `outputs`:
      - `evaluation`: TFMA's result (`tfma.load_eval_result(uri, model_name=...)`, the
        models being called baseline, candidate and in_service), comparison.json and
        predictions.npz (ids, labels, bands, probabilities of each role).
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(  # noqa: PLR0913 - inputs and parameters, all by name
        self,
        *,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        baseline: types.BaseChannel,
        candidate: types.BaseChannel,
        split: str,
        class_names: Sequence[str],
        label_key: str,
        batch_size: int,
        baseline_network: str,
        candidate_network: str,
        source: str,
        in_service: types.BaseChannel | None = None,
    ):
        """Creates the node.

        Args:
            examples: Examples with the split.
            transform_graph: TransformGraph whose outputs include `features.BANDS`.
            baseline: Model with the signature `serialized_examples`.
            candidate: The same.
            split: Which split is measured.
            class_names: In label order.
            label_key: Feature with the true class.
            batch_size: Images per forward pass.
            baseline_network: Name of the baseline's network, for people.
            candidate_network: Name of the candidate's network, for people.
            source: Digest of the code that measures, so that a changed one runs again.
            in_service: PushedModel, or nothing.
        """
        super().__init__(
            EvaluatorSpec(
                examples=examples,
                transform_graph=transform_graph,
                baseline=baseline,
                candidate=candidate,
                in_service=in_service,
                split=split,
                class_names=json.dumps(list(class_names)),
                label_key=label_key,
                batch_size=batch_size,
                baseline_network=baseline_network,
                candidate_network=candidate_network,
                source=source,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            )
        )
