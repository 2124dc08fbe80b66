"""Work of the ModelChooser: metrics in; the winner, its blessing and the reason out."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow_model_analysis as tfma
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.model_chooser import choice

EVALUATION, BASELINE, CANDIDATE = "evaluation", "baseline", "candidate"
POLICY = "policy"
BASELINE_NETWORK, CANDIDATE_NETWORK = "baseline_network", "candidate_network"
MODEL, BLESSING, DECISION = "model", "blessing", "decision"
DECISION_FILE = "decision.json"

_CONFUSION = "multi_class_confusion_matrix_at_thresholds"
_CROSS_ENTROPY = "sparse_categorical_crossentropy"


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
            exec_properties: `policy`, `baseline_network`, `candidate_network`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        model, blessing, decision_artifact = (
            artifact_utils.get_single_instance(output_dict[key])
            for key in (MODEL, BLESSING, DECISION)
        )
        metrics = overall_metrics(artifact_utils.get_single_uri(input_dict[EVALUATION]))
        contenders: dict[choice.Role, choice.Contender] = {
            role: contender(metrics, role, exec_properties[f"{role}_network"])
            for role in choice.ROLES
        }
        policy = exec_properties[POLICY]
        decision = choice.choose(contenders, policy)
        logging.info("Decision: %s", decision.reason)

        description = choice.describe(contenders, policy, decision)
        io_utils.write_string_file(
            os.path.join(decision_artifact.uri, DECISION_FILE),
            json.dumps(description, indent=2, allow_nan=False) + "\n",
        )
        decision_artifact.set_string_custom_property(
            "winner", decision.winner or "none"
        )
        decision_artifact.set_string_custom_property("reason", decision.reason)

        if decision.winner:
            winner = artifact_utils.get_single_instance(input_dict[decision.winner])
            io_utils.copy_dir(winner.uri, model.uri)
            model.set_string_custom_property(
                "network", contenders[decision.winner].network
            )
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


def overall_metrics(evaluation_uri: str) -> dict[tuple[str, str], Any]:
    """Metric values of the overall slice, by (model name, metric name).

    Differences of the two models (is_diff) are left out: TFMA writes them under the
    candidate's name and the metric's own.
    """
    found = {}
    for metrics in tfma.load_metrics(evaluation_uri):
        if metrics.slice_key.single_slice_keys:
            continue
        for item in metrics.metric_keys_and_values:
            if not item.key.is_diff:
                found[item.key.model_name, item.key.name] = item.value
    return found


def contender(
    metrics: dict[tuple[str, str], Any], role: choice.Role, network: str
) -> choice.Contender:
    """Reads one model's counts; what is missing stays missing."""
    entries = {
        model: [
            entry
            for matrix in value.multi_class_confusion_matrix_at_thresholds.matrices
            for entry in matrix.entries
        ]
        for (model, name), value in metrics.items()
        if name == _CONFUSION
    }
    entropy = metrics.get((role, _CROSS_ENTROPY))
    cross_entropy = None if entropy is None else entropy.double_value.value
    if role not in entries:
        return choice.Contender(
            network=network,
            confusion=None,
            examples_by_class=(),
            cross_entropy=cross_entropy,
        )
    # TFMA leaves out pairs that never occurred, so both models together say how many
    # classes there are; a predicted class of -1 stands for "no prediction".
    classes = 1 + max(
        max(entry.actual_class_id, entry.predicted_class_id)
        for found in entries.values()
        for entry in found
    )
    confusion = [[0] * classes for _ in range(classes)]
    examples = [0] * classes
    for entry in entries[role]:
        count = round(entry.num_weighted_examples)
        examples[entry.actual_class_id] += count
        if entry.predicted_class_id >= 0:
            confusion[entry.actual_class_id][entry.predicted_class_id] += count
    return choice.Contender(
        network=network,
        confusion=tuple(tuple(row) for row in confusion),
        examples_by_class=tuple(examples),
        cross_entropy=cross_entropy,
    )
