"""What depth costs besides training time: graph nodes, export, SavedModel, loading.

    python -m benchmarks.depth_cost <contender> <depth>        "ours" or "unrolled_keras"

Prints one JSON line. Counted are the nodes of the whole training step (forward, backward,
update), its functions included. What is exported is what a run publishes: four
signatures, class names and normalisation inside. `benchmarks.train` runs this in a process
of its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks import unrolled_keras
from benchmarks.input_rate import normalise
from contract import features
from contract.config.train import TrainConfig
from contract.datasets import known
from contract.model_run import ModelRun
from trainer import export, fit, network
from trainer.preprocessing import IMAGE_MEAN, IMAGE_STD

CLASSES = 10
BATCH_SIZE = 64


def main(contender: str, depth: int) -> None:
    """Measures one network."""
    if contender == "ours":
        model = network.build(f"preact_resnet{depth}_bottleneck", CLASSES)
    else:
        model = unrolled_keras.build(depth, CLASSES)
    print(json.dumps({"training_nodes": training_nodes(model), **export_cost(model)}))


def training_nodes(model: keras.Model) -> int:
    """Nodes in the graph of one training step, functions included."""
    config = TrainConfig(global_batch_size=BATCH_SIZE)
    execute = fit._execution(model, fit._optimizer(model, config), config)
    images, labels = tf.zeros([BATCH_SIZE, 32, 32, 3]), tf.zeros([BATCH_SIZE], tf.int64)
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    graph = execute.get_concrete_function(iterator, tf.constant([0.1])).graph
    definition = graph.as_graph_def()
    functions = definition.library.function
    return len(definition.node) + sum(len(each.node_def) for each in functions)


def export_cost(model: keras.Model) -> dict[str, float]:
    """Seconds and megabytes (10^6 bytes) of the SavedModel."""
    with tempfile.TemporaryDirectory(prefix="depth-cost-") as folder:
        directory = Path(folder, "model")
        start = time.perf_counter()
        names = tuple(str(i) for i in range(CLASSES))
        dataset = dataclasses.replace(known("cifar10"), labels={features.LABEL: names})
        stand_in: Any = Transform()
        images = np.zeros((16, 32, 32, 3), np.uint8)  # whose answers travel along
        export.save(
            model,
            stand_in,
            dataset,
            directory=str(directory),
            run=ModelRun(),
            images=images,
        )
        exported = time.perf_counter()
        tf.saved_model.load(str(directory))
        loaded = time.perf_counter()
        size = (directory / "saved_model.pb").stat().st_size
    return {
        "export_seconds": exported - start,
        "saved_model_megabytes": size / 1e6,
        "load_seconds": loaded - exported,
    }


class Transform:
    """Stands in for the Transform component's output, which takes a Beam run to make."""

    def transform_features_layer(self):
        """Raw pixels in, normalised images and their statistics out."""

        def layer(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            images = normalise(inputs[features.IMAGE])
            shape = tf.shape(images)
            return {
                features.TRANSFORMED_IMAGE: images,
                IMAGE_MEAN: tf.fill(shape, 127.5),
                IMAGE_STD: tf.fill(shape, 73.9),
            }

        return layer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
