"""The client and `python -m serving.server` together: gRPC, REST, socket, command line."""

from __future__ import annotations

import asyncio
import re
import socket as socketlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from serving.client import (
    AsyncClassifier,
    Classifier,
    InvalidInput,
    NotFound,
    Prediction,
)
from serving.client.__main__ import main
from tests.serving.client.official import (
    expected_label,
    expected_probabilities,
    random_images,
    write_png,
)
from tests.serving.server import processes

pytestmark = pytest.mark.tf

IMAGES = random_images(70)
CLASSES = [f"class {index}" for index in range(10)]


def write_model(folder: Path) -> None:
    """The signatures of trainer/export.py over the arithmetic of the official stubs."""
    table = tf.constant((np.eye(10) * 0.9 + 0.01).astype(np.float32))
    module = tf.Module()

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        label = tf.reduce_sum(tf.cast(images, tf.int64), axis=[1, 2, 3]) % 10
        return {
            "probabilities": tf.gather(table, label),
            "label": label,
            "class_name": tf.gather(tf.constant(CLASSES), label),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, "images")])
    def images(images):
        return answer(images)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "encoded")])
    def encoded(encoded):
        decoded = tf.map_fn(
            lambda file: tf.ensure_shape(
                tf.io.decode_image(file, channels=3, expand_animations=False),
                [32, 32, 3],
            ),
            encoded,
            fn_output_signature=tf.uint8,
        )
        return answer(decoded)

    signatures = {"serving_default": images, "encoded_images": encoded}
    tf.saved_model.save(module, folder, signatures=signatures)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SimpleNamespace]:
    base = tmp_path_factory.mktemp("models") / "cifar"
    write_model(base / "5")
    socket = tmp_path_factory.mktemp("run") / "s"
    with socketlib.socket() as probe:  # beside a socket path, --port=0 means none
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = processes.start(
        f"--port={port}",
        "--rest_api_port=-1",
        f"--grpc_socket_path={socket}",
        "--model_name=cifar",
        f"--model_base_path={base}",
    )
    found = re.search(r"http://127\.0\.0\.1:\d+", child.ready)
    assert found
    yield SimpleNamespace(
        grpc=child.address, rest=found[0], socket=f"unix:{socket}", base=base
    )
    assert processes.end(child) == 0


def check(results: list, images: np.ndarray) -> None:
    expected = expected_probabilities(images)
    for result, image, row in zip(results, images, expected, strict=True):
        assert isinstance(result, Prediction)
        assert result.label == expected_label(image)
        assert result.class_name == CLASSES[result.label]
        np.testing.assert_allclose(result.probabilities, row, rtol=1e-6)
        assert result.model_version == 5


@pytest.mark.parametrize("way", ["grpc", "rest", "socket"])
def test_every_way_gives_the_same_answers(server, tmp_path: Path, way: str):
    mixed = [IMAGES[0], write_png(tmp_path / "a.png", IMAGES[1]), IMAGES[2]]
    with Classifier(getattr(server, way), batch_size=32) as classifier:
        assert classifier.wait_until_ready(30).version == 5
        check(classifier.classify(IMAGES), IMAGES)
        check(classifier.classify(mixed), IMAGES[:3])
        metadata = classifier.metadata()
        assert metadata.version == 5
        assert metadata.signatures["serving_default"].inputs["images"].shape == (
            None, 32, 32, 3,
        )  # fmt: skip
        cut = write_png(tmp_path / "b.png", IMAGES[1]).read_bytes()[:500]
        found = classifier.classify([IMAGES[0], cut], return_errors=True)
        check(found[:1], IMAGES[:1])
        assert isinstance(found[1], InvalidInput)
        with pytest.raises(InvalidInput):
            classifier.predict({"images": np.zeros((32, 32, 3), np.uint8)})
        only = classifier.predict({"images": IMAGES[:2]}, output_filter=["label"])
        assert list(only) == ["label"] and only["label"].dtype == np.int64
    with (
        Classifier(getattr(server, way), model="other") as classifier,
        pytest.raises(NotFound),
    ):
        classifier.classify(IMAGES[0])


def test_asynchronously(server):
    async def classify():
        async with AsyncClassifier(server.grpc, batch_size=16) as classifier:
            check(await classifier.classify(IMAGES), IMAGES)

    asyncio.run(classify())


def test_command_line(server, tmp_path: Path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for index, image in enumerate(IMAGES[:3]):
        write_png(folder / f"{index}.png", image)
    for address in (server.grpc, server.rest):
        assert main(["predict", str(folder), "--server", address]) == 0
        shown = capsys.readouterr().out
        for index, image in enumerate(IMAGES[:3]):
            name = CLASSES[expected_label(image)]
            assert re.search(rf"{index}\.png +{name} +91\.0%", shown)
        assert main(["status", "--server", address]) == 0
        assert "5        AVAILABLE" in capsys.readouterr().out
