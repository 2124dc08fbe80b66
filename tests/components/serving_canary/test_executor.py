"""Small SavedModels in real servers, each in a process of its own.

A server takes seconds to import TensorFlow, so few are started: one for a sound model, one
for a model with every fault at once, one for a model that cannot be loaded.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.config.canary import CanaryConfig
from contract.datasets import Dataset
from contract.fields import to_json
from contract.provenance import source_digest

pytestmark = pytest.mark.tf

CONFIG = CanaryConfig(requests=8)


@pytest.fixture(scope="module")
def models() -> Any:
    path = Path(__file__).with_name("models.py")
    spec = importlib.util.spec_from_file_location("canary_models", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def artifact(kind: Any, folder: Path) -> Any:
    made = kind()
    made.uri = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return made


def run(
    folder: Path,
    config: CanaryConfig,
    names: Any,
    *,
    blessed: bool = True,
    role: str = "candidate",
    **others: Path,
) -> tuple[Any, dict[str, Any]]:
    """The executor on the model under `folder`; its blessing and canary.json.

    `others`: `baseline`, `in_service`: their folders.
    """
    from tfx.types import standard_artifacts as kinds

    from components.serving_canary.executor import Executor

    approved = artifact(kinds.ModelBlessing, folder / "model_blessing")
    approved.set_int_custom_property("blessed", int(blessed))
    blessing = artifact(kinds.InfraBlessing, folder / "blessing")
    examples = artifact(kinds.Examples, folder / "examples")
    dataset = Dataset(
        name="toy",
        title="Toy",
        image_shape=(32, 32, 3),
        labels={"label": tuple(names)},
    )
    (folder / "examples/dataset.json").write_text(dataset.to_json())
    model = artifact(kinds.Model, folder)
    model.set_string_custom_property("role", role)
    inputs = {"model": [model], "model_blessing": [approved], "examples": [examples]}
    if "baseline" in others:
        inputs["baseline"] = [artifact(kinds.Model, others["baseline"])]
    if "in_service" in others:
        served = artifact(kinds.PushedModel, others["in_service"])
        served.set_int_custom_property("pushed", 1)
        inputs["in_service"] = [served]
    Executor().Do(
        inputs,
        {"blessing": [blessing]},
        {"config": to_json(config)},
    )
    report = json.loads((folder / "blessing/canary.json").read_text())
    assert_marked(blessing, report["passed"])
    return blessing, report


def assert_marked(blessing: Any, passed: bool) -> None:
    """Exactly as TFX's InfraValidator does."""
    from tfx.components.infra_validator import executor as tfx_executor
    from tfx.components.util import model_utils

    names = {path.name for path in Path(blessing.uri).iterdir()}
    assert (tfx_executor._BLESSED_FILENAME in names) == passed
    assert (tfx_executor._NOT_BLESSED_FILENAME in names) == (not passed)
    assert model_utils.is_infra_validated(blessing) == passed


def test_a_sound_model_passes(models, tmp_path):
    """In a program called like tensorflow_model_server, given its flags alone."""
    models.write(tmp_path / "Format-Serving")
    program = tmp_path / "tensorflow_model_server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m serving.server "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    config = dataclasses.replace(CONFIG, server=str(program))
    blessing, report = run(tmp_path, config, models.CLASSES)
    assert report["passed"], report["reasons"]
    assert blessing.get_string_custom_property("reasons") == ""
    assert set(report) == {
        "passed", "reasons", "server", "load_seconds", "p50_ms", "p99_ms", "requests",
        "latency_ms", "max_abs_difference", "signatures", "versions",
    }  # fmt: skip
    assert list(report["latency_ms"]) == ["candidate"]
    assert report["latency_ms"]["candidate"] > 0
    assert all(entry["ok"] for entry in report["signatures"].values())
    assert set(report["signatures"]) == {
        "serving_default", "serialized_examples", "encoded_images", "classify"
    }  # fmt: skip
    assert report["requests"] == 8
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert report["load_seconds"] > 0
    assert 0 <= report["max_abs_difference"] < 1e-5
    assert not (tmp_path / "blessing/server.log").exists()


def test_times_are_those_of_both_models_in_turns(models, tmp_path):
    """The winner is slow on purpose; it is held against the model in service."""
    models.write(tmp_path / "winner/Format-Serving", "slow")
    models.write(tmp_path / "served")
    models.write(tmp_path / "baseline/Format-Serving", "slow")
    config = dataclasses.replace(
        CONFIG, max_latency_ratio=1.5, max_latency_ms=0.001,
        max_p50_ms=1e5, max_p99_ms=1e5,
    )  # fmt: skip
    _, report = run(
        tmp_path / "winner", config, models.CLASSES,
        baseline=tmp_path / "baseline", in_service=tmp_path / "served",
    )  # fmt: skip
    assert list(report["latency_ms"]) == ["candidate", "in_service"]
    own, other = report["latency_ms"].values()
    assert own > 1.5 * other > 0
    assert [reason.split("(")[1] for reason in report["reasons"]] == [
        "canary.max_latency_ms allows 0.001 ms)",
        "canary.max_latency_ratio allows 1.5 times)",
    ]
    assert (
        f"{own / other:.1f} times as long as with the model in service"
        in (report["reasons"][1])
    )


