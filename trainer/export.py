"""Export: the SavedModel that TFMA evaluates and TF Serving serves.

In: the trained network and the Transform graph. Out: a SavedModel with the signatures of
`contract.features`, the Transform graph and the class names inside it.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

import io
import os

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_serving.apis import prediction_log_pb2

from contract import features
from contract.datasets import LUMINANCE, Dataset
from contract.model_run import ModelRun
from contract.records import (
    BATCHING_FILE,
    EXPECTED_ANSWERS_FILE,
    EXTRA_ASSETS,
    MODEL_RUN_FILE,
    WARMUP_FILE,
)
from trainer.examples import example_of, parse
from trainer.preprocessing import (
    apply_transform,
    as_in_examples,
    blank,
    decode_pixels,
    mean_and_deviation,
    normalise,
)

_WARMUP_BATCH = 32
MOST_EXPECTED_ANSWERS = 8  # few: 1,001 layers take most of a second for these
# For `tensorflow_model_server --enable_batching --enable_per_model_batching_parameters`
# (tensorflow/serving, g3doc/serving_config.md).
BATCHING_PARAMETERS = """\
max_batch_size { value: 128 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
allowed_batch_sizes: 128
"""


class Servable(tf.Module):
    """The network with everything between a client's bytes and the class name."""

    def __init__(
        self,
        model: keras.Model,
        transform: tft.TFTransformOutput,
        dataset: Dataset,
    ) -> None:
        super().__init__()
        # What is saved are these variables and the signatures' graphs. The objects that made
        # the graphs stay inside functions: as attributes they would be saved, too. Of the
        # Keras model that is a second copy of every variable, by which TF Serving's loader (a
        # session) restores the wrong one; of the Transform layer, one of tf_keras, graphs
        # that nobody calls.
        self._variables = [variable.value for variable in model.variables]
        self._network = lambda images: model(images, training=False)
        layer = transform.transform_features_layer()
        self._normalise_raw = lambda files: apply_transform(layer, files, dataset)
        self._dataset = dataset
        self._class_names = tf.constant(list(dataset.class_names))
        self._mean, self._std = mean_and_deviation(layer, dataset)
        shape = [None, *dataset.pixels]
        # One function, traced once: all signatures share its graph in the SavedModel.
        self._predict = tf.function(
            self._answers, input_signature=[tf.TensorSpec(shape)], autograph=False
        )
        self.serve_images = tf.function(
            self._serve_images,
            input_signature=[tf.TensorSpec(shape, tf.uint8, name="images")],
            autograph=False,
        )

    def _serve_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decoded pixels, uint8 [batch, height, width, channels]."""
        return self._predict(normalise(images, self._mean, self._std))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="examples")],
        autograph=False,
    )
    def serve_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Examples as ingested; only the image is read."""
        raw = parse(examples, [features.IMAGE])[features.IMAGE]
        return self._predict(self._normalise_raw(raw))

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="encoded")],
        autograph=False,
    )
    def serve_encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """PNG or JPEG files of an image's size; of a grey model grey ones, or any.

        Of a model that was trained on files: of any size, cut as in evaluation.
        """
        if self._dataset.crop is not None:
            images = decode_pixels(encoded, self._dataset)
            return self._predict(normalise(images, self._mean, self._std))
        height, width, channels = self._dataset.pixels

        def decode(file: tf.Tensor) -> tf.Tensor:
            # Grey ones, too: their three equal channels have their own luminance.
            image = tf.io.decode_image(file, channels=3, expand_animations=False)
            right_size = tf.debugging.assert_equal(
                tf.shape(image),
                [height, width, 3],
                message=f"encoded_images takes finished PNG or JPEG files of {width} x "
                f"{height} pixels; the client resizes others (--resize)",
            )
            with tf.control_dependencies([right_size]):
                image = tf.identity(image)
            image.set_shape([height, width, 3])
            return image if channels == 3 else luminance(image)

        images = tf.map_fn(decode, encoded, fn_output_signature=tf.uint8)
        images = tf.reshape(images, [-1, height, width, channels])  # also when empty
        return self._predict(normalise(images, self._mean, self._std))

    # The name "inputs" is what TF Serving's Classify feeds.
    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="inputs")],
        autograph=False,
    )
    def serve_classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Examples, answered with all class names and scores."""
        raw = parse(inputs, [features.IMAGE])[features.IMAGE]
        outputs = self._predict(self._normalise_raw(raw))
        scores = outputs[features.PROBABILITIES]
        names = tf.tile(self._class_names[None], [tf.shape(scores)[0], 1])
        return {"classes": names, "scores": scores}

    def _answers(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Normalised images, float32 [batch, ...], to a signature's outputs."""
        logits = self._network(images)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        label = tf.argmax(probabilities, axis=1, output_type=tf.int64)
        return {
            features.PROBABILITIES: probabilities,
            features.PREDICTED_LABEL: label,
            features.CLASS_NAME: tf.gather(self._class_names, label),
        }


