"""What `run_fn` exports is what it measured, whatever the recipe."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from contract import features
from contract.config.model import ModelConfig
from contract.config.preprocessing import PreprocessingConfig
from contract.config.train import TrainConfig
from contract.datasets import known
from contract.fields import to_json
from tests.trainer import transform_graph
from tests.trainer.processes import SECONDS, clusters, start

pytestmark = pytest.mark.tf

TRAIN, EVAL = 320, 200  # images
DATA = known("digits", image_size=16)
# No value is the default's, so that each case goes by all of them.
COMMON = {
    "epochs": 8.0,
    "global_batch_size": 32,
    "learning_rate": 0.08,
    "crop_padding": 2,
    "flip": False,
    "weight_decay": 1e-3,
    "warmup_fraction": 0.3,
    "momentum": 0.8,
    "seed": 3,
}
CASES = {
    "raw": {
        "rematerialise": True,
        "synchronized_batch_norm": True,
        "initialiser": "released",
        "schedule": "plateau",
        "plateau_evaluations": 2,
    },
    "average": {"ema": 0.99, "precision": "mixed_bfloat16", "label_smoothing": 0.1},
    "executions": {
        "ema": 0.9,
        "steps": 75,
        "steps_per_execution": 4,
        "last_batch": "keep",
        "strategy": "mirrored",  # of one device
        "nesterov": False,
        "schedule": "cosine",
    },
    "replicas": {"ema": 0.9, "strategy": "mirrored", "replicas": 2},
    "workers": {"ema": 0.9, "strategy": "multi_worker", "replicas": 2},
}
ELSEWHERE = {
    "recipe": "names a row of presets; it has set the other fields before",
    "tpu": "no TPU here",
    "checkpoint_seconds": "changes no weight: test_fit.py",
    "profile_steps": "changes no weight: test_fit.py",
    "evaluation_steps": "says when, not what: test_fit.py",
    "zero_start": "where weights start: test_network.py",
    "freeze": "of networks that start from weights: below",
    "colour_noise": "of encoded images: test_streaming.py",
}


def test_every_field_of_the_recipe_has_a_case():
    tried = {
        item.name
        for case in CASES.values()
        for item in dataclasses.fields(TrainConfig)
        if getattr(TrainConfig(**COMMON | case), item.name) != item.default
    }
    every = {item.name for item in dataclasses.fields(TrainConfig)}
    assert tried | ELSEWHERE.keys() == every
    assert not tried & ELSEWHERE.keys()


def digits(part: slice) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, uint8 [n, 16, 16, 3], and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))[part]
    pixels = (found.images[order] * 15.9375).astype(np.uint8)
    pixels = pixels.repeat(2, axis=1).repeat(2, axis=2)
    return np.stack([pixels] * 3, axis=-1), found.target[order]


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> Path:
    """A folder with Split-train and Split-eval, as ExampleGen writes them, and graph/."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("flow")
    splits = {"train": slice(TRAIN), "eval": slice(TRAIN, TRAIN + EVAL)}
    for name, part in splits.items():
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        (folder / f"Split-{name}").mkdir()
        path = str(folder / f"Split-{name}/data_tfrecord-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, options) as writer:
            for i, (image, label) in enumerate(zip(*digits(part), strict=True)):
                example = tf.train.Example()
                values = example.features.feature
                values[features.IMAGE].bytes_list.value.append(image.tobytes())
                values[features.EXAMPLE_ID].bytes_list.value.append(b"%05d" % i)
                values[features.LABEL].int64_list.value.append(label)
                writer.write(example.SerializeToString())
    (folder / "dataset.json").write_text(DATA.to_json())
    images, _ = digits(splits["train"])
    transform_graph.write(folder, [image.tobytes() for image in images], dataset=DATA)
    return folder


def train(flow: Path, output: Path, case: dict, **settings: str) -> None:
    """As `call`, with what is common to all cases."""
    from trainer import strategy

    config = TrainConfig(**COMMON | case)
    strategy.prepare_devices(config)
    call(flow, output, config, **settings)


def call(flow: Path, output: Path, config: TrainConfig, **settings: str) -> None:
    """run_fn as TFX's Trainer calls it; `settings`: more of its custom_config."""
    from trainer import run

    run.run_fn(
        SimpleNamespace(
            transform_graph_path=str(flow / "graph"),
            train_files=[str(flow / "Split-train/*")],
            eval_files=[str(flow / "Split-eval/*")],
            serving_model_dir=str(output / "model"),
            model_run_dir=str(output / "run"),
            custom_config={
                "role": "candidate",
                "model": to_json(ModelConfig(network="preact_resnet8")),
                "train": to_json(config),
                "preprocessing": to_json(PreprocessingConfig()),
                "checkpoints": str(output / "checkpoints"),
                **settings,
            },
        )
    )


@pytest.mark.parametrize("name", CASES)
def test_the_exported_model_makes_the_errors_of_the_last_point(
    name, flow, tmp_path, started
):
    import tensorflow as tf

    if "replicas" in CASES[name]:  # logical devices and workers need processes
        arguments = [str(flow), str(tmp_path), json.dumps(CASES[name])]
        command = ["-m", "tests.trainer.test_run", *arguments]
        several = CASES[name]["strategy"] == "multi_worker"
        started += [start(command, each) for each in (clusters(2) if several else [{}])]
        for each in started:
            _, err = each.communicate(timeout=SECONDS)
            assert each.returncode == 0, err[-3000:]
    else:
        train(flow, tmp_path, CASES[name])
    record = json.loads((tmp_path / "run/history.json").read_text())
    assert record["class_names"] == [str(i) for i in range(10)]
    assert (record["dataset"], record["image_shape"]) == ("digits", [16, 16, 3])
    assert record["replicas"] == CASES[name].get("replicas", 1)
    points = [point for point in record["history"] if "eval_accuracy" in point]
    assert points[-1]["step"] == record["steps"]
    images, labels = digits(slice(TRAIN, TRAIN + EVAL))
    served = tf.saved_model.load(str(tmp_path / "model"))
    answers = served.signatures["serving_default"](images=tf.constant(images))
    errors = int((answers["label"].numpy() != labels).sum())
    assert abs(errors - EVAL * (1 - points[-1]["eval_accuracy"])) <= 1.01
    assert errors < 0.75 * EVAL  # it has learnt: two untrained networks agree as well


def test_a_training_that_diverges_leaves_its_record_where_that_is_asked_for(
    flow, tmp_path
):
    from trainer import fit

    case = {"learning_rate": 100.0, "schedule": "constant", "weight_decay": 1.0}
    with pytest.raises(fit.TrainingDiverged):
        train(flow, tmp_path / "raised", case)
    train(flow, tmp_path / "recorded", case, divergence="record")
    model = tmp_path / "recorded/model"
    files = [path for path in model.rglob("*") if path.is_file()]
    assert files == [model / "assets.extra/run.json"]
    record = json.loads(files[0].read_text())
    assert f"at step {record['steps']} of 80" in record["problem"]
    assert 0 < record["steps"] < 80
    assert record == json.loads((tmp_path / "recorded/run/history.json").read_text())


def started_from(path: Path, network: str = "preact_resnet8") -> dict[str, str]:
    config = ModelConfig(network=network, initial_weights=str(path))
    return {"model": to_json(config), "initial_weights_digest": "0123"}


def weights(model: Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Of an exported model; its head, if these are its classes."""
    from trainer import initial_weights

    source = initial_weights.find(str(model), "candidate.initial_weights")
    return initial_weights.read(source, classes)


def test_a_training_starts_from_a_model_and_keeps_what_is_frozen(flow, tmp_path):
    import tensorflow as tf

    classes = [str(i) for i in range(10)]
    first, second = tmp_path / "first/model", tmp_path / "second/model"
    train(flow, first.parent, {"epochs": 1.0, "steps": 4})
    before = weights(first, classes)
    stored = tf.train.load_checkpoint(str(first / "variables/variables"))
    held = [stored.get_tensor(key) for key in stored.get_variable_to_shape_map()]
    for name, array in before.items():  # one unit a stage: nothing is stacked
        assert any(np.array_equal(array, each) for each in held), name

    case = {"steps": 3, "freeze": "stage1", "ema": 0.9}
    train(flow, second.parent, case, **started_from(first))
    after = weights(second, classes)
    kept = {name for name in after if np.array_equal(before[name], after[name])}
    assert kept == {name for name in after if name.startswith(("stem/", "stage1/"))}
    for name in ("stage3/unit1/conv2/kernel", "dense/kernel"):  # it went on from there
        moved = np.abs(after[name] - before[name]).mean()
        assert moved < 0.5 * np.abs(before[name]).mean(), name
    record = json.loads((second / "assets.extra/run.json").read_text())
    assert record["initial_weights"] == str(first)
    assert record["initial_weights_digest"] == "0123"
    other = json.loads((first / "assets.extra/run.json").read_text())
    assert other["initial_weights"] is None
    assert record["parameters"] == other["parameters"]  # the frozen ones, too

    # Other classes: the head is another one.
    body = weights(first, ["cat", "dog"])
    assert before.keys() - body.keys() == {"dense/kernel", "dense/bias"}

    settings = started_from(first, "resnet8")
    with pytest.raises(ValueError, match="choose preact_resnet8, or other weights"):
        train(flow, tmp_path / "third", {"steps": 1}, **settings)


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
