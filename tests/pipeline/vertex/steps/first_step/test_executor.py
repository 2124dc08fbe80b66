"""RunConfiguration hands every node what a local run would give it, or stops the run.

It is started as in its container: TFX's entry point, the arguments of a compiled job.
"""

import copy
import hashlib
import json
from pathlib import Path

import pytest
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from contract.fields import ConfigError
from pipeline.dag import create_pipeline
from pipeline.local import rules as local_rules
from pipeline.local.engine import Local
from pipeline.resolve import resolve
from tests.pipeline.vertex import golden

pytestmark = pytest.mark.tf

NODE = "RunConfiguration"
OVERRIDES = {
    "preset": "smoke",
    "data.name": "digits",
    "train.steps": 12,
    "drift.labels": None,
    "train.flip": True,
    "evaluation.batch_size": 64,
    "serving.model_name": "digits",
}


def run(job: dict, overrides: str, folder: Path) -> dict:
    """Executes the first task of a job; returns its executor_output.json."""
    specification = job["pipelineSpec"]
    component = specification["components"][NODE]
    container = specification["deploymentSpec"]["executors"][f"{NODE}_executor"][
        "container"
    ]
    parameters = {
        name: source["runtimeValue"]["constant"]
        for name, source in specification["root"]["dag"]["tasks"][NODE]["inputs"][
            "parameters"
        ].items()
        if "runtimeValue" in source
    }
    task = folder / "123456789012" / "cifar-resnet-20261121120000" / f"{NODE}_42"
    outputs = component["outputDefinitions"]
    executor_input = {
        "inputs": {"parameterValues": {**parameters, "overrides": overrides}},
        "outputs": {
            "artifacts": {
                key: {
                    "artifacts": [
                        {"uri": str(task / key), "type": value["artifactType"]}
                    ]
                }
                for key, value in outputs["artifacts"].items()
            },
            "parameters": {
                key: {"outputFile": str(task / f"{key}.txt")}
                for key in outputs["parameters"]
            },
            "outputFile": str(task / "executor_output.json"),
        },
    }
    args = [a.replace("{{$}}", json.dumps(executor_input)) for a in container["args"]]
    parse = kubeflow_v2_run_executor._parse_flags
    kubeflow_v2_run_executor.main(parse(["kubeflow_v2_run_executor", *args]))
    return json.loads((task / "executor_output.json").read_text())


