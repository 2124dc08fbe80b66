"""A run in Vertex AI Experiments: Google's SDK against a server made of its messages."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from contract.config.run import RunConfig
from contract.fields import override
from pipeline.vertex.steps.report import experiment
from tests.pipeline.vertex.certificates import certificate
from tests.pipeline.vertex.stand_in import PARENT, PROJECT, Fault
from tests.pipeline.vertex.steps.report.experiments import BOARD, Experiments

ROOT = Path(__file__).parents[5]
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SETTINGS = experiment.Settings(
    project=PROJECT,
    region="us-central1",
    experiment="cifar",
    tensorboard=f"{PARENT}/{BOARD}",
    kms_key=None,
)
REPORT = {
    "run": {"id": "cifar-resnet-20270131", "preset": "fast", "commit": "0a1b2c"},
    "data": {"name": "digits"},
    "models": {
        "baseline": {
            "network": "resnet20", "parameters": 272474,
            "eval": {"error": 0.25}, "test": {"error": 0.3}, "problem": None,
            "cross_entropy": 1.5, "ece": 0.02, "latency_ms": None,
            "train_seconds": 12.5, "images_per_second": 900.0,
        },
        "wide_1": {"network": "preact_resnet20", "problem": "the loss is nan"},
    },
    "decision": {"winner": "baseline"},
    "page": {
        "config": {"train": {"epochs": 2.0, "steps": None, "flip": True}},
        "histories": {
            "baseline": [
                {"step": 10, "epoch": 1.0, "loss": 2.0, "accuracy": 0.25},
                {"step": 10, "epoch": 1.0, "eval_loss": 1.75},
                {"step": 20, "epoch": 2.0, "loss": 1.0, "accuracy": 0.5},
            ],
            "wide_1": [{"step": 1, "epoch": 0.1, "loss": math.inf, "accuracy": 0.125}],
        },
    },
}  # fmt: skip
BASELINE, WIDE = "cifar-resnet-20270131-baseline", "cifar-resnet-20270131-wide-1"

# A process of its own: the SDK and gRPC's certificates are there once per process.
PROGRAM = """
import json, sys
from google.auth.credentials import AnonymousCredentials
from pipeline.vertex.steps.report import experiment
settings, report = json.loads(sys.argv[1]), json.loads(sys.argv[2])
names = experiment.record(
    experiment.Settings(**settings), report, AnonymousCredentials())
print("RESULT " + json.dumps(names))
"""


@pytest.fixture
def service(tmp_path):
    _, pem, secret = certificate(tmp_path)
    found = Experiments(grpc.ssl_server_credentials([(secret, pem)]))
    with found.vertex:
        yield found


@pytest.fixture
def record(service, tmp_path):
    """Records a report as the step does; returns names, or the error's last line."""

    def record(report=REPORT, **changed):
        settings = {**vars(SETTINGS), **changed}
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(settings), json.dumps(report)],
            env=os.environ
            | {
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "ca.pem"),
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": service.vertex.endpoint,
                "PYTHONPATH": str(ROOT),
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        lines = [x for x in result.stdout.splitlines() if x.startswith("RESULT ")]
        if result.returncode:
            return result.stderr.strip().splitlines()[-1]
        return json.loads(lines[0].removeprefix("RESULT "))

    return record


def told(service, name: str) -> dict:
    """What Experiments shows of a run."""
    found = service.context(f"cifar-{name}")
    assert found.schema_title == "system.ExperimentRun"
    return json_format.MessageToDict(type(found).pb(found).metadata)


def test_a_run_per_network_with_parameters_metrics_and_curves(service, record):
    assert record() == [BASELINE, WIDE]
    assert service.context("cifar").schema_title == "system.Experiment"
    (children,) = service.children.values()
    assert [key.rsplit("/")[-1] for key in children] == [
        f"cifar-{BASELINE}",
        f"cifar-{WIDE}",
    ]
    baseline, wide = told(service, BASELINE), told(service, WIDE)
    assert baseline["_params"] == {
        "contender": "baseline", "network": "resnet20", "parameters": 272474.0,
        "preset": "fast", "data": "digits", "commit": "0a1b2c",
        "train.epochs": 2.0, "train.flip": True,
    }  # fmt: skip
    assert baseline["_metrics"] == {
        "eval_error": 0.25, "test_error": 0.3, "cross_entropy": 1.5, "ece": 0.02,
        "train_seconds": 12.5, "images_per_second": 900.0, "won": 1.0,
    }  # fmt: skip
    assert (baseline["_state"], wide["_state"]) == ("COMPLETE", "FAILED")
    assert service.curves("cifar", BASELINE) == {
        "loss": [(10, 2.0), (20, 1.0)],
        "accuracy": [(10, 0.25), (20, 0.5)],
        "eval_loss": [(10, 1.75)],
    }
    # What is no number is no point of a curve.
    assert service.curves("cifar", WIDE) == {"accuracy": [(1, 0.125)]}
    # The same step again: nothing twice.
    before = len(service.vertex.calls)
    assert record() == [BASELINE, WIDE]
    assert not {call.method for call in service.vertex.calls[before:]} & {
        "CreateContext",
        "UpdateContext",
        "WriteTensorboardRunData",
    }


@pytest.mark.parametrize(
    ("method", "applied"),
    [
        ("CreateContext", True),
        ("UpdateContext", False),
        ("WriteTensorboardRunData", True),
    ],
)
def test_what_fails_for_a_moment_is_recorded_once(service, record, method, applied):
    service.vertex.fail(method, None, Fault(UNAVAILABLE, applied=applied))
    assert record() == [BASELINE, WIDE]
    assert told(service, BASELINE)["_state"] == "COMPLETE"
    assert service.curves("cifar", BASELINE)["loss"] == [(10, 2.0), (20, 1.0)]


def test_without_a_tensorboard_there_are_no_curves(service, record):
    assert record(tensorboard=None) == [BASELINE, WIDE]
    assert told(service, BASELINE)["_state"] == "COMPLETE"
    assert not service.points


def test_a_refusal_is_raised(service, record):
    service.vertex.fail(
        "GetMetadataStore", Fault(grpc.StatusCode.PERMISSION_DENIED, "no such right")
    )
    assert "no such right" in record()


def test_an_address_without_tls_is_refused(monkeypatch):
    from pipeline.vertex.place import VertexError

    monkeypatch.setenv(
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", "http://127.0.0.1:1"
    )
    with pytest.raises(VertexError, match="over TLS alone"):
        experiment.record(SETTINGS, REPORT)


def test_settings_are_stable_text_and_none_without_an_experiment():
    config = override(RunConfig(), {"vertex.project": PROJECT})
    assert experiment.encode(config) is None
    config = override(
        config,
        {"vertex.experiment": "cifar", "vertex.tensorboard": SETTINGS.tensorboard},
    )
    assert experiment.decode(experiment.encode(config)) == SETTINGS


def test_long_names_fit():
    report = REPORT | {"run": REPORT["run"] | {"id": "r" * 127}}
    names = [each.name for each in experiment.recordings(report)]
    assert len(set(names)) == 2
    assert max(map(len, names)) + 1 + 50 <= 121  # with the experiment's name
