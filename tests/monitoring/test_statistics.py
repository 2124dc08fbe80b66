"""Logged requests against training examples, both written here with known content."""

import io
import json
import os
import shutil
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow")
from tensorflow_serving.apis import model_pb2, prediction_log_pb2  # noqa: E402

from monitoring import statistics as live_statistics  # noqa: E402
from pipeline.history import stores  # noqa: E402
from serving.server import request_log  # noqa: E402
from tests.pipeline.history.recorded import Pipeline  # noqa: E402

pytestmark = pytest.mark.tf

CLASSES = ("cat", "dog", "ship")


def images(count, seed, brightness=128):
    noise = np.random.default_rng(seed).normal(brightness, 40, (count, 32, 32, 3))
    level = np.random.default_rng(seed + 1).normal(0, 15, (count, 1, 1, 1))
    return np.clip(noise + level, 0, 255).astype(np.uint8)


def example(image):
    pixels = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()]))
    return tf.train.Example(features=tf.train.Features(feature={"image": pixels}))


def write_examples(folder, pixels):
    """Two shards of the training split."""
    (folder / "Split-train").mkdir(parents=True)
    for shard in range(2):
        path = str(folder / f"Split-train/data_tfrecord-{shard:05}-of-00002.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for image in pixels[shard::2]:
                writer.write(example(image).SerializeToString())


def write_evaluation(folder, winner, other):
    """Answers of both contenders to the eval images: the class of each, by number."""
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps({"class_names": CLASSES}))
    np.savez(
        folder / "predictions.npz",
        **{
            "labels": np.zeros(len(winner), np.int64),  # nothing may look at them
            "probabilities/candidate": np.eye(3, dtype=np.float32)[winner],
            "probabilities/baseline": np.eye(3, dtype=np.float32)[other],
        },
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs and a rollback: `output`, and the versions by what they were trained on.

    The model of "bright" was trained on brighter images and answers "cat" only, the
    others all classes alike. "again" is the first one, published once more.
    """
    made = Pipeline(tmp_path_factory.mktemp("output"))
    alike = np.arange(300) % 3
    found = SimpleNamespace(output=made.root)
    for number, (name, brightness, answers) in enumerate(
        [("first", 128, alike), ("bright", 200, alike * 0), ("second", 128, alike)], 1
    ):
        artifacts = made.root / "artifacts"
        setattr(found, name, made.run())
        write_examples(
            artifacts / f"CifarExampleGen/examples/{number}",
            images(600, 10 * number, brightness),
        )
        write_evaluation(
            artifacts / f"Evaluator/evaluation/{number}", answers, alike * 0 + 2
        )
    found.again = stores.rollback(made.places, found.first).version
    return found


def predict_log(feeds, classes, *, version, model="cifar"):
    spec = model_pb2.ModelSpec(name=model, signature_name="s")
    spec.version.value = version
    names = np.array([name.encode() for name in classes], object)
    return request_log.predict_log(spec, feeds, {"class_name": names})


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


def run(folder, output, capsys, *options):
    status = live_statistics.main(
        ["--request_log_dir", str(folder), "--pipeline_output", str(output), *options]
    )
    return status, capsys.readouterr()


def test_same_traffic_has_no_drift(runs, tmp_path, capsys):
    classes = [CLASSES[i % 3] for i in range(400)]
    write_log(tmp_path, images(400, 77), classes, runs.first)
    status, printed = run(tmp_path, runs.output, capsys)
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(
        f"400 live images of cifar, version {runs.first}, against the 600 it was trained "
        "on and its answers to 300 eval images\n"
    )
    assert printed.out.endswith("No drift.\n")
    _, tables = live_statistics.live_tables(str(tmp_path), 10_000)
    expected = images(400, 77).astype(float).mean(axis=(1, 2, 3)) / 255
    # In whatever form an image was sent, it is the same image.
    np.testing.assert_allclose(tables[runs.first]["brightness"], expected, atol=1e-5)
    assert tables[runs.first]["class"].tolist() == classes


def test_darker_images_and_other_classes_are_drift(runs, tmp_path, capsys):
    classes = ["ship"] * 300 + ["cat"] * 100
    write_log(tmp_path, images(400, 5, brightness=60), classes, runs.first)
    status, printed = run(tmp_path, runs.output, capsys)
    assert status == 1
    lines = {line.split()[0]: line for line in printed.out.splitlines()}
    assert "DRIFT" in lines["brightness"] and lines["brightness"].endswith(": darker")
    assert "DRIFT" in lines["class"]
    assert "class ship is 75.00%, in evaluation 33.33%" in lines["class"]
    assert lines["Live"].startswith("Live traffic has drifted in brightness, ")


def test_each_version_is_held_against_its_own_training(runs, tmp_path, capsys):
    """The same bright images and cats: as trained for one version, new to others."""
    cats = ["cat"] * 300
    bright = {"images": images(300, 50, brightness=200)}
    write(
        tmp_path,
        predict_log(bright, cats, version=runs.second),
        predict_log(bright, cats, version=runs.bright),
        same_as_training(300, 77, version=runs.again),
    )
    status, printed = run(tmp_path, runs.output, capsys)
    assert (status, printed.err) == (1, "")
    blocks = printed.out.split("300 live images of cifar, version ")[1:]
    # A rollback publishes the model of the first run again, the highest number now.
    assert [int(block.split(",")[0]) for block in blocks] == [
        runs.bright,
        runs.second,
        runs.again,
    ]
    assert "DRIFT" not in blocks[0] and blocks[0].endswith("No drift.\n")
    assert "drifted in brightness" in blocks[1] and "class cat is 100.00%" in blocks[1]
    assert "DRIFT" not in blocks[2]
    status, printed = run(tmp_path, runs.output, capsys, f"--version={runs.bright}")
    assert (status, printed.out.count("live images")) == (0, 1)


def test_too_little_to_compare(runs, tmp_path, capsys):
    log = tmp_path / "log"
    assert "no such request log" in run(log, runs.output, capsys)[1].err
    log.mkdir()
    status, printed = run(log, runs.output, capsys)
    assert (status, printed.out) == (2, "")
    assert "holds no logged request with images" in printed.err
    write_log(log, images(10, 1), ["cat"] * 10, runs.first)
    status, printed = run(log, runs.output, capsys)
    assert status == 2
    assert printed.err == (
        f"There are 10 live images of cifar, version {runs.first}, but a comparison "
        "needs 200: wait for more, or pass --fewest.\n"
    )


@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (
            lambda output: (output / "metadata.sqlite").unlink(),
            "What cifar, version {first}, was trained on is not known: output_root={output}: ",
        ),
        (
            lambda output: shutil.rmtree(
                output / "artifacts/CifarExampleGen/examples/1"
            ),
            "The images that cifar, version {first}, was trained on are gone: there is no "
            "{output}/artifacts/CifarExampleGen/examples/1.\n",
        ),
        (
            lambda output: shutil.rmtree(output / "artifacts/Evaluator/evaluation/1"),
            "The answers of cifar, version {first}, to the eval images are gone: there is "
            "no {output}/artifacts/Evaluator/evaluation/1.\n",
        ),
        (
            lambda output: (
                output / "artifacts/Evaluator/evaluation/1/predictions.npz"
            ).unlink(),
            "{output}/artifacts/Evaluator/evaluation/1 cannot be read as an evaluation: ",
        ),
        (
            lambda output: [
                path.write_bytes(b"no gzip at all")
                for path in (
                    output / "artifacts/CifarExampleGen/examples/1/Split-train"
                ).iterdir()
            ],
            "{output}/artifacts/CifarExampleGen/examples/1 cannot be read as training ",
        ),
    ],
)
def test_what_is_lost_is_said_and_others_are_compared(
    runs, tmp_path, capsys, lose, says
):
    output = tmp_path / "moved"  # and so is compared where it is now
    shutil.copytree(runs.output, output)
    hidden = runs.output.with_name("hidden")
    runs.output.rename(hidden)
    for kind in ("CifarExampleGen/examples", "Evaluator/evaluation"):
        (runs.output / "artifacts" / kind / "1").mkdir(parents=True)  # of others, now
    try:
        log = tmp_path / "log"
        write(log, same_as_training(300, 77, version=runs.first))
        assert run(log, output, capsys)[0] == 0
        lose(output)
        status, printed = run(log, output, capsys)
        assert (status, printed.out) == (2, "")
        assert printed.err.startswith(says.format(first=runs.first, output=output))
        assert printed.err.count("\n") <= 2
        write(log, same_as_training(300, 78, version=runs.second))
        status, printed = run(log, output, capsys)
        assert printed.err.startswith(says.format(first=runs.first, output=output))
        known = (output / "metadata.sqlite").exists()
        assert (status, printed.out.count("live images")) == (
            (0, 1) if known else (2, 0)
        )
    finally:
        shutil.rmtree(runs.output)
        hidden.rename(runs.output)


def test_unknown_version_is_said(runs, tmp_path, capsys):
    write(tmp_path, same_as_training(300, 77, version=7))
    status, printed = run(tmp_path, runs.output, capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith(
        "What cifar, version 7, was trained on is not known: version 7 was never "
        f"published from output_root={runs.output}; known: {runs.again}, "
    )
    status, printed = run(tmp_path, "gs://bucket/output", capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith(
        "gs://bucket/output: --pipeline_output must be a folder"
    )


@pytest.fixture(scope="module")
def shared_log(runs, tmp_path_factory):
    """Two models in one folder: cifar like training in two versions, digits unlike it."""
    folder = tmp_path_factory.mktemp("log")
    dark = images(300, 5, brightness=60)
    write(
        folder,
        same_as_training(200, 77, version=runs.first),
        predict_log({"images": dark}, ["ship"] * 300, model="digits", version=7),
        same_as_training(240, 78, version=runs.second),
    )
    return folder


def test_models_of_one_log_are_not_mixed(runs, shared_log, capsys):
    status, printed = run(shared_log, runs.output, capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err == (
        f"{shared_log} holds requests of 2 models, cifar and digits: choose one with "
        "--model NAME.\n"
    )
    status, printed = run(shared_log, runs.output, capsys, "--model=cifar")
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(f"200 live images of cifar, version {runs.first}, ")
    assert f"\n240 live images of cifar, version {runs.second}, " in printed.out
    status, printed = run(shared_log, runs.output, capsys, "--model=digits")
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith("What digits, version 7, was trained on is not known")


def test_newest_images_of_each_version_count(runs, shared_log, capsys):
    cifar = ("--model=cifar", "--most=210", f"--version={runs.second}")
    status, printed = run(shared_log, runs.output, capsys, *cifar)
    assert status == 0
    assert printed.out.startswith(
        f"210 live images of cifar, version {runs.second}, against the 210 it was trained "
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model=cats"], "no request of --model cats, only of cifar and digits."),
        (
            ["--model=cifar", "--version=7"],
            "no request of cifar, --version 7, only of versions {0.first} and {0.second}.",
        ),
    ],
)
def test_what_the_log_lacks(runs, shared_log, capsys, options, says):
    status, printed = run(shared_log, runs.output, capsys, *options)
    assert (status, printed.out) == (2, "")
    assert printed.err == f"{shared_log} holds {says.format(runs)}\n"


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
    made = predict_log({"images": images(2, 1)}, ["cat", "dog"], version=1)
    names = made.predict_log.response.outputs["class_name"]
    names.CopyFrom(tf.make_tensor_proto(np.array([3, 4], np.int64)))
    return made


def bomb():
    data = bytearray(png(images(1, 1)[0]))
    data[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return predict_log({"images": np.array([bytes(data)], object)}, ["cat"], version=1)


def cut():
    made = predict_log({"images": images(1, 1)}, ["cat"], version=1)
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
def test_odd_record_is_counted(runs, tmp_path, capsys, odd, reason):
    write(tmp_path, odd())
    status, printed = run(tmp_path, runs.output, capsys)
    first, second = printed.err.splitlines(keepends=True)
    assert (status, printed.out) == (2, "")
    assert first.startswith("1 record could not be used: ") and first.endswith(reason)
    assert "holds no logged request with images" in second


def test_odd_records_stop_no_comparison(runs, tmp_path, capsys):
    # The last is of the same model, with an answer of another kind: nothing is wrong.
    other = classified()
    other.regress_log.SetInParent()
    odd = (numbered(), bomb(), classified([]), other)
    write(tmp_path, *odd[:2], same_as_training(400, 77, version=runs.first), *odd[2:])
    status, printed = run(tmp_path, runs.output, capsys)
    assert status == 0
    assert printed.err == (
        "3 records could not be used: its class_name is int64, not text\n"
    )
    assert printed.out.startswith("400 live images ")


def test_failure_never_says_drift(runs, tmp_path, capsys, monkeypatch):
    write(tmp_path, same_as_training(300, 77, version=runs.first))
    with monkeypatch.context() as patch:
        patch.setattr(live_statistics, "compare", lambda *_: 1 / 0)
        status, printed = run(tmp_path, runs.output, capsys)
    assert (status, printed.out) == (2, "")
    assert "ZeroDivisionError" in printed.err
    with monkeypatch.context() as patch:
        patch.setattr(request_log, "read", lambda _: os.listdir("/nowhere/at/all"))
        status, printed = run(tmp_path, runs.output, capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err == ("[Errno 2] No such file or directory: '/nowhere/at/all'\n")


def test_a_second_header_decodes_nothing_large(monkeypatch):
    """The log's pictures are whatever clients sent; Pillow believes the last header."""
    from PIL import ImageFile

    from monitoring.statistics import _image

    first = png(images(1, 1)[0])
    second = bytearray(first[8:33])
    second[8:16] = (9_000).to_bytes(4, "big") * 2  # width and height
    second[21:25] = zlib.crc32(second[4:21]).to_bytes(4, "big")
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda self: pytest.fail(f"decodes {self.size}")
    )
    assert _image(first[:33] + bytes(second) + first[33:]) is None
