"""Trainer stage: `run_fn` connects input, network, training loop and export.

The baseline and the candidate go through this one function; only the network's name
differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft

from contract import features, provenance
from contract.config.model import ModelConfig
from contract.config.train import TrainConfig
from contract.datasets import Dataset
from contract.fields import from_json
from contract.model_run import ModelRun
from contract.records import HISTORY_FILE
from trainer import (
    export,
    fit,
    initial_weights,
    network,
    preprocessing,
    program,
    strategy,
    units,
    workers,
)
from trainer.examples import Examples, artifact_of, dataset_of, load_examples
from trainer.input import TrainingData
from trainer.streaming import Stream


# TFX Trainer will call this function.
def run_fn(fn_args: Any) -> None:
    """Trains one network and exports it.

    Args:
        fn_args: tfx.components.FnArgs; its `custom_config` holds "role" ("baseline" or
            "candidate"), "model", "train" and "preprocessing" (JSON of the sections),
            and "checkpoints" (a folder, local or gs://). Shape, classes and which label is
            learnt stand beside the examples. "initial_weights_digest" is that of what "model"
            starts from, if it does. With "divergence": "record", a training that
            diverges leaves its record in place of a model; else it raises.
    """
    settings = fn_args.custom_config
    model_config = from_json(ModelConfig, settings["model"])
    config = from_json(TrainConfig, settings["train"])
    # Of several workers each must be known before TensorFlow computes anything.
    devices = strategy.create(config)
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    layer = transform.transform_features_layer()
    dataset = dataset_of(artifact_of(fn_args.train_files))
    mean, std = preprocessing.mean_and_deviation(layer, dataset)
    statistics: tuple[tf.Tensor, ...] = (mean, std)
    if dataset.crop is not None:
        statistics += (preprocessing.colour_covariance(layer, dataset),)
    train = _split(fn_args.train_files, dataset, features.TRAIN, statistics)
    evaluation = _split(fn_args.eval_files, dataset, features.EVAL, statistics)

    weights: dict[str, Any] = {}
    if model_config.initial_weights is not None:
        field = f"{settings['role']}.initial_weights"
        found = initial_weights.find(model_config.initial_weights, field)
        spec = units.parse_network(model_config.network)
        initial_weights.check(found, spec, dataset.pixels[-1])
        weights = initial_weights.read(found, dataset.class_names)

    key = _training_key(
        settings,
        dataset,
        train,
        evaluation,
        mean.numpy(),
        std.numpy(),
        *weights.values(),
    )
    checkpoints = os.path.join(settings["checkpoints"], key)

    # The same command, the same weights: also after a resumed run.
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    with devices.scope(), workers.said_if_lost():
        model = network.build(
            model_config.network,
            classes=len(dataset.class_names),
            image_shape=dataset.pixels,
            seed=config.seed,
            initialiser=config.initialiser,
            zero_start=config.zero_start,
            rematerialise=config.rematerialise,
            synchronized=config.synchronized_batch_norm,
            unroll=config.synchronized_batch_norm,
            dtype=config.precision,
        )
        if weights:
            new_head = not any(
                name.startswith(initial_weights.HEAD) for name in weights
            )
            network.import_weights(model, weights, new_head=new_head)
            if config.freeze != "none":
                network.freeze(model, config.freeze)
        alone = not tf.distribute.has_strategy()
        chief = workers.is_chief()
        problem = None
        try:
            outcome = fit.fit(
                model,
                TrainingData(
                    train=train,
                    evaluation=evaluation,
                    normalise=lambda images: preprocessing.apply_transform(
                        layer, images, dataset
                    ),
                ),
                config,
                checkpoint_directory=checkpoints,
                summary_directory=fn_args.model_run_dir,
                title=f"{settings['role']} {model_config.network}",
            )
        except fit.TrainingDiverged as diverged:
            if settings.get("divergence") != "record" or diverged.outcome is None:
                raise
            outcome, problem = diverged.outcome, str(diverged)
    if not chief:
        _meet(devices)  # TFX looks for the model when this returns
        return
    record = ModelRun(
        role=settings["role"],
        network=model_config.network,
        parameters=program.count_parameters(
            units.parse_network(model_config.network),
            len(dataset.class_names),
            dataset.pixels[-1],
        ),
        initial_weights=model_config.initial_weights,
        initial_weights_digest=settings.get("initial_weights_digest"),
        train=dataclasses.asdict(config),
        train_examples=len(train),
        eval_examples=len(evaluation),
        dataset=dataset.name,
        class_names=dataset.class_names,
        image_shape=dataset.pixels,
        encoded=dataset.crop is not None,
        preprocessing=json.loads(settings["preprocessing"]),
        commit=provenance.commit(),
        versions=provenance.versions(),
        steps=outcome.steps,
        seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
        replicas=outcome.replicas,
        history=tuple(outcome.history),
        problem=problem,
    )
    if problem is None:
        export.save(
            model if alone else network.on_one_device(model),
            transform,
            dataset,
            directory=fn_args.serving_model_dir,
            run=record,
            images=preprocessing.decode_pixels(
                evaluation.first(export.MOST_EXPECTED_ANSWERS), dataset
            ).numpy(),
        )
    else:
        export.save_record(fn_args.serving_model_dir, record)
    with tf.io.gfile.GFile(os.path.join(fn_args.model_run_dir, HISTORY_FILE), "w") as f:
        f.write(record.to_json())
    _meet(devices)  # the others wait for the model
    # The result is safe now; a later run of the same configuration trains anew.
    with contextlib.suppress(tf.errors.OpError):
        tf.io.gfile.rmtree(checkpoints)


def _meet(devices: tf.distribute.Strategy) -> None:
    with devices.scope(), workers.said_if_lost():
        workers.meet()


def _files(patterns: list[str]) -> list[str]:
    return sorted(name for pattern in patterns for name in tf.io.gfile.glob(pattern))


def _split(
    patterns: list[str], dataset: Dataset, name: str, statistics: tuple[tf.Tensor, ...]
) -> Examples | Stream:
    """A split in memory; of encoded images where it is, with mean, deviation, covariance."""
    files = _files(patterns)
    if dataset.crop is None:
        return load_examples(files, dataset.label_key)
    mean, std, covariance = statistics
    return Stream(
        files=tuple(files),
        count=dataset.counts[name],
        label_key=dataset.label_key,
        crop=dataset.crop,
        mean=mean,
        std=std,
        covariance=covariance,
    )


def _training_key(
    settings: dict[str, Any],
    dataset: Dataset,
    train: Examples | Stream,
    evaluation: Examples | Stream,
    *arrays: Any,
) -> str:
    """A folder name that differs whenever the training would differ."""
    digest = hashlib.sha256()
    for name in ("role", "model", "train", "source"):
        digest.update(json.dumps(settings.get(name), sort_keys=True).encode())
    digest.update(dataset.to_json(sort_keys=True).encode())
    for split in (train, evaluation):
        digest.update(split.identity)  # of a stream: dataset.json has the content's
    for array in arrays:
        digest.update(array.tobytes())
    return f"{settings['role']}-{digest.hexdigest()[:16]}"
