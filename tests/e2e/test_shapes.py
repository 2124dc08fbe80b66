"""Images of other shapes and other classes, from the source to a client's answer."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from contract.datasets import known
from serving.client import Classifier, InvalidInput
from tests.components.example_gen import official
from tests.e2e import test_pipeline
from tests.serving.server import processes

pytestmark = [pytest.mark.e2e, pytest.mark.tf]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The embedded server on a published model; its address."""
    child = processes.start(
        "--port=0", "--model_name=cifar", f"--model_base_path={folder}"
    )
    try:
        yield child.address
    finally:
        assert processes.end(child) == 0


def examples(output: Path, split: str) -> tuple[list[bytes], list[int], list[bytes]]:
    """Images, labels and ids, read with plain TensorFlow."""
    import tensorflow as tf

    files = [
        str(path) for path in output.glob(f"artifacts/*/examples/*/Split-{split}/*")
    ]
    records = tf.data.TFRecordDataset(sorted(files))
    found = [
        tf.train.Example.FromString(record.numpy()).features.feature
        for record in records
    ]
    return (
        [one["image"].bytes_list.value[0] for one in found],
        [one["label"].int64_list.value[0] for one in found],
        [one["example_id"].bytes_list.value[0] for one in found],
    )


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_small_grey_digits_from_the_source_to_a_clients_answer(tmp_path):
    from sklearn.datasets import load_digits

    from tests.components.example_gen.test_executor import ingest, read_back

    output = tmp_path / "output"
    done = test_pipeline.run_warm(output, data__image_size="8", data__channels="1")
    assert done.returncode == 0, done.output
    report = json.loads((output / "report/report.json").read_text())
    assert report["decision"]["winner"] and report["pushed"]

    # What was ingested is what scikit-learn has, in the splits of the published form.
    bunch = load_digits()
    values = (bunch.images.astype(int) * 255 // 16).astype(np.uint8)
    published = {image.tobytes() for image in values}
    images, labels, ids = examples(output, "test")
    assert len(images) == 360 and set(images) <= published
    (described,) = output.glob("artifacts/CifarExampleGen/examples/*/dataset.json")
    assert json.loads(described.read_text())["image_shape"] == [8, 8, 1]
    again = tmp_path / "again"
    ingest(again, name="digits", eval_fraction=0.2)
    assert {row["id"] for row in read_back(again, "test")} == set(ids)

    # The model that is served says what it takes, and the client asks it.
    (version,) = test_pipeline.versions(output)
    folder = output / f"serving/cifar/{version}"
    run = json.loads((folder / "assets.extra/run.json").read_text())
    assert run["image_shape"] == [8, 8, 1]
    assert run["class_names"] == list("0123456789")
    arrays = np.frombuffer(b"".join(images), np.uint8).reshape(-1, 8, 8, 1)
    large = arrays[0].repeat(9, axis=0).repeat(9, axis=1)
    file = tmp_path / "digit.png"
    file.write_bytes(png(arrays[0][..., 0]))
    with (
        served(output / "serving/cifar") as address,
        Classifier(address) as classifier,
        Classifier(address, resize=True) as resizing,
    ):
        assert classifier.image_shape() == (8, 8, 1)
        by_array = classifier.classify(arrays)
        (by_file,) = classifier.classify(file)
        (by_colours,) = classifier.classify(png(arrays[0].repeat(3, axis=2)))
        (resized,) = resizing.classify(png(large[..., 0]))
        picture = Image.fromarray(large[..., 0])
        fitted = ImageOps.fit(picture, (8, 8), Image.Resampling.BILINEAR)
        (by_fitting,) = classifier.classify(np.asarray(fitted)[..., None])
        with pytest.raises(InvalidInput, match="the model takes 8 x 8"):
            classifier.classify(png(large[..., 0]))
    errors = np.mean(
        [a.label != label for a, label in zip(by_array, labels, strict=True)]
    )
    assert errors == pytest.approx(
        report["models"][report["decision"]["winner"]]["test"]["error"], abs=0.003
    )
    for answer, wanted in (
        (by_file, by_array[0]),
        (by_colours, by_array[0]),
        (resized, by_fitting),
    ):
        assert answer.class_name == wanted.class_name
        np.testing.assert_allclose(
            answer.probabilities, wanted.probabilities, atol=1e-5
        )


def test_the_super_classes_of_cifar100_are_learnt_and_served(tmp_path):
    import tensorflow as tf

    made = official.dataset("cifar100", {"train": 400, "test": 100})
    folder = official.write_folder(
        tmp_path / "cifar-100-binary", official.files("cifar100", "binary", made)
    )
    output = tmp_path / "output"
    done = test_pipeline.run_warm(
        output,
        data__name="cifar100",
        data__path=str(folder),
        data__allow_unverified="true",
        data__label="coarse",
        data__image_size="16",
        train__global_batch_size="32",
        # Labels of random images: nothing is learnt, and nothing of it is judged here.
        evaluation__max_error="1",
    )
    assert done.returncode == 0, done.output
    models = list(output.glob("artifacts/*Trainer/model/*/Format-Serving"))
    assert len(models) == 2
    coarse = known("cifar100", "coarse").class_names
    for model in models:
        run = json.loads((model / "assets.extra/run.json").read_text())
        assert tuple(run["class_names"]) == coarse and len(coarse) == 20
        assert run["image_shape"] == [16, 16, 3]
        signature = tf.saved_model.load(str(model)).signatures["serving_default"]
        answer = signature(images=tf.zeros([1, 16, 16, 3], tf.uint8))
        assert answer["probabilities"].shape == (1, 20)
        assert answer["class_name"].numpy()[0].decode() in coarse
