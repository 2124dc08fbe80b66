"""Work of Answers: one model over eval and test, every answer kept."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft
from absl import logging
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, Model, PushedModel, TransformGraph
from tfx.utils import io_utils, path_utils

from components import artifacts, own_record
from components.answers import inference
from components.declaration import Output, executor_of
from contract import answers as records
from contract import pushed_model
from contract.contenders import IN_SERVICE
from contract.datasets import Dataset
from contract.model_run import ModelRun
from contract.predictions import Predictions
from contract.records import ANSWERS_FILE, HISTORY_FILE
from trainer.examples import dataset_in, part_of


def answer(
    *,
    examples: Examples,
    transform_graph: TransformGraph,
    model: Model | None,
    pushed: PushedModel | None,
    contender: str,
    batch_size: int,
    crops: str = "center",
    answers: Output[artifacts.Answers],
) -> None:
    """Asks one model about all images of eval and of test.

    What the model does wrong becomes a sentence in the answers, not an exception: one
    broken model must not hide what the others can do.

    Args:
        examples: With both splits and dataset.json.
        transform_graph: Whose outputs include `features.BANDS`.
        model: Of a Trainer, with the signature `serialized_examples`.
        pushed: The model in service instead; nothing, or one whose `pushed` is 0, where
            none is. The answers are then empty.
        contender: Whose model it is: a contender's name, or "in_service".
        batch_size: Images per forward pass.
        crops: Of encoded images, those whose probabilities are averaged: "center", "ten" or
            "multi_scale", see contract/crops.py.
        answers: Gets answers.json and the predictions of each split, see
            contract/answers.py, and what the model says of its training, history.json.

    Raises:
        ValueError: A split is empty, or the model's own record names another contender.
    """
    dataset = dataset_in(examples)
    asked = records.Answers(
        contender=contender,
        label_key=dataset.label_key,
        class_names=dataset.class_names,
    )
    if contender == IN_SERVICE:
        found = _in_service(pushed)
    else:
        found = None if model is None else _trained(model, contender)
    if found is None:
        logging.info("%s: there is no model to ask", contender)
        _write(dataclasses.replace(asked, there=False), {}, None, answers.uri)
        return
    began = time.perf_counter()
    asked = dataclasses.replace(
        asked,
        network=found.network,
        seed=found.told.train.get("seed"),
        uri=found.uri,
        artifact_id=found.id,
    )
    asked, predictions = _ask(
        asked, found, examples, transform_graph, dataset, (batch_size, crops)
    )
    for split, problem in asked.problems.items():
        logging.warning("%s on %s: %s", contender, split, problem)
    logging.info(
        "Asked %s (%s) about %d images in %.1f s",
        contender, found.network, sum(len(p.labels) for p in predictions.values()),
        time.perf_counter() - began,
    )  # fmt: skip
    _write(asked, predictions, found.told, answers.uri)


Executor = executor_of(answer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    """A model, and what is known of it."""

    folder: str  # of the SavedModel
    uri: str  # of the artifact
    id: int
    network: str | None
    told: ModelRun  # by itself, of its training


def _trained(model: Model, contender: str) -> _Found:
    folder = path_utils.serving_model_path(
        model.uri, path_utils.is_old_model_artifact(model)
    )
    told = own_record.read(folder)
    if told.role not in (None, contender):
        raise ValueError(
            f"{folder} says that it is the model of {told.role}, and stands where that of "
            f"{contender} must be: its nodes are connected wrongly"
        )
    return _Found(
        folder=folder,
        uri=model.uri,
        id=model.id,
        network=told.network,
        told=told,
    )


def _in_service(pushed: PushedModel | None) -> _Found | None:
    if pushed is None or not own_record.is_in_service(pushed):
        return None
    told = own_record.read(pushed.uri)
    return _Found(
        folder=pushed.uri,
        uri=pushed.uri,
        id=pushed.id,
        network=pushed.get_string_custom_property(pushed_model.NETWORK) or told.network,
        told=told,
    )


def _ask(
    asked: records.Answers,
    found: _Found,
    examples: Examples,
    transform_graph: TransformGraph,
    dataset: Dataset,
    how: tuple[int, str],
) -> tuple[records.Answers, dict[str, Predictions]]:
    """Completes the record; also gives the predictions of each split."""
    batch_size, crops = how
    transform = tft.TFTransformOutput(transform_graph.uri)
    files, images = {}, {}
    for split in records.SPLITS:
        uri = artifact_utils.get_split_uri([examples], split)
        files[split] = sorted(tf.io.gfile.glob(io_utils.all_files_pattern(uri)))
        images[split] = inference.describe(
            files[split], dataset, transform, part=part_of(dataset)
        )
    if found.told.problem is None:
        given = inference.ask(
            found.folder, files, dataset, batch_size=batch_size, crops=crops
        )
    else:  # its training has left no model
        problem = f"there is no model: {found.told.problem}"
        given = inference.Given(
            probabilities={},
            problems=dict.fromkeys(files, problem),
            load_seconds=0.0,
        )
    predictions = {
        split: dataclasses.replace(
            each,
            probabilities={asked.contender: given.probabilities[split]}
            if split in given.probabilities
            else {},
        )
        for split, each in images.items()
    }
    asked = dataclasses.replace(
        asked,
        problems=given.problems,
        images_per_second=given.images_per_second,
        load_seconds=given.load_seconds,
    )
    return asked, predictions


def _write(
    asked: records.Answers,
    predictions: Mapping[str, Predictions],
    told: ModelRun | None,
    folder: str,
) -> None:
    for split, each in predictions.items():
        path = os.path.join(folder, records.predictions_file(split))
        with tf.io.gfile.GFile(path, "wb") as file:
            each.write(file)
    if told is not None:
        io_utils.write_string_file(os.path.join(folder, HISTORY_FILE), told.to_json())
    io_utils.write_string_file(
        os.path.join(folder, ANSWERS_FILE),
        asked.to_json(indent=2, allow_nan=False) + "\n",
    )
