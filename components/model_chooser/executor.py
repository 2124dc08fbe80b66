"""Work of the ModelChooser: a comparison in; the winner, its blessing and the reason out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation
from tfx.utils import io_utils, path_utils

from components import artifacts, numbered, own_record
from components.declaration import Output, executor_of
from components.model_chooser import choice
from contract import pushed_model
from contract.comparison import Comparison
from contract.config.evaluation import EvaluationConfig
from contract.contenders import MOST_CONTENDERS
from contract.records import COMPARISON_FILE, DECISION_FILE


def choose(
    *,
    evaluation: ModelEvaluation,
    rule: EvaluationConfig,
    model: Output[Model],
    blessing: Output[ModelBlessing],
    decision: Output[artifacts.Decision],
    **models: Annotated[
        types.Artifact, numbered.inputs("model", Model, MOST_CONTENDERS)
    ],
) -> None:
    """Chooses one of the evaluated contenders, blesses it and says why.

    Args:
        evaluation: Of components.evaluator, on the eval split.
        rule: What is asked of a winner.
        model: Gets the winner, copied; stays empty when nothing is to be pushed.
        blessing: As TFX's Pusher and Resolver read it.
        decision: Gets decision.json, see contract/comparison.py.
        **models: Of the contenders; whose each is, its own run.json says.

    Raises:
        RecordError: The comparison is damaged.
        ValueError: Not exactly one of the models is the winner's.
    """
    path = os.path.join(evaluation.uri, COMPARISON_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        comparison = Comparison.read(file, path)
    chosen = choice.choose(comparison, rule)
    logging.info("Decision: %s", chosen.reason)

    io_utils.write_string_file(
        os.path.join(decision.uri, DECISION_FILE),
        chosen.to_json(indent=2, allow_nan=False) + "\n",
    )
    decision.set_string_custom_property("winner", chosen.winner or "none")
    decision.set_string_custom_property("reason", chosen.reason)

    if chosen.winner in comparison.contenders:
        winner = _of(chosen.winner, models)
        io_utils.copy_dir(winner.uri, model.uri)
        # The AtomicPusher hands these on.
        network = comparison.models[chosen.winner].network
        model.set_string_custom_property(pushed_model.NETWORK, network)
        model.set_string_custom_property(pushed_model.ROLE, chosen.winner)
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


Executor = executor_of(choose)


def _of(contender: str, models: Mapping[str, types.Artifact]) -> types.Artifact:
    """The model that a contender's training made."""
    found = []
    for model in models.values():
        folder = path_utils.serving_model_path(
            model.uri, path_utils.is_old_model_artifact(model)
        )
        if own_record.read(folder).role == contender:
            found.append(model)
    if len(found) != 1:
        raise ValueError(
            f"{contender} won, and {len(found)} of {len(models)} models say that they are "
            "its: one must; train again"
        )
    return found[0]
