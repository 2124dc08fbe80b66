"""Logged requests against training examples, both written here with known content."""

import io

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")
from tensorflow_serving.apis import model_pb2, prediction_log_pb2  # noqa: E402

from serving import live_statistics  # noqa: E402
from serving.server import request_log  # noqa: E402

pytestmark = pytest.mark.tf

CLASSES = ("cat", "dog", "ship")


def images(count, seed, brightness=128):
    noise = np.random.default_rng(seed).normal(brightness, 40, (count, 32, 32, 3))
    level = np.random.default_rng(seed + 1).normal(0, 15, (count, 1, 1, 1))
    return np.clip(noise + level, 0, 255).astype(np.uint8)


def example(image, **labels):
    features = {
        "image": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[image.tobytes()])
        )
    }
    for name, value in labels.items():
        features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features))


@pytest.fixture(scope="module")
def pipeline_output(tmp_path_factory):
    """A run's output folder, as far as the command looks at it: 600 examples."""
    output = tmp_path_factory.mktemp("output")
    for number in ("9", "10"):  # the newest is 10, not 9
        split = output / f"artifacts/CifarExampleGen/examples/{number}/Split-train"
        split.mkdir(parents=True)
        count = 600 if number == "10" else 1
        for shard in range(2):
            path = str(split / f"data_tfrecord-{shard:05}-of-00002.gz")
            with tf.io.TFRecordWriter(path, "GZIP") as writer:
                for i, image in enumerate(images(count // 2, shard)):
                    writer.write(example(image, label=i % 3).SerializeToString())
    extra = output / "serving/cifar/1/assets.extra"
    extra.mkdir(parents=True)
    names = ", ".join(f'"{name}"' for name in CLASSES)
    (extra / "run.json").write_text(f'{{"class_names": [{names}]}}')
    return output


def predict_log(feeds, classes):
    spec = model_pb2.ModelSpec(name="cifar", signature_name="s")
    names = np.array([name.encode() for name in classes], object)
    return request_log.predict_log(spec, feeds, {"class_name": names})


def png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def write_log(folder, pixels, classes):
    """Logs a part of the images in each form in which they can be sent."""
    log = request_log.RequestLog(str(folder), 1.0, 1 << 26)
    for i in range(0, len(pixels), 8):
        part, names = pixels[i : i + 8], classes[i : i + 8]
        form = i // 8 % 4
        if form == 3:
            made = prediction_log_pb2.PredictionLog()
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
            made = predict_log({"images": sent}, names)
        log.record("cifar", lambda made=made: made, 1)
    # What has no images or other ones is passed over.
    log.record("cifar", lambda: predict_log({"x": np.zeros((2, 3))}, ["a", "b"]), 1)
    log.record("cifar", lambda: predict_log({"x": np.array([b"no"], object)}, ["a"]), 1)
    log.record("cifar", prediction_log_pb2.PredictionLog, 1)
    log.close(60)


def run(folder, output, capsys, *options):
    status = live_statistics.main(
        ["--request_log_dir", str(folder), "--pipeline_output", str(output), *options]
    )
    return status, capsys.readouterr()


def test_same_traffic_has_no_drift(pipeline_output, tmp_path, capsys):
    classes = [CLASSES[i % 3] for i in range(400)]
    write_log(tmp_path, images(400, 77), classes)
    status, printed = run(tmp_path, pipeline_output, capsys)
    assert status == 0
    assert printed.out.startswith("400 live images against 600 of training\n")
    assert printed.out.endswith("No drift.\n")
    table = live_statistics.live_table(str(tmp_path), 10_000)
    expected = images(400, 77).astype(float).mean(axis=(1, 2, 3)) / 255
    # In whatever form an image was sent, it is the same image.
    np.testing.assert_allclose(table["brightness"], expected, atol=1e-5)
    assert table["class"].tolist() == classes


def test_darker_images_and_other_classes_are_drift(pipeline_output, tmp_path, capsys):
    write_log(tmp_path, images(400, 5, brightness=60), ["ship"] * 300 + ["cat"] * 100)
    status, printed = run(tmp_path, pipeline_output, capsys)
    assert status == 1
    lines = {line.split()[0]: line for line in printed.out.splitlines()}
    assert "DRIFT" in lines["brightness"] and lines["brightness"].endswith(": darker")
    assert "DRIFT" in lines["class"]
    assert "class ship is 75.00%, in training 33.33%" in lines["class"]
    assert lines["Live"].startswith("Live traffic has drifted in brightness, ")


def test_too_little_to_compare(pipeline_output, tmp_path, capsys):
    log = tmp_path / "log"
    assert "no such request log" in run(log, pipeline_output, capsys)[1].err
    log.mkdir()
    status, printed = run(log, pipeline_output, capsys)
    assert (status, printed.out) == (2, "")
    assert "holds no logged request with images" in printed.err
    write_log(log, images(10, 1), ["cat"] * 10)
    status, printed = run(log, pipeline_output, capsys)
    assert status == 2
    assert "There are 10 live images, but a comparison needs 200" in printed.err
    status, printed = run(log, tmp_path / "elsewhere", capsys)
    assert (status, "no training examples" in printed.err) == (2, True)
