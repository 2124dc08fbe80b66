"""A Trainer in a bucket that is killed and goes on; its model evaluated, chosen, served."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.beam import IN_PROCESS
from contract.config.canary import CanaryConfig
from contract.config.evaluation import EvaluationConfig
from contract.fields import to_json
from tests.components.example_gen import test_executor
from tests.object_storage import training
from tests.object_storage.emulator import ObjectStorage
from tests.object_storage.training import artifact
from tests.trainer import transform_graph

pytestmark = pytest.mark.tf


def write_transform_graph(storage: ObjectStorage, folder: Path) -> None:
    """As Transform would, of a few gray images."""
    graph = Path(
        transform_graph.write(folder, [bytes([v]) * 3072 for v in range(0, 256, 5)])
    )
    bucket = storage.client().bucket(storage.bucket)
    for file in graph.rglob("*"):
        if file.is_file():
            name = file.relative_to(graph).as_posix()
            bucket.blob(f"flow/transform/{name}").upload_from_filename(str(file))


def test_a_killed_trainer_goes_on_and_its_model_is_judged_and_served(
    object_storage: ObjectStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from apache_beam.internal.gcp import auth

    # Else Beam looks for credentials, and sleeps half a minute over it.
    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
    elsewhere = tmp_path / "elsewhere"  # where a path that is taken for local would be
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    root = object_storage.url("flow")
    test_executor.ingest(f"{root}/examples", name="digits", shards=2, eval_fraction=0.2)
    write_transform_graph(object_storage, tmp_path)

    project = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.object_storage.training", root],
        cwd=project,
        env={**os.environ, **object_storage.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as job:
        until = time.monotonic() + 300
        while not any(
            name.endswith("ckpt-2.index")
            for name in object_storage.names("flow/checkpoints/")
        ):
            assert job.poll() is None and time.monotonic() < until, job.communicate()
            time.sleep(0.05)
        job.kill()
        job.communicate()
    assert not [n for n in object_storage.names("flow/model/") if n.endswith(".pb")]

    with caplog.at_level("INFO", "pipeline.progress"):
        training.train(root)
    assert f"from {root}/checkpoints/baseline-" in caplog.text
    assert "resuming at step" in caplog.text
    assert object_storage.names("flow/checkpoints/") in ([], ["flow/checkpoints/"])

    def read_json(name: str) -> dict:
        bucket = object_storage.client().bucket(object_storage.bucket)
        return json.loads(bucket.blob(f"flow/{name}").download_as_bytes())

    history = read_json("model_run/history.json")
    assert history["steps"] == training.STEPS
    steps = [point["step"] for point in history["history"] if "loss" in point]
    assert steps == list(range(1, training.STEPS + 1))
    run = read_json("model/Format-Serving/assets.extra/run.json")
    assert run["network"] == training.NETWORK

    judge(root)
    comparison = read_json("evaluation/comparison.json")
    assert comparison["models"]["in_service"] is None
    assert comparison["models"]["baseline"]["problem"] is None
    assert comparison["models"]["baseline"]["error"] is not None
    decision = read_json("decision/decision.json")
    assert decision["winner"] == "baseline"
    canary = read_json("infra_blessing/canary.json")
    assert canary["passed"], canary
    assert "flow/infra_blessing/INFRA_BLESSED" in object_storage.names("flow/infra")
    assert not list(elsewhere.iterdir())


def judge(root: str) -> None:
    """From Answers to ServingCanary; the run's only model is the baseline's."""
    from components.answers.executor import Executor as Answers
    from components.evaluator.executor import Executor as Evaluator
    from components.model_chooser.executor import Executor as ModelChooser
    from components.serving_canary.executor import Executor as ServingCanary

    model = artifact("Model", f"{root}/model")
    nothing = artifact("PushedModel", f"{root}/nothing")
    nothing.set_int_custom_property("pushed", 0)
    answers = {}
    for name, given in (
        ("baseline", {"model": [model]}),
        ("in_service", {"pushed": [nothing]}),
    ):
        answers[name] = artifact("Model", f"{root}/answers/{name}")
        Answers().Do(
            {
                "examples": [artifact("Examples", f"{root}/examples")],
                "transform_graph": [artifact("TransformGraph", f"{root}/transform")],
                **given,
            },
            {"answers": [answers[name]]},
            {"contender": name, "batch_size": 128},
        )
    evaluation = artifact("ModelEvaluation", f"{root}/evaluation")
    context = Evaluator.Context(
        beam_pipeline_args=[*IN_PROCESS],
        tmp_dir=f"{root}/tmp",
        unique_id="2",
    )
    Evaluator(context).Do(
        {
            f"answers_{number:03d}": [each]
            for number, each in enumerate(answers.values())
        },
        {
            "evaluation": [evaluation],
            "test_evaluation": [artifact("ModelEvaluation", f"{root}/test_evaluation")],
        },
        {},
    )
    chosen = artifact("Model", f"{root}/chosen")
    blessing = artifact("ModelBlessing", f"{root}/blessing")
    decision = artifact("ModelEvaluation", f"{root}/decision")
    # That it is no good yet is not the question here.
    rule = EvaluationConfig(max_error=1.0, max_ece=None)
    ModelChooser().Do(
        {"evaluation": [evaluation], "model_000": [model]},
        {"model": [chosen], "blessing": [blessing], "decision": [decision]},
        {"rule": to_json(rule)},
    )
    config = CanaryConfig(max_p50_ms=60_000, max_p99_ms=60_000, requests=3)
    ServingCanary().Do(
        {
            "model": [chosen],
            "model_blessing": [blessing],
            "baseline": [model],
            "in_service": [nothing],
            "examples": [artifact("Examples", f"{root}/examples")],
        },
        {"blessing": [artifact("InfraBlessing", f"{root}/infra_blessing")]},
        {"config": to_json(config)},
    )
