"""Logged requests against training examples, both written here with known content."""

import io
import os
import zlib

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


def predict_log(feeds, classes, model="cifar", version=1):
    spec = model_pb2.ModelSpec(name=model, signature_name="s")
    spec.version.value = version
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
            made.log_metadata.model_spec.name = "cifar"
            made.log_metadata.model_spec.version.value = 1
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


def write(folder, *logs):
    log = request_log.RequestLog(str(folder), 1.0, 1 << 26)
    for made in logs:
        log.record("cifar", lambda made=made: made, 1)
    log.close(60)


def same_as_training(count, seed, **spec):
    """Pixels and classes distributed like the training split."""
    classes = [CLASSES[i % 3] for i in range(count)]
    return predict_log({"images": images(count, seed)}, classes, **spec)


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
    table, _ = live_statistics.live_table(str(tmp_path), 10_000)
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


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory):
    """Two models in one folder: cifar like training in two versions, digits unlike it."""
    folder = tmp_path_factory.mktemp("log")
    dark = images(300, 5, brightness=60)
    write(
        folder,
        same_as_training(200, 77, version=3),
        predict_log({"images": dark}, ["ship"] * 300, model="digits", version=7),
        same_as_training(240, 78, version=4),
    )
    return folder


def test_models_of_one_log_are_not_mixed(pipeline_output, shared_log, capsys):
    status, printed = run(shared_log, pipeline_output, capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err == (
        f"{shared_log} holds requests of 2 models, cifar and digits: choose one with "
        "--model NAME.\n"
    )
    status, printed = run(shared_log, pipeline_output, capsys, "--model=cifar")
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(
        "440 live images of cifar, versions 3 and 4, against 600 of training\n"
    )
    status, printed = run(shared_log, pipeline_output, capsys, "--model=digits")
    assert status == 1
    assert printed.out.startswith("300 live images of digits, version 7, against ")


def test_one_version_is_chosen(pipeline_output, shared_log, capsys):
    cifar = ("--model=cifar", "--version=4")
    status, printed = run(shared_log, pipeline_output, capsys, *cifar)
    assert status == 0
    assert printed.out.startswith("240 live images of cifar, version 4, against 600 ")
    # The newest images are all of the newest version.
    cifar = ("--model=cifar", "--most=210")
    _, printed = run(shared_log, pipeline_output, capsys, *cifar)
    assert printed.out.startswith("210 live images of cifar, version 4, against 210 ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model=cats"], "no request of --model cats, only of cifar and digits."),
        (
            ["--model=cifar", "--version=7"],
            "no request of cifar, --version 7, only of versions 3 and 4.",
        ),
    ],
)
def test_what_the_log_lacks(pipeline_output, shared_log, capsys, options, says):
    status, printed = run(shared_log, pipeline_output, capsys, *options)
    assert (status, printed.out) == (2, "")
    assert printed.err == f"{shared_log} holds {says}\n"


def classified(*rows):
    made = prediction_log_pb2.PredictionLog()
    made.log_metadata.model_spec.name = "cifar"
    for labels in rows:
        call = made.classify_log
        call.request.input.example_list.examples.append(example(images(1, 1)[0]))
        row = call.response.result.classifications.add()
        for label in labels:
            row.classes.add(label=label)
    return made


def numbered():
    made = predict_log({"images": images(2, 1)}, ["cat", "dog"])
    names = made.predict_log.response.outputs["class_name"]
    names.CopyFrom(tf.make_tensor_proto(np.array([3, 4], np.int64)))
    return made


def bomb():
    data = bytearray(png(images(1, 1)[0]))
    data[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return predict_log({"images": np.array([bytes(data)], object)}, ["cat"])


def cut():
    made = predict_log({"images": images(1, 1)}, ["cat"])
    tensor = made.predict_log.request.inputs["images"]
    tensor.tensor_content = tensor.tensor_content[:-1]
    return made


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (numbered, "its class_name is int64, not text\n"),
        (lambda: classified(["cat"], []), "a classification has no classes\n"),
        (bomb, "an image has more than 1,048,576 pixels\n"),
        (cut, ""),
    ],
)
def test_odd_record_is_counted(pipeline_output, tmp_path, capsys, odd, reason):
    write(tmp_path, odd())
    status, printed = run(tmp_path, pipeline_output, capsys)
    first, second = printed.err.splitlines(keepends=True)
    assert (status, printed.out) == (2, "")
    assert first.startswith("1 record could not be used: ") and first.endswith(reason)
    assert "holds no logged request with images" in second


def test_odd_records_stop_no_comparison(pipeline_output, tmp_path, capsys):
    # The last is of the same model, with an answer of another kind: nothing is wrong.
    other = classified()
    other.regress_log.SetInParent()
    odd = (numbered(), bomb(), classified([]), other)
    write(tmp_path, *odd[:2], same_as_training(400, 77), *odd[2:])
    status, printed = run(tmp_path, pipeline_output, capsys)
    assert status == 0
    assert printed.err == (
        "3 records could not be used: its class_name is int64, not text\n"
    )
    assert printed.out.startswith("400 live images ")


def test_failure_never_says_drift(pipeline_output, tmp_path, capsys, monkeypatch):
    write(tmp_path, same_as_training(300, 77))
    with monkeypatch.context() as patch:
        patch.setattr(live_statistics, "compare", lambda *_: 1 / 0)
        status, printed = run(tmp_path, pipeline_output, capsys)
    assert (status, printed.out) == (2, "")
    assert "ZeroDivisionError" in printed.err
    with monkeypatch.context() as patch:
        patch.setattr(request_log, "read", lambda _: os.listdir("/nowhere/at/all"))
        status, printed = run(tmp_path, pipeline_output, capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err == ("[Errno 2] No such file or directory: '/nowhere/at/all'\n")


def test_damaged_run_is_said(tmp_path, capsys):
    log, output = tmp_path / "log", tmp_path / "output"
    write(log, same_as_training(300, 77))
    split = output / "artifacts/CifarExampleGen/examples/1/Split-train"
    split.mkdir(parents=True)
    (split / "data_tfrecord-00000-of-00001.gz").write_bytes(b"no gzip at all")
    status, printed = run(log, output, capsys)
    assert status == 2
    assert f"{split.parent} cannot be read as training examples: " in printed.err
    extra = output / "serving/cifar/1/assets.extra"
    extra.mkdir(parents=True)
    (extra / "run.json").write_text("{")
    status, printed = run(log, output, capsys)
    assert status == 2
    assert printed.err.startswith(f"{extra / 'run.json'} is not a run's JSON: ")
