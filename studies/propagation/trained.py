"""The trained networks of the last run in an output folder, and its eval images.

In: the folder's metadata. Out: weights by flat name, as before they were exported, and
normalised images. Nothing is trained here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx.utils import path_utils

from contract.fields import ConfigError
from pipeline.local import database, relocation
from pipeline.report import build, collect
from trainer import initial_weights
from trainer.examples import dataset_of, load_examples
from trainer.preprocessing import apply_transform


@dataclass(frozen=True, eq=False)
class Trained:
    """One trained network."""

    contender: str
    network: str
    weights: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class LastRun:
    """What a run left."""

    id: str
    dataset: str
    classes: int
    channels: int
    models: tuple[Trained, ...]
    images: tf.Tensor  # normalised, float32 [n, height, width, channels]
    labels: tf.Tensor  # int64 [n]


def last_run(output_root: str, most_images: int) -> LastRun:
    """Reads the newest finished run.

    Args:
        output_root: The pipeline's output folder.
        most_images: Of the eval split, the first ones by example id.

    Raises:
        ConfigError: There is no such run; the message says what to do.
    """
    output_root = os.path.abspath(output_root)
    database.check(output_root)
    relocation.settle(output_root)
    metadata = database.path(output_root)
    run_id = collect.latest_run(metadata)
    if run_id is None:
        raise ConfigError(
            f"output_root={output_root}: holds no finished run; train networks first, "
            "for example `make run data.name=digits preset=fast "
            "baseline.network=plain20 candidate.network=preact_resnet20`"
        )
    run = collect.find(metadata, run_id, in_service=None)
    examples = _one(run, "Examples", "examples")
    dataset = dataset_of(examples)
    graph = tft.TFTransformOutput(_one(run, "TransformGraph", "transform_graph"))
    pattern = os.path.join(examples, "Split-eval", "*")
    split = load_examples(tf.io.gfile.glob(pattern), dataset.label_key)
    layer = graph.transform_features_layer()
    images = split.images[:most_images]
    return LastRun(
        id=run_id,
        dataset=dataset.name,
        classes=len(dataset.class_names),
        channels=dataset.pixels[-1],
        models=_models(run),
        images=tf.concat(
            [
                apply_transform(layer, images[start : start + 1000], dataset)
                for start in range(0, len(images), 1000)
            ],
            axis=0,
        ),
        labels=split.labels[:most_images],
    )


def _models(run: build.Run) -> tuple[Trained, ...]:
    """One per contender: what chooses between models gives them out once more."""
    found: dict[str, Trained] = {}
    for uri in dict.fromkeys(a.uri for a in run.artifacts if a.type == "Model"):
        model = read(path_utils.serving_model_path(uri))
        found.setdefault(model.contender, model)
    return tuple(found.values())


def read(folder: str) -> Trained:
    """The weights inside an exported model.

    Args:
        folder: Of the SavedModel, as `trainer.export.save` wrote it.

    Raises:
        ConfigError: It holds other variables than its network.
    """
    source = initial_weights.find(folder, "model")
    told = source.run
    assert told is not None and told.network and told.class_names
    weights = initial_weights.read(source, told.class_names)
    return Trained(told.role or "", told.network, weights)


def _one(run: build.Run, kind: str, key: str) -> str:
    found = {each.uri for each in run.artifacts if (each.type, each.key) == (kind, key)}
    if len(found) != 1:
        raise ConfigError(
            f"run {run.id} has {len(found)} artifacts {key}, must have one; run the "
            "pipeline again"
        )
    return found.pop()
