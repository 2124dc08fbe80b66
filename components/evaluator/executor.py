"""Work of the Evaluator: everyone's answers in; TFMA's result and comparison.json out."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from absl import logging
from tfx import types
from tfx.types.standard_artifacts import ModelEvaluation
from tfx.utils import io_utils

from components import artifacts, numbered
from components.declaration import Beam, Output, executor_of
from components.evaluator import blocks, measures
from contract import features
from contract.answers import Answers, predictions_file
from contract.comparison import Comparison
from contract.contenders import in_order
from contract.predictions import Predictions
from contract.records import ANSWERS_FILE, COMPARISON_FILE, PREDICTIONS_FILE


def evaluate(
    *,
    evaluation: Output[ModelEvaluation],
    test_evaluation: Output[ModelEvaluation],
    make_pipeline: Beam,
    **answers: Annotated[types.Artifact, numbered.inputs("answers", artifacts.Answers)],
) -> None:
    """Compares what all models answered to the same images. No model is loaded.

    TFX's Evaluator takes two models and compares them unpaired; this one takes any number,
    the model in service among them, keeps every prediction and counts what differs image
    by image, with TFMA and with NumPy.

    Args:
        evaluation: Of the eval split, which decides. Gets TFMA's result
            (`tfma.load_eval_result(uri, model_name=...)`, the models being called as the
            contenders are, and in_service), comparison.json and predictions.npz.
        test_evaluation: The same of the test split, which only reports.
        make_pipeline: For TFMA.
        **answers: One for each model, of the same examples.

    Raises:
        ValueError: The answers are of different images, or two are of one contender.
        RecordError: Answers are damaged.
        RuntimeError: TFMA counted other errors than `measures` did.
    """
    asked: dict[str, tuple[Answers, str]] = {}
    for artifact in answers.values():
        path = os.path.join(artifact.uri, ANSWERS_FILE)
        with tf.io.gfile.GFile(path, "rb") as file:
            found = Answers.read(file, path)
        if found.contender in asked:
            raise ValueError(
                f"{artifact.uri} and {asked[found.contender][1]} are both answers of "
                f"{found.contender}: only one model can be called so"
            )
        asked[found.contender] = (found, artifact.uri)
    there = {name: asked[name] for name in in_order([*asked]) if asked[name][0].there}
    if not there:
        raise ValueError("no model has answered: there is nothing to compare")
    limits: tuple[int, ...] = ()
    for split, output in (
        (features.EVAL, evaluation),
        (features.TEST, test_evaluation),
    ):
        found = _same_images(
            {
                os.path.join(folder, predictions_file(split)): record
                for record, folder in there.values()
            }
        )
        if split == features.EVAL and found.sizes is not None:
            limits = measures.size_limits(found.sizes)
        records = {name: record for name, (record, _) in there.items()}
        _evaluate_split(split, records, found, limits, output.uri, make_pipeline)


Executor = executor_of(evaluate)


def _evaluate_split(
    split: str,
    records: Mapping[str, Answers],
    found: Predictions,
    limits: Sequence[int],
    output: str,
    make_pipeline: Beam,
) -> None:
    """One split; `records`: name -> what was asked, `limits`: of sizes, in pixels."""
    began = time.perf_counter()
    data = next(iter(records.values()))
    images = measures.Images(ids=found.ids, labels=found.labels, bands=found.bands)
    if limits and found.sizes is not None:
        size = np.searchsorted(limits, found.sizes)
        images = dataclasses.replace(
            images,
            bands={**found.bands, features.SIZE_BAND: size},
            names={features.SIZE_BAND: measures.size_names(limits)},
        )
    comparison = measures.compare(
        split,
        images,
        {
            name: measures.Answered(
                network=record.network or "unknown network",
                probabilities=found.probabilities.get(name),
                problem=record.problems.get(split),
                images_per_second=record.images_per_second,
                load_seconds=record.load_seconds,
                artifact_id=record.artifact_id,
            )
            for name, record in records.items()
        },
        data.class_names,
        features.BAND_NAMES,
    )
    if found.probabilities:
        blocks.evaluate(
            images, found.probabilities, data.label_key, output, make_pipeline
        )
        _check_counts(output, comparison)
    logging.info(
        "Compared %d models on %d images of %s: %.1f s",
        len(records), len(found.labels), split, time.perf_counter() - began,
    )  # fmt: skip
    io_utils.write_string_file(
        os.path.join(output, COMPARISON_FILE),
        comparison.to_json(allow_nan=False) + "\n",
    )
    with tf.io.gfile.GFile(os.path.join(output, PREDICTIONS_FILE), "wb") as file:
        found.write(file)


def _same_images(files: Mapping[str, Answers]) -> Predictions:
    """Everyone's predictions as one; `files`: path -> whose they are."""
    first: Predictions | None = None
    where, probabilities = "", {}
    told = {(record.label_key, record.class_names) for record in files.values()}
    if len(told) > 1:
        raise ValueError(
            f"{', '.join(files)} are answers about different classes: their examples are "
            "not the same"
        )
    for path, record in files.items():
        with tf.io.gfile.GFile(path, "rb") as file:
            read = Predictions.read(file, path, len(record.class_names))
        if first is None:
            first, where = read, path
        elif not read.are_of_the_images_of(first):
            raise ValueError(
                f"{where} and {path} are answers to different images: only answers to the "
                "same can be compared"
            )
        probabilities |= read.probabilities
    assert first is not None
    return dataclasses.replace(first, probabilities=probabilities)


def _check_counts(output: str, comparison: Comparison) -> None:
    """Two ways to count must agree before anything is decided by the counts."""
    measured = {
        name: model.measured.error
        for name, model in comparison.models.items()
        if model.measured
    }
    called = dict(zip(blocks.model_names(list(measured)), measured, strict=True))
    for record in tfma.load_metrics(output):
        if record.slice_key.single_slice_keys:
            continue
        for item in record.metric_keys_and_values:
            if item.key.is_diff or item.key.name != blocks.ERROR:
                continue
            name = called[item.key.model_name]
            ours = measured[name]
            if not math.isclose(item.value.double_value.value, ours, abs_tol=1e-9):
                raise RuntimeError(
                    f"{name}: TFMA counts an error rate of "
                    f"{item.value.double_value.value}, the paired comparison {ours}; one "
                    "of them is wrong, so nothing is decided"
                )
