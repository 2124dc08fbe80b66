"""Writes the SavedModel that `benchmarks.serve` serves: an untrained network.

    python -m benchmarks.serve_model NETWORK FOLDER

Its speed is a trained one's. The signature is the pipeline's `serving_default`: uint8
images in; probabilities, label and class name out. As the pipeline's models do, it brings
warm-up requests along: the first call of a graph takes a hundred times as long as others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from contract import features
from contract.datasets import known
from contract.records import WARMUP_FILE
from trainer import network

CLASSES, IMAGE_SHAPE = known("cifar10").class_names, known("cifar10").pixels
WARMUP_BATCHES = (1, 32)


class Servable(tf.Module):
    """The network with what stands around it in trainer.export."""

    def __init__(self, name: str):
        super().__init__()
        self._network = network.build(name, classes=len(CLASSES))
        # Keras's own wrappers hide the variables from a v1 loader.
        self._variables = [variable.value for variable in self._network.variables]
        self._names = tf.constant(CLASSES)

    @tf.function(
        input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.uint8, name="images")]
    )
    def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Images uint8 [batch, 32, 32, 3] to a signature's outputs."""
        normalised = tf.cast(images, tf.float32) / 127.5 - 1.0
        probabilities = tf.nn.softmax(self._network(normalised, training=False))
        label = tf.argmax(probabilities, axis=1)
        return {
            features.PROBABILITIES: probabilities,
            features.PREDICTED_LABEL: label,
            features.CLASS_NAME: tf.gather(self._names, label),
        }


def main() -> None:
    """Builds and saves."""
    name, folder = sys.argv[1:]
    servable = Servable(name)
    signatures = {features.SIGNATURE_IMAGES: servable.serve}
    tf.saved_model.save(servable, folder, signatures=signatures)
    path = Path(folder, WARMUP_FILE)
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for rows in WARMUP_BATCHES:
            log = prediction_log_pb2.PredictionLog()
            images = np.zeros((rows, *IMAGE_SHAPE), np.uint8)
            tensor = log.predict_log.request.inputs["images"]
            tensor.CopyFrom(tf.make_tensor_proto(images))
            writer.write(log.SerializeToString())


if __name__ == "__main__":
    main()
