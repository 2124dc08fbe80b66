"""Registering and deploying, through the genuine clients against a server of this machine.

What arrived is read from the server's own state, and what a second try does is compared
with what the first one left.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from components.atomic_pusher import ledger
from components.atomic_pusher import object_storage as storage
from components.atomic_pusher.ledger import Origin
from components.atomic_pusher.publish import PublishError
from contract import pushed_model
from contract.config.run import RunConfig
from contract.fields import ConfigError, override
from contract.records import COMPARISON_FILE
from pipeline.vertex.steps.push import endpoint, serve
from pipeline.vertex.steps.push import follow as following
from pipeline.vertex.steps.push.patience import Patience
from pipeline.vertex.steps.push.settings import Settings, decode, encode
from tests.contract import comparisons
from tests.pipeline.vertex.stand_in import PARENT, PROJECT, REGION, Fault
from tests.pipeline.vertex.steps.push.services import Serving

PROJECT_ROOT = Path(__file__).parents[5]
QUICK = Patience(deadline_seconds=20.0, pause_seconds=0.01)
MODEL = f"{PARENT}/models/cifar"
REGISTRY = Settings(
    project=PROJECT,
    region=REGION,
    model_name="cifar",
    alias="champion",
    image="us-central1-docker.pkg.dev/p/cifar-resnet/pipeline:0.1.0",
    own_image=True,
    deploy=False,
    endpoint=None,
    canary_percent=10,
    machine_type="n1-standard-2",
    kms_key=None,
    endpoint_projects=None,
)
ENDPOINT = dataclasses.replace(REGISTRY, deploy=True)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def serving():
    found = Serving()
    with found.vertex:
        yield found


@pytest.fixture
def folder(object_storage):
    return ledger.open_folder(object_storage.url("serving/cifar"))


@pytest.fixture
def push(folder, tmp_path):
    """Publishes another version and returns its number."""
    source = tmp_path / "model"
    source.mkdir()
    (source / "saved_model.pb").write_bytes(b"graph")
    origin = Origin(
        network="preact_resnet20",
        role="candidate",
        run="cifar-resnet-20261121130000",
        pipeline="cifar-resnet",
        dataset="cifar10",
        reason="preact_resnet20 makes 8.0 % errors; the lower error wins",
    )
    return lambda: storage.publish(source, folder, origin).version


@pytest.fixture
def follow(serving, folder):
    return lambda settings, version: following.follow(
        settings, folder, version, QUICK, serving.clients()
    )


def test_the_first_version_makes_the_model(serving, folder, push, follow):
    version = push()
    outcome = follow(REGISTRY, version)
    assert outcome == {
        pushed_model.REGISTERED_MODEL: f"{MODEL}@1",
        pushed_model.REGISTERED_ALIAS: "champion",
    }
    (model,) = serving.versions["cifar"]
    assert model.artifact_uri == f"{folder.uri}/{version}"
    assert set(model.version_aliases) == {"default", f"v{version}", "champion"}
    assert model.version_description.startswith("preact_resnet20 makes 8.0 % errors")
    assert dict(model.labels) == {
        "push": str(version),
        "network": "preact_resnet20",
        "role": "candidate",
        "run": "cifar-resnet-20261121130000",
        "pipeline": "cifar-resnet",
        "data": "cifar10",
    }
    spec = model.container_spec
    assert spec.image_uri == REGISTRY.image
    assert spec.command == ["python", "-m", "pipeline.vertex.steps.push.serve"]
    assert spec.predict_route == "/v1/models/cifar:predict"
    assert spec.health_route == "/v1/models/cifar"
    assert [port.container_port for port in spec.ports] == [8080]
    assert {each.name: each.value for each in spec.env} == {
        "MODEL_NAME": "cifar", "MODEL_VERSION": str(version),
    }  # fmt: skip
    assert not serving.endpoints
    # And the ledger says so, beside what it said before.
    entry = ledger.read_entry(folder, version)
    assert entry is not None and entry.registered == outcome
    assert entry.origin.network == "preact_resnet20"
    assert [each.version for each in ledger.published(folder)[1]] == [version]


def test_later_versions_join_it_and_take_the_alias(serving, push, follow):
    first, second = push(), push()
    follow(REGISTRY, first)
    outcome = follow(REGISTRY, second)
    assert outcome[pushed_model.REGISTERED_MODEL] == f"{MODEL}@2"
    assert serving.aliases("cifar") == {
        "default": "1", f"v{first}": "1", f"v{second}": "2", "champion": "2",
    }  # fmt: skip
    requests = serving.vertex.requests("UploadModel")
    assert [bool(each.model_id) for each in requests] == [True, False]
    assert requests[1].parent_model == MODEL


def test_a_task_that_is_repeated_finds_what_it_made(serving, push, follow):
    version = push()
    first = follow(ENDPOINT, version)
    before = len(serving.vertex.methods)
    assert follow(ENDPOINT, version) == first
    assert set(serving.vertex.methods[before:]) == {"GetModel", "GetEndpoint"}
    assert len(serving.versions["cifar"]) == 1
    assert len(serving.endpoints["cifar"].deployed_models) == 1


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize(
    "method",
    ["UploadModel", "MergeVersionAliases", "CreateEndpoint", "DeployModel"]
    + ["UndeployModel", "GetModel", "GetEndpoint", "GetOperation"],
)
def test_what_fails_for_a_moment_happens_once(serving, push, follow, method, applied):
    """Also where the request took effect and only the answer was lost."""
    versions = [push() for _ in range(3)]
    for version in versions[:2]:
        follow(ENDPOINT, version)
    before = len(serving.endpoints["cifar"].deployed_models)
    if method == "CreateEndpoint":
        serving.endpoints.clear()
        before = 0
    serving.vertex.fail(method, Fault(UNAVAILABLE, applied=applied))
    follow(ENDPOINT, versions[2])
    assert [each.version_id for each in serving.versions["cifar"]] == ["1", "2", "3"]
    assert serving.aliases("cifar")["champion"] == "3"
    assert serving.traffic("cifar") == (
        {f"cifar-v{versions[0]}": 90, f"cifar-v{versions[2]}": 10}
        if before
        else {f"cifar-v{versions[2]}": 100}
    )


@pytest.mark.parametrize(
    "code",
    ["DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "ABORTED", "RESOURCE_EXHAUSTED"],
)
@pytest.mark.parametrize("method", ["GetModel", "GetEndpoint", "GetOperation"])
def test_a_look_is_repeated_whatever_the_bad_moment_is(
    serving, push, follow, method, code
):
    serving.vertex.fail(method, Fault(grpc.StatusCode[code], "away"), count=2)
    version = push()
    follow(ENDPOINT, version)
    assert serving.traffic("cifar") == {f"cifar-v{version}": 100}


def test_what_an_earlier_try_began_is_waited_for(serving, push, follow):
    """The task was killed while Vertex AI deployed: nothing is deployed twice."""
    version = push()
    follow(REGISTRY, version)
    follow(ENDPOINT, version)
    deployed = list(serving.endpoints["cifar"].deployed_models)
    serving.endpoints["cifar"].deployed_models = []
    serving.running = ["endpoints/cifar"] * 3
    look = serving._list_operations

    def done_later(request):
        answer = look(request)
        if not serving.running:
            serving.endpoints["cifar"].deployed_models = deployed
        return answer

    path = "/google.longrunning.Operations/ListOperations"
    request_class, _ = serving.vertex._handlers[path]
    serving.vertex._handlers[path] = (request_class, done_later)
    follow(ENDPOINT, version)
    assert len(serving.vertex.requests("DeployModel")) == 1


def test_a_canary_gets_its_share_and_the_earlier_one_goes(serving, push, follow):
    first, second, third = push(), push(), push()
    outcome = follow(ENDPOINT, first)
    assert serving.traffic("cifar") == {f"cifar-v{first}": 100}
    assert outcome[pushed_model.TRAFFIC_PERCENT] == 100
    assert outcome[pushed_model.ENDPOINT] == f"{PARENT}/endpoints/cifar"
    outcome = follow(ENDPOINT, second)
    assert outcome[pushed_model.TRAFFIC_PERCENT] == 10
    assert serving.traffic("cifar") == {f"cifar-v{first}": 90, f"cifar-v{second}": 10}
    follow(ENDPOINT, third)
    assert serving.traffic("cifar") == {f"cifar-v{first}": 90, f"cifar-v{third}": 10}
    deployed = serving.vertex.requests("DeployModel")[-1].deployed_model
    assert deployed.model == f"{MODEL}@3"
    assert deployed.dedicated_resources.machine_spec.machine_type == "n1-standard-2"
    assert deployed.dedicated_resources.min_replica_count == 1
    # All the traffic for the new one: nothing else stays.
    fourth = push()
    follow(dataclasses.replace(ENDPOINT, canary_percent=100), fourth)
    assert serving.traffic("cifar") == {f"cifar-v{fourth}": 100}


def test_an_endpoint_for_some_projects_alone(serving, push, follow):
    """Private Service Connect: no address of its own on the internet, traffic as ever."""
    private = dataclasses.replace(
        ENDPOINT, endpoint_projects="my-clients,my-others", kms_key="projects/k"
    )
    first, second = push(), push()
    follow(private, first)
    follow(private, second)
    (request,) = serving.vertex.requests("CreateEndpoint")
    made = request.endpoint
    assert made.private_service_connect_config.enable_private_service_connect
    assert list(made.private_service_connect_config.project_allowlist) == [
        "my-clients",
        "my-others",
    ]
    assert not made.dedicated_endpoint_enabled
    assert made.encryption_spec.kms_key_name == "projects/k"
    assert serving.traffic("cifar") == {f"cifar-v{first}": 90, f"cifar-v{second}": 10}
    # It is not taken for an open one, nor an open one for it.
    with pytest.raises(PublishError, match="was made for Private Service Connect"):
        follow(ENDPOINT, second)
    serving.endpoints.clear()
    follow(ENDPOINT, second)
    assert serving.vertex.requests("CreateEndpoint")[
        -1
    ].endpoint.dedicated_endpoint_enabled
    with pytest.raises(PublishError, match="was made for the internet"):
        follow(private, second)


@pytest.fixture
def evaluate(serving, folder):
    """Imports the evaluations of a version that was followed."""

    def imported(version, outcome, *found):
        return following.import_evaluations(
            REGISTRY,
            folder,
            version,
            outcome[pushed_model.REGISTERED_MODEL],
            found,
            QUICK,
            serving.clients()[0],
        )

    return imported


EVAL = comparisons.earlier("comparison.json")
TEST = dataclasses.replace(EVAL, split="test")


def test_what_was_measured_stands_beside_the_version(serving, push, follow, evaluate):
    first, second = push(), push()
    evaluate(first, follow(REGISTRY, first), EVAL)
    names = evaluate(second, follow(REGISTRY, second), EVAL, TEST)
    assert serving.evaluations.keys() == {"cifar@1", "cifar@2"}
    found = serving.evaluations["cifar@2"]
    assert [each.name for each in found] == names
    assert [each.display_name for each in found] == ["eval", "test"]
    told = json.loads(type(found[0]).to_json(found[0]))
    measured = EVAL.models["candidate"].measured
    assert told["metrics"]["logLoss"] == pytest.approx(measured.cross_entropy)
    (confidence,) = told["metrics"]["confidenceMetrics"]
    assert confidence["recall"] == confidence["precision"] == 1 - measured.error
    matrix = told["metrics"]["confusionMatrix"]
    classes = [each["displayName"] for each in matrix["annotationSpecs"]]
    assert classes == ["cat", "dog", "ship"]
    # Counted once more: the errors are what is off the diagonal.
    errors = sum(
        n for i, row in enumerate(matrix["rows"]) for j, n in enumerate(row) if i != j
    )
    assert errors == measured.errors
    assert told["metadata"] == {
        "evaluation_dataset_type": "eval",
        "pipeline_job_id": "cifar-resnet-20261121130000",
    }


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("method", ["ImportModelEvaluation", "ListModelEvaluations"])
def test_an_evaluation_is_imported_once(
    serving, push, follow, evaluate, method, applied
):
    version = push()
    outcome = follow(REGISTRY, version)
    serving.vertex.fail(method, Fault(UNAVAILABLE, applied=applied))
    names = evaluate(version, outcome, EVAL, TEST)
    assert evaluate(version, outcome, EVAL, TEST) == names
    assert len(serving.evaluations["cifar@1"]) == 2


def test_who_was_not_measured_has_no_evaluation(serving, push, follow, evaluate):
    version = push()
    others = dataclasses.replace(
        EVAL, models={"baseline": EVAL.models["baseline"]}, pairs={}
    )
    assert evaluate(version, follow(REGISTRY, version), others) == []
    assert not serving.evaluations


def test_a_refused_evaluation_is_a_sentence(serving, push, follow, evaluate):
    version = push()
    outcome = follow(REGISTRY, version)
    serving.vertex.fail(
        "ImportModelEvaluation", Fault(grpc.StatusCode.PERMISSION_DENIED, "no")
    )
    with pytest.raises(PublishError) as caught:
        evaluate(version, outcome, EVAL)
    assert str(caught.value).startswith(
        f"the evaluation of {MODEL}@1 was not imported: 403 no"
    )


def test_shares_that_a_person_set_are_kept(serving, push, follow):
    first, second = push(), push()
    follow(ENDPOINT, first)
    follow(ENDPOINT, second)
    found = serving.endpoints["cifar"]
    old, new = (each.id for each in found.deployed_models)
    found.traffic_split = {old: 40, new: 60}
    assert follow(ENDPOINT, second)[pushed_model.TRAFFIC_PERCENT] == 60
    assert dict(found.traffic_split) == {old: 40, new: 60}
    # The next canary stands beside the one with most traffic.
    third = push()
    follow(ENDPOINT, third)
    assert serving.traffic("cifar") == {f"cifar-v{second}": 90, f"cifar-v{third}": 10}


def test_an_endpoint_of_somebody_else_is_used_with_care(serving, push, follow):
    given = dataclasses.replace(ENDPOINT, endpoint="1234567890")
    version = push()
    with pytest.raises(PublishError, match="there is no such endpoint in projects/"):
        follow(given, version)
    from google.cloud import aiplatform_v1

    def stranger(number: str, name: str):
        return aiplatform_v1.DeployedModel(id=number, display_name=name)

    found = aiplatform_v1.Endpoint(
        name=f"{PARENT}/endpoints/1234567890",
        deployed_models=[stranger("1", "old-model"), stranger("2", "spare")],
        traffic_split={"1": 100},
    )
    serving.endpoints["1234567890"] = found
    follow(given, version)
    assert serving.traffic("1234567890") == {
        "old-model": 90, "spare": 0, f"cifar-v{version}": 10,
    }  # fmt: skip
    found.traffic_split = {"1": 50, "2": 50}
    with pytest.raises(PublishError, match="serves spare too, which is no version of"):
        follow(given, push())


def test_a_refusal_is_a_sentence_and_the_push_stays(serving, folder, push, follow):
    version = push()
    serving.vertex.fail(
        "DeployModel",
        Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota custom_model_serving_cpus"),
    )
    with pytest.raises(PublishError) as caught:
        follow(dataclasses.replace(ENDPOINT, project=PROJECT), version)
    assert str(caught.value).startswith(
        f"{folder.uri}/{version} was not registered in {PARENT}: 429"
    )
    assert "quota custom_model_serving_cpus" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ledger.read_served(folder).version == version
    assert len(serving.versions["cifar"]) == 1
    other = dataclasses.replace(REGISTRY, project="not-ours")
    with pytest.raises(PublishError, match="403 no access to projects/not-ours"):
        follow(other, push())


def test_an_unknown_version_is_refused(follow):
    with pytest.raises(PublishError, match="/12: was never published"):
        follow(REGISTRY, 12)


@pytest.mark.parametrize(
    ("deployed", "traffic", "percent", "expected"),
    [
        ([], {}, 10, {"0": 100}),
        (["1"], {"1": 100}, 10, {"0": 10, "1": 90}),
        (["1", "2"], {"1": 90, "2": 10}, 25, {"0": 25, "1": 75}),
        (["1", "2"], {"1": 10, "2": 90}, 25, {"0": 25, "2": 75}),
        (["1"], {}, 10, {"0": 100}),  # what has no traffic is nothing to fall back to
        (["1"], {"1": 100}, 100, {"0": 100}),
    ],
)
def test_the_split(deployed, traffic, percent, expected):
    assert endpoint.split(deployed, traffic, percent) == expected


@pytest.mark.tf
def test_the_component_does_it_in_a_container(
    serving, folder, push, monkeypatch, tmp_path
):
    """As Vertex AI calls it: properties as JSON, clients from the environment."""
    from tfx.types import standard_artifacts

    from pipeline.vertex.steps.push.component import VertexPush
    from pipeline.vertex.steps.push.executor import Executor

    monkeypatch.setenv(
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", serving.vertex.endpoint
    )
    monkeypatch.setattr("pipeline.vertex.steps.push.executor.Patience", lambda: QUICK)
    version = push()
    config = override(
        RunConfig(),
        {"vertex.project": PROJECT, "serving.push": "endpoint",
         "serving.registry_alias": "best", "vertex.serving_image": "eu.pkg.dev/a/b:1"},
    )  # fmt: skip
    pushed = standard_artifacts.PushedModel()
    pushed.set_json_value_custom_property("pushed", 1.0)
    pushed.set_json_value_custom_property("pushed_version", str(version))
    pushed.set_json_value_custom_property(
        "pushed_destination", f"{folder.uri}/{version}"
    )
    pushed.set_json_value_custom_property("network", "preact_resnet20")
    pushed.set_mlmd_artifact(pushed.mlmd_artifact)  # where getters look
    measured = {}
    for key, comparison in (("evaluation", EVAL), ("test_evaluation", TEST)):
        artifact = standard_artifacts.ModelEvaluation()
        artifact.uri = str(tmp_path / key)
        (tmp_path / key).mkdir()
        (tmp_path / key / COMPARISON_FILE).write_text(comparison.to_json())
        measured[key] = [artifact]
    registered = standard_artifacts.PushedModel()
    registered.uri = str(tmp_path)
    Executor().Do(
        {"pushed_model": [pushed], **measured},
        {"registered": [registered]},
        {"settings": encode(config)},
    )
    assert registered.get_int_custom_property("pushed") == 1
    assert registered.get_string_custom_property("registered_model") == f"{MODEL}@1"
    assert registered.get_string_custom_property("registered_alias") == "best"
    assert registered.get_string_custom_property("network") == "preact_resnet20"
    assert registered.get_int_custom_property("traffic_percent") == 100
    evaluations = serving.evaluations["cifar@1"]
    assert [each.display_name for each in evaluations] == ["eval", "test"]
    (model,) = serving.versions["cifar"]
    assert model.container_spec.image_uri == "eu.pkg.dev/a/b:1"
    assert list(model.container_spec.command) == []  # not this project's image
    # A refusal is no exception: the report is still to be written.
    serving.vertex.fail("GetModel", Fault(grpc.StatusCode.PERMISSION_DENIED, "no"))
    refused = standard_artifacts.PushedModel()
    refused.uri = str(tmp_path)
    Executor().Do(
        {"pushed_model": [pushed], **measured},
        {"registered": [refused]},
        {"settings": encode(config)},
    )
    sentence = refused.get_string_custom_property("registration_problem")
    assert f"{folder.uri}/{version} was not registered" in sentence
    assert refused.get_string_custom_property("network") == "preact_resnet20"
    assert refused.get_string_custom_property("registered_model") == ""
    # That it is registered is told also where its evaluation was refused.
    serving.vertex.fail(
        "ListModelEvaluations", Fault(grpc.StatusCode.PERMISSION_DENIED, "no")
    )
    partly = standard_artifacts.PushedModel()
    partly.uri = str(tmp_path)
    Executor().Do(
        {"pushed_model": [pushed], **measured},
        {"registered": [partly]},
        {"settings": encode(config)},
    )
    sentence = partly.get_string_custom_property("registration_problem")
    assert sentence.startswith(f"the evaluation of {MODEL}@1 was not imported")
    assert partly.get_string_custom_property("registered_model") == f"{MODEL}@1"
    nothing = standard_artifacts.PushedModel()
    nothing.set_json_value_custom_property("pushed", 0.0)
    nothing.set_mlmd_artifact(nothing.mlmd_artifact)
    Executor().Do(
        {"pushed_model": [nothing], **measured},
        {"registered": [registered]},
        {"settings": "{}"},
    )
    assert registered.get_int_custom_property("pushed") == 0
    node = VertexPush(
        pushed_model=standard_channel(standard_artifacts.PushedModel),
        evaluation=standard_channel(standard_artifacts.ModelEvaluation),
        test_evaluation=standard_channel(standard_artifacts.ModelEvaluation),
        settings=encode(config),
    )
    assert list(node.outputs) == ["registered"]


def standard_channel(kind):
    from tfx.types import channel

    return channel.Channel(type=kind)


def test_settings_are_stable_text_and_checked():
    config = override(
        RunConfig(), {"vertex.project": PROJECT, "serving.push": "registry"}
    )
    assert encode(config) == encode(config)
    found = decode(encode(config))
    assert found == dataclasses.replace(
        REGISTRY,
        image=f"us-central1-docker.pkg.dev/{PROJECT}/cifar-resnet/pipeline:0.1.0",
    )
    prebuilt = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    own = override(config, {"vertex.serving_image": prebuilt})
    assert decode(encode(own)).prebuilt_image and not found.prebuilt_image
    with pytest.raises(ConfigError, match="vertex.project=none: must be"):
        encode(override(config, {"vertex.project": None}))


def test_the_container_copies_the_model_and_becomes_the_server(
    folder, push, tmp_path, object_storage
):
    version = push()
    environment = {
        "AIP_STORAGE_URI": folder.version_uri(version),
        "AIP_HTTP_PORT": "8080",
        "MODEL_NAME": "cifar",
        "MODEL_VERSION": str(version),
    }
    command = serve.prepare(environment, tmp_path / "base")
    copied = tmp_path / "base/cifar" / str(version) / "saved_model.pb"
    assert copied.read_bytes() == b"graph"
    assert command[1:4] == ["-m", "serving.server", "--bind_address=0.0.0.0"]
    from serving.server import flags

    found, warnings = flags.parse(command[3:])
    assert (found.rest_api_port, found.model_name) == (8080, "cifar")
    assert found.model_base_path == str(tmp_path / "base/cifar")
    assert not warnings


def test_settings_load_nothing_heavy():
    code = (
        "import sys, pipeline.vertex.steps.push.settings, contract.pushed_model, "
        "components.atomic_pusher.ledger\n"
        "heavy = {'tensorflow', 'tfx', 'google.cloud.storage', 'google.cloud.aiplatform'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout.replace("'", '"')) == []
