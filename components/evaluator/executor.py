"""Work of the Evaluator: all contenders over one split, TFMA's result and comparison.json."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence

import tensorflow as tf
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from absl import logging
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import (
    Examples,
    Model,
    ModelEvaluation,
    PushedModel,
    TransformGraph,
)
from tfx.utils import io_utils, path_utils

from components.declaration import Beam, Output, executor_of
from components.evaluator import blocks, inference, measures
from contract import features, pushed_model
from contract.comparison import BASELINE, CANDIDATE, IN_SERVICE, Comparison
from contract.predictions import Predictions
from contract.records import COMPARISON_FILE, PREDICTIONS_FILE


def evaluate(
    *,
    examples: Examples,
    transform_graph: TransformGraph,
    baseline: Model,
    candidate: Model,
    in_service: PushedModel | None,
    split: str,
    class_names: Sequence[str],
    label_key: str,
    batch_size: int,
    baseline_network: str,
    candidate_network: str,
    evaluation: Output[ModelEvaluation],
    make_pipeline: Beam,
) -> None:
    """Runs up to three models over the same images, once, and compares them.

    TFX's Evaluator takes two models and compares them unpaired; this one adds the model
    in service, keeps every prediction and counts what differs image by image, with TFMA
    and with NumPy.

    Args:
        examples: With the split.
        transform_graph: Whose outputs include `features.BANDS`.
        baseline: With the signature `serialized_examples`.
        candidate: The same.
        in_service: Nothing, or one whose `pushed` is 0, where no model is in service.
        split: Which split is measured.
        class_names: In label order.
        label_key: Feature with the true class.
        batch_size: Images per forward pass.
        baseline_network: Name of the baseline's network, for people.
        candidate_network: Name of the candidate's network, for people.
        evaluation: Gets TFMA's result (`tfma.load_eval_result(uri, model_name=...)`, the
            models being called baseline, candidate and in_service), comparison.json and
            predictions.npz.
        make_pipeline: For TFMA.

    Raises:
        ValueError: The split is empty.
        RuntimeError: TFMA counted other errors than `measures` did.
    """
    split_uri = artifact_utils.get_split_uri([examples], split)
    began = time.perf_counter()
    serialized, images = inference.load_split(
        sorted(tf.io.gfile.glob(io_utils.all_files_pattern(split_uri))),
        label_key,
        tft.TFTransformOutput(transform_graph.uri),
    )
    models = _models(
        {
            BASELINE: (baseline_network, baseline),
            CANDIDATE: (candidate_network, candidate),
        },
        in_service,
    )
    answers = inference.run_all(
        {role: (name, folder) for role, (name, folder, _) in models.items()},
        serialized,
        class_names,
        batch_size=batch_size,
    )
    answers = {
        role: dataclasses.replace(given, artifact_id=models[role][2])
        for role, given in answers.items()
    }
    forward = time.perf_counter() - began
    comparison = measures.compare(
        split, images, answers, class_names, features.BAND_NAMES
    )
    sound = {
        role: given.probabilities
        for role, given in answers.items()
        if given.probabilities is not None
    }
    if sound:
        blocks.evaluate(images, sound, label_key, evaluation.uri, make_pipeline)
        _check_counts(evaluation.uri, comparison)
    logging.info(
        "Evaluated %d models on %d images: %.1f s, of it %.1f s reading and running",
        len(models), len(images), time.perf_counter() - began, forward,
    )  # fmt: skip
    io_utils.write_string_file(
        os.path.join(evaluation.uri, COMPARISON_FILE),
        comparison.to_json(allow_nan=False) + "\n",
    )
    predictions = Predictions(
        ids=images.ids,
        labels=images.labels,
        bands=images.bands,
        probabilities=sound,
    )
    with tf.io.gfile.GFile(
        os.path.join(evaluation.uri, PREDICTIONS_FILE), "wb"
    ) as file:
        predictions.write(file)


Executor = executor_of(evaluate)


def _models(
    contenders: Mapping[str, tuple[str, Model]], in_service: PushedModel | None
) -> dict[str, tuple[str, str, int]]:
    """Role -> (network, folder of the SavedModel, artifact id)."""
    found = {}
    for role, (network, model) in contenders.items():
        folder = path_utils.serving_model_path(
            model.uri, path_utils.is_old_model_artifact(model)
        )
        found[role] = (network, folder, model.id)
    # Where every output must have an artifact, one that was not pushed says that nothing
    # is in service yet.
    if in_service is not None and (
        not in_service.has_custom_property(pushed_model.PUSHED)
        or in_service.get_int_custom_property(pushed_model.PUSHED)
    ):
        network = in_service.get_string_custom_property(pushed_model.NETWORK)
        found[IN_SERVICE] = (
            network or "unknown network",
            in_service.uri,
            in_service.id,
        )
    return found


def _check_counts(output: str, comparison: Comparison) -> None:
    """Two ways to count must agree before anything is decided by the counts."""
    measured = {
        role: model.measured.error
        for role, model in comparison.models.items()
        if model.measured
    }
    called = dict(zip(blocks.model_names(list(measured)), measured, strict=True))
    for record in tfma.load_metrics(output):
        if record.slice_key.single_slice_keys:
            continue
        for item in record.metric_keys_and_values:
            if item.key.is_diff or item.key.name != blocks.ERROR:
                continue
            role = called[item.key.model_name]
            ours = measured[role]
            if not math.isclose(item.value.double_value.value, ours, abs_tol=1e-9):
                raise RuntimeError(
                    f"{role}: TFMA counts an error rate of "
                    f"{item.value.double_value.value}, the paired comparison {ours}; one "
                    "of them is wrong, so nothing is decided"
                )