def test_what_is_wrong_with_the_other_does_not_count(models, tmp_path):
    models.write(tmp_path / "winner/Format-Serving")
    models.write(tmp_path / "served")
    (tmp_path / "served/saved_model.pb").write_bytes(b"not a graph")
    _, report = run(
        tmp_path / "winner", CONFIG, models.CLASSES, in_service=tmp_path / "served"
    )
    assert report["passed"], report["reasons"]
    assert list(report["latency_ms"]) == ["candidate"]


def test_without_a_model_in_service_the_baseline_is_the_other(models, tmp_path):
    baseline = tmp_path / "baseline"
    models.write(tmp_path / "winner/Format-Serving")
    models.write(baseline / "Format-Serving")
    _, report = run(
        tmp_path / "winner", CONFIG, models.CLASSES, role="wide", baseline=baseline
    )
    assert list(report["latency_ms"]) == ["wide", "baseline"]


def test_every_fault_is_found_and_told(models, tmp_path):
    models.write(tmp_path / "Format-Serving", "skew", "nan", "names", "slow")
    config = dataclasses.replace(CONFIG, max_p50_ms=20.0)
    blessing, report = run(tmp_path, config, models.CLASSES)
    pixels = models.images()
    # What a wrong sign gives, by NumPy: the largest difference is the one that is told.
    right = models.train_answers(pixels)
    flipped = 1 / right / (1 / right).sum(axis=1, keepdims=True)
    difference = np.abs(flipped - right)
    row, column = np.unravel_index(difference.argmax(), difference.shape)
    assert report["reasons"][0] == (
        f"serving_default answers {flipped[row, column]:.2f} for class "
        f"{models.CLASSES[column]} where training answered {right[row, column]:.2f} "
        "(tolerance 0.01): the serving signature differs from the training path"
    )
    told = "\n".join(report["reasons"][1:])
    assert "serialized_examples calls class" in told
    assert "encoded_images answers NaN for 5 of 5 images" in told
    assert "classify: class 0 of the model is named dog, of the data set cat" in told
    assert "the budget is 20 ms (canary.max_p50_ms)" in told
    # More than half of 8 requests were too slow, so no more were sent.
    assert report["requests"] == 5
    assert report["max_abs_difference"] == pytest.approx(difference.max(), abs=1e-4)
    assert blessing.get_string_custom_property("reasons") == "; ".join(
        report["reasons"]
    )
    assert (
        "serving canary version(s) 1" in (tmp_path / "blessing/server.log").read_text()
    )


def test_a_model_that_cannot_be_loaded(models, tmp_path):
    models.write(tmp_path / "Format-Serving")
    (tmp_path / "Format-Serving/saved_model.pb").write_bytes(b"not a graph")
    _, report = run(tmp_path, CONFIG, models.CLASSES)
    (reason,) = report["reasons"]
    assert "the server ended while loading the model (exit status 1)" in reason
    assert "Can't parse" in reason and "saved_model.pb" in reason
    assert (tmp_path / "blessing/server.log").stat().st_size > 0
    assert report["load_seconds"] is None


def test_a_server_that_is_not_ready_in_time(models, tmp_path):
    models.write(tmp_path / "Format-Serving")
    config = dataclasses.replace(CONFIG, max_load_seconds=0.1)
    _, report = run(tmp_path, config, models.CLASSES)
    assert report["reasons"] == [
        "the model was not ready after 0.1 s (canary.max_load_seconds)"
    ]


def test_expected_answers_that_cannot_be_used_need_no_server(models, tmp_path):
    models.write(tmp_path / "Format-Serving")
    _, report = run(tmp_path, CONFIG, ("dog", "cat", "ship"))
    (reason,) = report["reasons"]
    assert reason.startswith("class 0 of the model is named cat, of the data set dog")
    (tmp_path / "Format-Serving/assets.extra/run.json").write_text(
        json.dumps({"class_names": ["ship", "dog", "cat"]})
    )
    _, report = run(tmp_path, CONFIG, models.CLASSES)
    (reason,) = report["reasons"]
    assert "different class names" in reason


def test_without_a_winner_there_is_nothing_to_check(tmp_path):
    blessing, report = run(tmp_path, CONFIG, ("a", "b"), blessed=False)
    assert report["reasons"] == ["no contender was blessed: nothing to check"]
    assert blessing.get_int_custom_property("blessed") == 0


def test_a_missing_server_stops_the_component(models, tmp_path):
    from components.serving_canary.server import ServerMissing

    config = dataclasses.replace(CONFIG, server=str(tmp_path / "nowhere"))
    models.write(tmp_path / "Format-Serving")
    with pytest.raises(ServerMissing, match="there is no such program"):
        run(tmp_path, config, models.CLASSES)


def test_the_node_hands_its_parameters_on():
    from tfx import types
    from tfx.types import standard_artifacts as kinds

    from components.serving_canary.component import ServingCanary

    node = ServingCanary(
        model=types.Channel(type=kinds.Model),
        model_blessing=types.Channel(type=kinds.ModelBlessing),
        examples=types.Channel(type=kinds.Examples),
        config=CONFIG,
    )
    assert node.exec_properties == {
        "config": to_json(CONFIG),
        "source": source_digest("components/serving_canary/executor.py"),
    }
    assert node.outputs["blessing"].type is kinds.InfraBlessing
