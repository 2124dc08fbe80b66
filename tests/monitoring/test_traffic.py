"""Which records of a request log count, and which are passed over."""

import hashlib
import shutil
import zlib

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from tensorflow_serving.apis import prediction_log_pb2  # noqa: E402

from tests.monitoring.logs import (  # noqa: E402
    example,
    images,
    png,
    predict_log,
    same_as_training,
    write,
)

pytestmark = pytest.mark.tf


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


def test_models_of_one_log_are_not_mixed(runs, shared_log, run):
    status, printed = run(shared_log, runs.output)
    assert (status, printed.out) == (2, "")
    assert printed.err == (
        f"{shared_log}: requests of several models, cifar and digits: choose one with "
        "--model NAME.\n"
    )
    status, printed = run(shared_log, runs.output, "--model=cifar")
    assert (status, printed.err) == (0, "")
    assert printed.out.startswith(f"cifar, version {runs.first}: 100 live images, ")
    assert f"\ncifar, version {runs.second}: 120 live images, " in printed.out
    status, printed = run(shared_log, runs.output, "--model=digits")
    assert (status, printed.out) == (2, "")
    assert printed.err.startswith("What digits, version 7, was trained on is not known")


@pytest.mark.parametrize(
    "options", [["--model=cats"], ["--model=cifar", "--version=7"]]
)
def test_what_the_log_lacks(runs, shared_log, run, options):
    status, printed = run(shared_log, runs.output, *options)
    assert (status, printed.out) == (2, "")
    asked = " of version 7" if "--version=7" in options else ""
    assert printed.err == (
        f"{shared_log}: no logged request{asked} with images or their classes.\n"
    )


def test_files_of_another_server_are_read_as_well(runs, shared_log, tmp_path, run):
    """TensorFlow Serving's logger names its files as it likes."""
    for number, path in enumerate(sorted(shared_log.iterdir())):
        shutil.copy(path, tmp_path / f"log-{number}")
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    status, printed = run(files[0], runs.output, "--model=cifar", "--requests", *files)
    assert (status, printed.err) == (0, "")
    assert printed.out.count(" live images, ") == 2


def classified(version, *rows):
    made = prediction_log_pb2.PredictionLog()
    made.log_metadata.model_spec.name = "cifar"
    made.log_metadata.model_spec.version.value = version
    for labels in rows:
        call = made.classify_log
        call.request.input.example_list.examples.append(example(images(1, 1)[0]))
        row = call.response.result.classifications.add()
        for label in labels:
            row.classes.add(label=label)
    return made


def numbered(version):
    made = predict_log({"images": images(2, 1)}, ["cat", "dog"], version=version)
    names = made.predict_log.response.outputs["class_name"]
    names.CopyFrom(tf.make_tensor_proto(np.array([3, 4], np.int64)))
    return made


def bomb(version):
    data = bytearray(png(images(1, 1)[0]))
    data[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    sent = {"images": np.array([bytes(data)], object)}
    return predict_log(sent, ["cat"], version=version)


def cut(version):
    made = predict_log({"images": images(1, 1)}, ["cat"], version=version)
    tensor = made.predict_log.request.inputs["images"]
    tensor.tensor_content = tensor.tensor_content[:-1]
    return made


def not_finite(version):
    made = predict_log(
        {"images": images(2, 1)}, ["cat", "dog"], version=version, sure=0.9
    )
    given = np.array([[0.5, 0.5, 0.0], [np.nan] * 3], np.float32)
    outputs = made.predict_log.response.outputs
    outputs["probabilities"].CopyFrom(tf.make_tensor_proto(given))
    return made


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (not_finite, "its probabilities are not finite\n"),
        (numbered, "its class_name is int64, not text\n"),
        (
            lambda version: classified(version, ["cat"], []),
            "a classification has no classes\n",
        ),
        (bomb, "an image has more than 1,048,576 pixels\n"),
        (cut, ""),
    ],
)
def test_odd_record_is_counted(runs, tmp_path, run, odd, reason):
    write(tmp_path, odd(runs.first))
    status, printed = run(tmp_path, runs.output)
    first, second = printed.err.splitlines(keepends=True)
    assert (status, printed.out) == (2, "")
    assert first.startswith("1 record could not be used: ") and first.endswith(reason)
    assert "no logged request with images" in second