@pytest.fixture(scope="module")
def job() -> dict:
    return golden.compiled(
        "vertex.hardware=gpu8",
        "vertex.budget_usd=100",
        "preset=fast",
        "train.epochs=2",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def output(job, folder) -> dict:
    return run(job, json.dumps(OVERRIDES), folder)


def local_parameters() -> dict[str, object]:
    """What a local run's nodes are given, by RunConfiguration's keys."""
    texts = [
        "preset=smoke", "data.name=digits", "train.steps=12", "drift.labels=none",
        "train.flip=true", "evaluation.batch_size=64", "serving.model_name=digits",
        # The row of gpu8 in pipeline/vertex/hardware.py.
        "train.strategy=mirrored", "train.replicas=8", "train.last_batch=drop",
        "train.checkpoint_seconds=120",
    ]  # fmt: skip
    config = resolve(texts, {}, "/", local_rules).config
    fingerprint = local_rules.fingerprint(config)
    nodes = create_pipeline(config, fingerprint, Local(config)).components
    return {
        f"{node.id}_{name}": value
        for node in nodes
        for name, value in node.exec_properties.items()
    }


def test_nodes_are_given_what_a_local_run_gives_them(output):
    given, local = output["parameterValues"], local_parameters()
    elsewhere = {
        "BaselineTrainer_custom_config", "CandidateTrainer_custom_config",
        "AtomicPusher_destination",
    }  # fmt: skip
    shared = given.keys() & local.keys() - elsewhere
    for key in shared:
        if key.endswith("_source"):  # of the digests of files one digest is handed out
            digest = hashlib.sha256(str(local[key]).encode()).hexdigest()
            local[key] = digest[:16]
    assert {key: given[key] for key in shared} == {key: local[key] for key in shared}
    assert given.keys() - shared == elsewhere | {
        # Locally a Resolver is in their place, and the command line writes the report.
        "ModelInService_destination", "ModelInService_source",
        "PreviousStatistics_source", "Report_source",
    }  # fmt: skip
    assert given["BaselineAnswers_batch_size"] == 64
    assert given["AtomicPusher_destination"] == "gs://my-bucket/cifar/serving/digits"


def test_trainers_are_given_the_same_and_where_to_train(output):
    key = "CandidateTrainer_custom_config"
    given = json.loads(output["parameterValues"][key])
    local = json.loads(str(local_parameters()[key]))
    job = given.pop("training_job")
    assert given.pop("checkpoints") == "gs://my-bucket/cifar/checkpoints"
    local.pop("checkpoints")
    assert given == local
    assert (job["project"], job["region"]) == ("my-project", "us-central1")
    (pool,) = job["job"]["job_spec"]["worker_pool_specs"]
    assert pool["machine_spec"]["accelerator_count"] == 8


def test_values_are_artifacts_as_well(output, folder, job):
    for key, value in output["parameterValues"].items():
        (file,) = folder.rglob(key)
        assert file.read_text() == (
            str(value) if isinstance(value, str) else f"{value:g}"
        )
    artifacts = job["pipelineSpec"]["components"][NODE]["outputDefinitions"][
        "artifacts"
    ]
    assert set(output["artifacts"]) == set(artifacts)


def test_the_run_is_recorded(output, folder):
    (file,) = folder.rglob("run.json")
    record = json.loads(file.read_text())
    assert record["run_id"] == "cifar-resnet-20261121120000"
    assert record["overrides"] == OVERRIDES
    assert record["fixed"]["vertex.hardware"] == "gpu8"
    facts = record["facts"]
    assert facts["config"]["train"]["steps"] == 12
    assert facts["config"]["train"]["replicas"] == 8
    assert facts["data_reason"] == "as configured"
    assert facts["platform"].startswith(
        "Vertex AI, us-central1; Trainers on g2-standard-96"
    )
    assert facts["seconds"] is None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ('{"train.epochs": "3"}', 'train.epochs="3": must be a number'),
        ('{"train.epochs": 3, "train.epochs": 3}', "train.epochs is given twice"),
        ('{"vertex.hardware": "tpu-v3-8"}', "vertex.hardware is fixed when"),
        ('{"preset": "huge"}', "preset=huge: must be one of"),
        ('{"train.global_batch_size": 12}', "must divide by train.replicas=8"),
        ('{"candidate.network": "resnet9"}', "candidate.network=resnet9"),
        ('{"data.path": "/mnt/cifar"}', "data.path=/mnt/cifar"),
        ("", "overrides: not JSON"),
        ('{"train.epochs": 60000}', "vertex.budget_usd=100: this run is estimated at"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(
    job, overrides, sentence, tmp_path
):
    with pytest.raises(ConfigError) as error:
        run(job, overrides, tmp_path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.rglob("*")) == []


def test_a_training_that_no_job_would_end_is_refused_without_a_budget_too(tmp_path):
    job = golden.compiled("preset=fast", "train.epochs=2")
    with pytest.raises(
        ConfigError, match="ends a training job after 7; train for less"
    ):
        run(job, '{"train.epochs": 1e5, "candidate.network": "resnet164"}', tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_an_image_of_another_release_is_refused(job, tmp_path):
    job = copy.deepcopy(job)
    outputs = job["pipelineSpec"]["components"][NODE]["outputDefinitions"]
    for kind in outputs.values():
        kind["Evaluator_old"] = kind["Evaluator_source"]
    with pytest.raises(
        ConfigError, match=r"image_tag=0.1.0: .*\(Evaluator_old\); compile"
    ):
        run(job, "{}", tmp_path)
    assert list(tmp_path.rglob("*")) == []
