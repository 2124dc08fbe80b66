"""Request logs and training data with known content, written as servers and runs do."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import model_pb2, prediction_log_pb2

from contract.datasets import Dataset
from contract.predictions import Predictions
from serving.server import request_log
from tests.contract.comparisons import earlier

COMPARISON = earlier("comparison.json")
CLASSES = COMPARISON.class_names  # cat, dog, ship


def images(count, seed, brightness=128):
    noise = np.random.default_rng(seed).normal(brightness, 40, (count, 32, 32, 3))
    level = np.random.default_rng(seed + 1).normal(0, 15, (count, 1, 1, 1))
    return np.clip(noise + level, 0, 255).astype(np.uint8)


def example(image):
    pixels = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()]))
    return tf.train.Example(features=tf.train.Features(feature={"image": pixels}))


def write_examples(folder, pixels):
    """Two shards of the training split, and what the images are."""
    (folder / "Split-train").mkdir(parents=True)
    dataset = Dataset(
        name="toy",
        title="Toy",
        image_shape=pixels.shape[1:],
        labels={"label": CLASSES},
    )
    (folder / "dataset.json").write_text(dataset.to_json())
    for shard in range(2):
        path = str(folder / f"Split-train/data_tfrecord-{shard:05}-of-00002.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for number in range(shard, len(pixels), 2):
                made = example(pixels[number])
                feature = made.features.feature
                feature["label"].int64_list.value.append(number % 3)
                feature["example_id"].bytes_list.value.append(b"%d-0" % number)
                writer.write(made.SerializeToString())
    return folder


def write_evaluation(folder, winner, other):
    """Answers of both contenders to the eval images: the class of each, by number."""
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(COMPARISON.to_json())
    sure = np.eye(3, dtype=np.float32)
    predictions = Predictions(
        ids=np.array([b"%d" % i for i in range(len(winner))]),
        labels=np.zeros(len(winner), np.int64),  # nothing may look at them
        bands={},
        probabilities={"candidate": sure[winner], "baseline": sure[other]},
    )
    with (folder / "predictions.npz").open("wb") as file:
        predictions.write(file)


def predict_log(feeds, classes, *, version, model="cifar", sure=None):
    spec = model_pb2.ModelSpec(name=model, signature_name="s")
    spec.version.value = version
    names = np.array([name.encode() for name in classes], object)
    outputs = {"class_name": names}
    if sure is not None:
        given = np.eye(3)[[CLASSES.index(name) for name in classes]]
        outputs["probabilities"] = (given * sure + (1 - sure) / 3).astype(np.float32)
    return request_log.predict_log(spec, feeds, outputs)


def png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def write_log(folder, pixels, classes, version):
    """Logs a part of the images in each form in which they can be sent."""
    log = request_log.RequestLog(str(folder), 1.0, 1 << 26)
    for i in range(0, len(pixels), 8):
        part, names = pixels[i : i + 8], classes[i : i + 8]
        form = i // 8 % 4
        if form == 3:
            made = prediction_log_pb2.PredictionLog()
            made.log_metadata.model_spec.name = "cifar"
            made.log_metadata.model_spec.version.value = version
            call = made.classify_log
            for image, name in zip(part, names, strict=True):
                call.request.input.example_list.examples.append(example(image))
                row = call.response.result.classifications.add()
                row.classes.add(label="other", score=0.1)
                row.classes.add(label=name, score=0.9)
        else:
            as_bytes = (None, png, lambda a: example(a).SerializeToString())[form]
            sent = (
                part if as_bytes is None else np.array([*map(as_bytes, part)], object)
            )
            made = predict_log({"images": sent}, names, version=version)
        log.record("cifar", lambda made=made: made, 1)
    # What has no images or other ones is passed over.
    for sent in (np.zeros((2, 3)), np.array([b"no"], object)):
        names = ["a"] * len(sent)
        made = predict_log({"x": sent}, names, version=version)
        log.record("cifar", lambda made=made: made, 1)
    log.record("cifar", prediction_log_pb2.PredictionLog, 1)
    log.close(60)


def write(folder, *logs):
    log = request_log.RequestLog(str(folder), 1.0, 1 << 26)
    for made in logs:
        log.record("cifar", lambda made=made: made, 1)
    log.close(60)


def same_as_training(count, seed, **spec):
    """Pixels and classes distributed like the training split."""
    classes = [CLASSES[i % 3] for i in range(count)]
    return predict_log({"images": images(count, seed)}, classes, **spec)