def save(
    model: keras.Model,
    transform: tft.TFTransformOutput,
    dataset: Dataset,
    *,
    directory: str,
    run: ModelRun,
    images: np.ndarray | None = None,
) -> None:
    """Writes the SavedModel.

    Args:
        model: The trained network, images -> logits.
        transform: Output of the Transform component.
        dataset: That it was trained on: shape of the images, names of the classes.
        directory: Folder to be made; its parent is the Trainer's `Format-Serving`.
        run: Its provenance, stored as `assets.extra/run.json`.
        images: Eval images, uint8 [n, height, width, channels]; the network's answers to
            the first 8 are stored with the model. None: no answers, and the serving
            canary will refuse the model for it.
    """
    servable = Servable(model, transform, dataset)
    signatures = {
        features.SIGNATURE_IMAGES: servable.serve_images,
        features.SIGNATURE_EXAMPLES: servable.serve_examples,
        features.SIGNATURE_ENCODED: servable.serve_encoded,
        features.SIGNATURE_CLASSIFY: servable.serve_classify,
    }
    if dataset.crop is not None:
        signatures[features.SIGNATURE_ANY_SIZE] = servable.serve_encoded
    tf.saved_model.save(servable, directory, signatures=signatures)
    # tf.saved_model.save calls every signature a Predict; TF Serving's Classify refuses it.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(directory)
    updater.replace_method_name(
        signature_key=features.SIGNATURE_CLASSIFY,
        method_name=tf.compat.v1.saved_model.signature_constants.CLASSIFY_METHOD_NAME,
        tags=["serve"],
    )
    updater.save()
    save_record(directory, run)
    with tf.io.TFRecordWriter(os.path.join(directory, WARMUP_FILE)) as writer:
        for log in warmup_requests(dataset):
            writer.write(log.SerializeToString())
    if images is not None:
        answers = expected_answers(model, transform, dataset, images)
        path = os.path.join(directory, EXPECTED_ANSWERS_FILE)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(answers)
    with tf.io.gfile.GFile(os.path.join(directory, BATCHING_FILE), "w") as file:
        file.write(BATCHING_PARAMETERS)


def save_record(directory: str, run: ModelRun) -> None:
    """Writes a model's provenance alone; of a training that diverged nothing else is."""
    tf.io.gfile.makedirs(os.path.join(directory, EXTRA_ASSETS))
    with tf.io.gfile.GFile(os.path.join(directory, MODEL_RUN_FILE), "w") as file:
        file.write(run.to_json(indent=2, sort_keys=True))


def expected_answers(
    model: keras.Model,
    transform: tft.TFTransformOutput,
    dataset: Dataset,
    images: np.ndarray,
) -> bytes:
    """The content of `EXPECTED_ANSWERS_FILE`: what the network answers while it is trained.

    It goes the way of training, not of the SavedModel: images of examples through the Transform
    graph, then the network as it was trained, not one of
    the signatures.

    Args:
        model: The trained network, images -> logits.
        transform: Output of the Transform component.
        dataset: As of `save`.
        images: uint8 [n, height, width, channels]; those after the first 8 are left out.
    """
    images = np.asarray(images[:MOST_EXPECTED_ANSWERS], np.uint8)
    layer = transform.transform_features_layer()
    rows = tf.constant([as_in_examples(image, dataset) for image in images], tf.string)
    logits = _logits(model, apply_transform(layer, rows, dataset))
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=images,
        probabilities=tf.nn.softmax(logits).numpy(),
        class_names=np.array(list(dataset.class_names), dtype=np.str_),
    )
    return buffer.getvalue()


@tf.function(autograph=False)
def _logits(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Of normalised images, float32 [batch, classes]."""
    return tf.cast(model(images, training=False), tf.float32)


def warmup_requests(dataset: Dataset) -> list[prediction_log_pb2.PredictionLog]:
    """One request per signature, and one batch: TF Serving sends them before traffic.

    Source: tensorflow/serving, g3doc/saved_model_warmup.md.
    """
    pixels = np.zeros((1, *dataset.pixels), np.uint8)
    example = example_of(blank(dataset))
    inputs = [
        (features.SIGNATURE_IMAGES, "images", pixels),
        (features.SIGNATURE_IMAGES, "images", pixels.repeat(_WARMUP_BATCH, axis=0)),
        (features.SIGNATURE_EXAMPLES, "examples", [example.SerializeToString()]),
        (features.SIGNATURE_ENCODED, "encoded", [tf.io.encode_png(pixels[0]).numpy()]),
    ]
    logs = []
    for signature, key, value in inputs:
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.signature_name = signature
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        logs.append(log)
    classify = prediction_log_pb2.PredictionLog()
    request = classify.classify_log.request
    request.model_spec.signature_name = features.SIGNATURE_CLASSIFY
    request.input.example_list.examples.append(example)
    return [*logs, classify]


def luminance(image: tf.Tensor) -> tf.Tensor:
    """Grey of ITU-R BT.601 in the integers of Pillow's "L": uint8 [..., 3] -> [..., 1].

    As ingestion makes images grey, components/example_gen/reduction.py.
    """
    total = tf.reduce_sum(tf.cast(image, tf.int32) * LUMINANCE, axis=-1, keepdims=True)
    return tf.cast((total + 0x8000) // 0x10000, tf.uint8)
