"""Two small models, TFX's Evaluator, the chooser, the pusher: against plain NumPy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss

CLASSES, EXAMPLES = 5, 97

pytestmark = pytest.mark.tf


def artifact(kind: Any, folder: Path) -> Any:
    made = kind()
    made.uri = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return made


def export_model(folder: Path, weights: np.ndarray) -> None:
    """A SavedModel with the project's signature `serialized_examples`."""
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(weights)
            self.names = tf.constant([f"class{i}" for i in range(CLASSES)])

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def classify(self, examples):
            features = {"image": tf.io.FixedLenFeature([], tf.string)}
            images = tf.io.parse_example(examples, features)["image"]
            pixels = tf.cast(tf.io.decode_raw(images, tf.uint8), tf.float32)
            probabilities = tf.nn.softmax(pixels / 255 @ self.weights)
            label = tf.argmax(probabilities, axis=1)
            return {
                "probabilities": probabilities,
                "label": label,
                "class_name": tf.gather(self.names, label),
            }

    model = Model()
    tf.saved_model.save(
        model,
        str(folder / "Format-Serving"),
        signatures={"serialized_examples": model.classify},
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Images, labels, both weights, and what the Evaluator made of them."""
    from tfx.components.evaluator.executor import Executor
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.evaluation import eval_config

    import tensorflow as tf  # isort: skip - after TFX, whose libraries it must share

    root = tmp_path_factory.mktemp("evaluated")
    dice = np.random.default_rng(5)
    images = dice.integers(0, 256, (EXAMPLES, 3072), dtype=np.uint8)
    weights = {
        role: dice.normal(scale=0.02, size=(3072, CLASSES)).astype(np.float32)
        for role in ("baseline", "candidate")
    }
    # Labels that the candidate gets right more often than not.
    labels = np.argmax(images / 255 @ weights["candidate"], axis=1)
    wrong = dice.random(EXAMPLES) < 0.3
    labels[wrong] = dice.integers(0, CLASSES, wrong.sum())

    examples = artifact(standard_artifacts.Examples, root / "examples")
    examples.split_names = '["eval"]'
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    (root / "examples" / "Split-eval").mkdir()
    path = root / "examples" / "Split-eval" / "data-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as file:
        for image, label in zip(images, labels, strict=True):
            example = tf.train.Example()
            example.features.feature["image"].bytes_list.value.append(image.tobytes())
            example.features.feature["label"].int64_list.value.append(int(label))
            file.write(example.SerializeToString())

    models = {}
    for number, role in enumerate(weights):
        export_model(root / role, weights[role])
        models[role] = artifact(standard_artifacts.Model, root / role)
        models[role].id = 40 + number
    evaluation = artifact(standard_artifacts.ModelEvaluation, root / "evaluation")
    blessing = artifact(standard_artifacts.ModelBlessing, root / "blessing")
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=["--runner=FnApiRunner"], tmp_dir=str(root), unique_id="1"
    )
    Executor(context).Do(
        {
            "examples": [examples],
            "model": [models["candidate"]],
            "baseline_model": [models["baseline"]],
        },
        {"evaluation": [evaluation], "blessing": [blessing]},
        {"eval_config": proto_utils.proto_to_json(eval_config(CLASSES, "label"))},
    )
    return {
        "images": images,
        "labels": labels,
        "weights": weights,
        "models": models,
        "evaluation": evaluation,
        "blessing": blessing,
    }


def choose(evaluated: dict[str, Any], root: Path) -> dict[str, Any]:
    from tfx.types import standard_artifacts

    from components import artifacts
    from components.model_chooser.executor import Executor

    outputs = {
        "model": artifact(standard_artifacts.Model, root / "model"),
        "blessing": artifact(standard_artifacts.ModelBlessing, root / "blessing"),
        "decision": artifact(artifacts.Decision, root / "decision"),
    }
    Executor().Do(
        {
            "evaluation": [evaluated["evaluation"]],
            "baseline": [evaluated["models"]["baseline"]],
            "candidate": [evaluated["models"]["candidate"]],
        },
        {key: [value] for key, value in outputs.items()},
        {
            "policy": "best",
            "baseline_network": "resnet20",
            "candidate_network": "preact_resnet20",
        },
    )
    return outputs


def test_counts_are_those_of_plain_numpy(evaluated: dict[str, Any]):
    from components.model_chooser import executor

    metrics = executor.overall_metrics(evaluated["evaluation"].uri)
    truth = evaluated["labels"]
    for role, weights in evaluated["weights"].items():
        logits = evaluated["images"].astype(np.float32) / 255 @ weights
        found = executor.contender(metrics, role, "net")
        expected = confusion_matrix(truth, logits.argmax(1), labels=range(CLASSES))
        assert found.confusion == tuple(map(tuple, expected.tolist()))
        assert found.examples_by_class == tuple(np.bincount(truth, minlength=CLASSES))
        assert found.errors == int((logits.argmax(1) != truth).sum())
        probabilities = np.exp(logits - logits.max(1, keepdims=True)).astype(float)
        probabilities /= probabilities.sum(1, keepdims=True)
        assert found.cross_entropy == pytest.approx(
            log_loss(truth, probabilities, labels=range(CLASSES)), rel=1e-5
        )
        accuracy = metrics[role, "sparse_categorical_accuracy"].double_value.value
        assert accuracy == pytest.approx(1 - found.errors / EXAMPLES, abs=1e-7)
        count = metrics[role, "example_count"].double_value.value
        assert count == EXAMPLES


def test_every_class_is_a_slice(evaluated: dict[str, Any]):
    import tensorflow_model_analysis as tfma

    slices = {
        tuple(
            (key.column, key.int64_value) for key in metrics.slice_key.single_slice_keys
        )
        for metrics in tfma.load_metrics(evaluated["evaluation"].uri)
    }
    assert slices == {(), *((("label", index),) for index in range(CLASSES))}


def test_evaluator_itself_blesses_nothing(evaluated: dict[str, Any]):
    assert not evaluated["blessing"].has_custom_property("blessed")


def test_winner_is_copied_blessed_explained_and_pushed(
    evaluated: dict[str, Any], tmp_path: Path
):
    from tfx.components.util import model_utils
    from tfx.types import standard_artifacts

    from components.atomic_pusher.executor import Executor as AtomicPusher

    import tensorflow as tf  # isort: skip - after TFX, whose libraries it must share

    outputs = choose(evaluated, tmp_path)
    assert model_utils.is_model_blessed(outputs["blessing"])
    assert (tmp_path / "blessing" / "BLESSED").is_file()
    assert outputs["blessing"].get_int_custom_property("current_model_id") == 41
    decision = json.loads((tmp_path / "decision" / "decision.json").read_text())
    assert decision["winner"] == "candidate"
    assert outputs["decision"].get_string_custom_property("winner") == "candidate"
    assert "preact_resnet20 makes" in decision["reason"]

    pushed = artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    AtomicPusher().Do(
        {"model": [outputs["model"]], "model_blessing": [outputs["blessing"]]},
        {"pushed_model": [pushed]},
        {"destination": str(tmp_path / "serving" / "cifar")},
    )
    assert pushed.get_int_custom_property("pushed") == 1
    version = pushed.get_string_custom_property("pushed_version")
    destination = pushed.get_string_custom_property("pushed_destination")
    assert destination == str(tmp_path / "serving" / "cifar" / version)
    served = tf.saved_model.load(destination).signatures["serialized_examples"]
    example = tf.train.Example()
    image = evaluated["images"][0]
    example.features.feature["image"].bytes_list.value.append(image.tobytes())
    label = served(examples=tf.constant([example.SerializeToString()]))["label"]
    expected = np.argmax(image / 255 @ evaluated["weights"]["candidate"])
    assert label.numpy().tolist() == [expected]


def test_no_metrics_no_blessing_no_push(
    evaluated: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """TFMA cannot be made to write NaN for both on demand, so its answer is replaced."""
    from tfx.types import standard_artifacts

    from components.atomic_pusher.executor import Executor as AtomicPusher
    from components.model_chooser import executor

    real = executor.overall_metrics(evaluated["evaluation"].uri)
    for (_, name), value in real.items():
        if name == "sparse_categorical_crossentropy":
            value.double_value.value = math.nan
    monkeypatch.setattr(executor, "overall_metrics", lambda _: real)
    outputs = choose(evaluated, tmp_path)
    assert outputs["blessing"].get_int_custom_property("blessed") == 0
    assert (tmp_path / "blessing" / "NOT_BLESSED").is_file()
    assert list((tmp_path / "model").iterdir()) == []
    pushed = artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    AtomicPusher().Do(
        {"model": [outputs["model"]], "model_blessing": [outputs["blessing"]]},
        {"pushed_model": [pushed]},
        {"destination": str(tmp_path / "serving" / "cifar")},
    )
    assert pushed.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "serving").exists()


def test_failed_canary_pushes_nothing(evaluated: dict[str, Any], tmp_path: Path):
    from tfx.types import standard_artifacts

    from components.atomic_pusher.executor import Executor as AtomicPusher

    outputs = choose(evaluated, tmp_path)
    canary = artifact(standard_artifacts.InfraBlessing, tmp_path / "canary")
    canary.set_int_custom_property("blessed", 0)
    pushed = artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    AtomicPusher().Do(
        {
            "model": [outputs["model"]],
            "model_blessing": [outputs["blessing"]],
            "infra_blessing": [canary],
        },
        {"pushed_model": [pushed]},
        {"destination": str(tmp_path / "serving" / "cifar")},
    )
    assert pushed.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "serving").exists()
