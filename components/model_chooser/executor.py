"""Work of the ModelChooser: a comparison in; the winner, its blessing and the reason out."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.model_chooser import choice
from contract import pushed_model
from contract.comparison import CONTENDERS, Comparison
from contract.config.evaluation import EvaluationConfig
from contract.fields import from_json
from contract.records import COMPARISON_FILE, DECISION_FILE

EVALUATION, BASELINE, CANDIDATE = "evaluation", "baseline", "candidate"
RULE, SOURCE = "rule", "source"
MODEL, BLESSING, DECISION = "model", "blessing", "decision"


class Executor(base_executor.BaseExecutor):
    """Chooses, copies, blesses, explains."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the policy on what the Evaluator measured.

        Args:
            input_dict: `evaluation`, `baseline`, `candidate`, one artifact each.
            output_dict: `model`, `blessing`, `decision`, one artifact each.
            exec_properties: `rule`, the JSON of EvaluationConfig.

        Raises:
            RecordError: The comparison is damaged.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        model, blessing, decision_artifact = (
            artifact_utils.get_single_instance(output_dict[key])
            for key in (MODEL, BLESSING, DECISION)
        )
        evaluation = artifact_utils.get_single_uri(input_dict[EVALUATION])
        path = os.path.join(evaluation, COMPARISON_FILE)
        with tf.io.gfile.GFile(path, "rb") as file:
            comparison = Comparison.read(file, path)
        rule = from_json(EvaluationConfig, exec_properties[RULE])
        decision = choice.choose(comparison, rule)
        logging.info("Decision: %s", decision.reason)

        io_utils.write_string_file(
            os.path.join(decision_artifact.uri, DECISION_FILE),
            decision.to_json(indent=2, allow_nan=False) + "\n",
        )
        decision_artifact.set_string_custom_property(
            "winner", decision.winner or "none"
        )
        decision_artifact.set_string_custom_property("reason", decision.reason)

        if decision.winner in CONTENDERS:
            winner = artifact_utils.get_single_instance(input_dict[decision.winner])
            io_utils.copy_dir(winner.uri, model.uri)
            # The AtomicPusher hands these on.
            network = comparison.models[decision.winner].network
            model.set_string_custom_property(pushed_model.NETWORK, network)
            model.set_string_custom_property(pushed_model.ROLE, decision.winner)
            model.set_int_custom_property(pushed_model.MODEL_ID, winner.id)
            # Resolvers join a blessing to the model that a Trainer made, by its id.
            blessing.set_string_custom_property(
                constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, winner.uri
            )
            blessing.set_int_custom_property(
                constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, winner.id
            )
            file_name, value = constants.BLESSED_FILE_NAME, constants.BLESSED_VALUE
        else:
            file_name, value = (
                constants.NOT_BLESSED_FILE_NAME,
                constants.NOT_BLESSED_VALUE,
            )
        io_utils.write_string_file(os.path.join(blessing.uri, file_name), "")
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
