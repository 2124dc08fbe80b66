"""Work of the Evaluator: all contenders over one split, TFMA's result and comparison.json."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import time
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from absl import logging
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.evaluator import blocks, inference, measures
from contract import features, pushed_model
from contract.comparison import BASELINE, CANDIDATE, IN_SERVICE, Comparison
from contract.records import COMPARISON_FILE, PREDICTIONS_FILE

EXAMPLES, TRANSFORM_GRAPH = "examples", "transform_graph"
SPLIT, CLASS_NAMES, LABEL_KEY, BATCH_SIZE = (
    "split", "class_names", "label_key", "batch_size",
)  # fmt: skip
BASELINE_NETWORK, CANDIDATE_NETWORK = "baseline_network", "candidate_network"
SOURCE = "source"
EVALUATION = "evaluation"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs the models, then counts twice: with TFMA and with NumPy."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the contenders on one split.

        Args:
            input_dict: `examples`, `transform_graph`, `baseline`, `candidate` and, when a
                model is in service, `in_service` (PushedModel; one whose `pushed` is 0
                counts as none).
            output_dict: `evaluation`: TFMA's files, and beside them comparison.json (see
                contract/comparison.py) and predictions.npz.
            exec_properties: `split`, `class_names` (JSON list), `label_key`, `batch_size`,
                `baseline_network`, `candidate_network`.

        Raises:
            ValueError: The split is empty.
            RuntimeError: TFMA counted other errors than `measures` did.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        output = artifact_utils.get_single_uri(output_dict[EVALUATION])
        class_names = json.loads(exec_properties[CLASS_NAMES])
        label_key = exec_properties[LABEL_KEY]
        split_uri = artifact_utils.get_split_uri(
            input_dict[EXAMPLES], exec_properties[SPLIT]
        )
        began = time.perf_counter()
        serialized, images = inference.load_split(
            sorted(tf.io.gfile.glob(io_utils.all_files_pattern(split_uri))),
            label_key,
            tft.TFTransformOutput(
                artifact_utils.get_single_uri(input_dict[TRANSFORM_GRAPH])
            ),
        )
        models = _models(input_dict, exec_properties)
        answers = inference.run_all(
            {role: (name, folder) for role, (name, folder, _) in models.items()},
            serialized,
            class_names,
            batch_size=exec_properties[BATCH_SIZE],
        )
        answers = {
            role: dataclasses.replace(given, artifact_id=models[role][2])
            for role, given in answers.items()
        }
        forward = time.perf_counter() - began
        comparison = measures.compare(
            exec_properties[SPLIT], images, answers, class_names, features.BAND_NAMES
        )
        sound = {
            role: given.probabilities
            for role, given in answers.items()
            if given.probabilities is not None
        }
        if sound:
            blocks.evaluate(images, sound, label_key, output, self._make_beam_pipeline)
            _check_counts(output, comparison)
        logging.info(
            "Evaluated %d models on %d images: %.1f s, of it %.1f s reading and running",
            len(models), len(images), time.perf_counter() - began, forward,
        )  # fmt: skip
        io_utils.write_string_file(
            os.path.join(output, COMPARISON_FILE),
            comparison.to_json(allow_nan=False) + "\n",
        )
        # By way of memory: the format seeks, which files in object stores cannot.
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            "ids": images.ids.astype(np.bytes_),
            "labels": images.labels,
            **{f"band/{name}": band for name, band in images.bands.items()},
            **{f"probabilities/{role}": array for role, array in sound.items()},
        }
        np.savez(buffer, **arrays)
        with tf.io.gfile.GFile(os.path.join(output, PREDICTIONS_FILE), "wb") as file:
            file.write(buffer.getvalue())


def _models(
    input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]
) -> dict[str, tuple[str, str, int]]:
    """Role -> (network, folder of the SavedModel, artifact id)."""
    found = {}
    for role in (BASELINE, CANDIDATE):
        artifact = artifact_utils.get_single_instance(input_dict[role])
        folder = path_utils.serving_model_path(
            artifact.uri, path_utils.is_old_model_artifact(artifact)
        )
        found[role] = (exec_properties[f"{role}_network"], folder, artifact.id)
    for pushed in input_dict.get(IN_SERVICE) or ():
        # Where every output must have an artifact, one that was not pushed says that
        # nothing is in service yet.
        if pushed.has_custom_property(pushed_model.PUSHED) and not (
            pushed.get_int_custom_property(pushed_model.PUSHED)
        ):
            continue
        network = pushed.get_string_custom_property(pushed_model.NETWORK)
        found[IN_SERVICE] = (network or "unknown network", pushed.uri, pushed.id)
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