def test_odd_records_stop_no_comparison(runs, tmp_path, run):
    # The last is of the same model, with an answer of another kind: nothing is wrong.
    other = classified(runs.first)
    other.regress_log.SetInParent()
    version = runs.first
    odd = (numbered(version), bomb(version), classified(version, []), other)
    write(tmp_path, *odd[:2], same_as_training(400, 77, version=runs.first), *odd[2:])
    status, printed = run(tmp_path, runs.output)
    assert status == 0
    assert printed.err == (
        "3 records could not be used: its class_name is int64, not text\n"
    )
    assert f"version {runs.first}: 133 live images, " in printed.out


def test_a_clock_that_jumps_stops_nothing(runs, tmp_path, run):
    """A server's clock, the monitor's own, and files whose names are in no order."""
    made = [same_as_training(150, 70 + n, version=runs.first) for n in range(4)]
    for log, seconds in zip(made, (1 << 60, 0, 1_800_000_000, 5), strict=True):
        log.log_metadata.timestamp_secs = seconds
        write(tmp_path, log)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        _, begin, rest = path.name.split("-", 2)
        path.rename(path.with_name(f"predictions-{int(begin) - number * 10**9}-{rest}"))
    status, printed = run(tmp_path, runs.output, f"--output={tmp_path}/out")
    assert (status, printed.err) == (0, "")
    assert "version" in printed.out
    page = (tmp_path / "out/monitoring.html").read_text()
    assert "second 1,152,921,504,606,846,976" in page + printed.out


def test_an_id_of_any_length_is_kept_short():
    from monitoring.traffic import _image

    long, image = example(images(1, 1)[0]), images(1, 1)[0]
    long.features.feature["example_id"].bytes_list.value.append(b"x" * 10_000)
    key, found = _image(long.SerializeToString(), (32, 32, 3))
    assert key == hashlib.sha256(image.tobytes()).hexdigest()
    np.testing.assert_array_equal(found, image)


def test_a_second_header_decodes_nothing_large(monkeypatch):
    """The log's pictures are whatever clients sent; Pillow believes the last header."""
    from PIL import ImageFile

    from monitoring.traffic import _image

    first = png(images(1, 1)[0])
    second = bytearray(first[8:33])
    second[8:16] = (9_000).to_bytes(4, "big") * 2  # width and height
    second[21:25] = zlib.crc32(second[4:21]).to_bytes(4, "big")
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda self: pytest.fail(f"decodes {self.size}")
    )
    twice = first[:33] + bytes(second) + first[33:]
    assert _image(twice, (32, 32, 3)) == ("", None)


def test_a_grey_model_is_compared_by_what_it_sees(tmp_path):
    """Arrays, examples, and the luminance of pictures, grey or in colours."""
    from PIL import Image

    from monitoring.traffic import Log, columns

    grey = np.random.default_rng(4).integers(0, 256, (4, 8, 8, 1), np.uint8)
    colours = np.random.default_rng(5).integers(0, 256, (8, 8, 3), np.uint8)
    files = [png(grey[2, ..., 0]), png(colours), png(np.zeros((9, 9), np.uint8))]
    write(
        tmp_path,
        predict_log({"images": grey[:1]}, ["cat"], version=1),
        predict_log(
            {"examples": np.array([example(grey[1]).SerializeToString()], object)},
            ["dog"],
            version=1,
        ),
        predict_log(
            {"encoded": np.array(files, object)}, ["cat", "dog", "ship"], version=1
        ),
    )
    live = columns(list(Log([str(tmp_path)], lambda *_: (8, 8, 1)).new()))
    luminance = np.asarray(Image.fromarray(colours).convert("L"))
    seen = [*grey[:3, ..., 0], luminance]
    expected = [image.mean() / 255 for image in seen]
    np.testing.assert_allclose(live["brightness"], expected, atol=1e-5)
    numbers = {"brightness", "contrast", "sharpness"}
    assert {*live} == numbers | {"classes", "confidence"}


def test_images_of_no_common_size_are_measured_each(tmp_path):
    """A model that takes files of any size: their size is a number too."""
    from monitoring.traffic import Log, columns

    random = np.random.default_rng(6)
    shapes = [(10, 40, 3), (20, 20, 3), (30, 30, 3)]
    pictures = [random.integers(0, 256, shape, np.uint8) for shape in shapes]
    files = np.array([png(picture) for picture in pictures], object)
    write(tmp_path, predict_log({"encoded": files}, ["cat", "dog", "ship"], version=1))
    live = columns(list(Log([str(tmp_path)], lambda *_: (None, None, 3)).new()))
    assert live["size"].tolist() == [20, 20, 30]
    expected = [picture.mean() / 255 for picture in pictures]
    np.testing.assert_allclose(live["brightness"], expected, atol=1e-5)
