"""The report from TFX's own container entry point, held against the local one."""

import dataclasses
import json
import urllib.parse

import pytest

from tests.pipeline.report import recorded

pytestmark = pytest.mark.tf


@pytest.fixture
def make(tmp_path):
    """Makes a run; returns the local report and what was found of it."""

    def make(**options):
        from pipeline.report import build, collect

        recorded_run = recorded.record(tmp_path / "run", **options)
        found = collect.find(*recorded_run, in_service=None)
        return build.build(found), found

    return make


@pytest.fixture
def vertex(tmp_path, request):
    """Runs the component; returns the artifact's metadata and the files by folder."""

    def vertex(found, address=f"ram://{request.node.name}", **changed):
        from tests.pipeline.vertex.steps.report import on_vertex

        metadata, uri = on_vertex.run(found, address, tmp_path, **changed)
        folders = {"artifact": uri, "copy": f"{address}/report"}
        return metadata, folders

    return vertex


def read(folder: str) -> tuple[dict, str]:
    from tests.pipeline.vertex.steps.report import on_vertex

    page = on_vertex.read(f"{folder}/report.html")
    return json.loads(on_vertex.read(f"{folder}/report.json")), page


def with_artifact(found, artifact):
    return dataclasses.replace(found, artifacts=[*found.artifacts, artifact])


def assert_same(cloud: dict, local: dict) -> None:
    """The same but for what only the engine knows."""
    from pipeline.report import render

    assert (
        cloud["run"]["seconds"] > 0
    )  # until the report; the recorded run knows its own
    cloud["run"]["seconds"] = local["run"]["seconds"]
    nodes = {row["id"] for row in local["components"]}
    told = cloud.pop("components")
    assert {row["id"] for row in told} - nodes <= {"RunConfiguration"}
    for row in told:
        assert row == {
            "id": row["id"], "state": "complete", "seconds": None, "cached": None,
        }  # fmt: skip
    written = json.loads(render.files(local)["report.json"])
    assert cloud == {key: written[key] for key in written if key != "components"}


def assert_same_page(cloud: str, local: dict) -> None:
    """From the verdict to the data; above is the duration, below the lineage."""
    from pipeline.report import render

    here, there = (
        text[text.index("<h1>") : text.index("<h2>Lineage")]
        for text in (render.html(local), cloud)
    )
    assert there == here


def test_both_ways_say_the_same_of_a_first_run(make, vertex):
    local, found = make()
    metadata, folders = vertex(found)
    assert metadata["problem"] == ""
    assert metadata["winner"] == "candidate"
    assert metadata["reason"] == local["decision"]["reason"]
    assert metadata["pushed_version"] == "8"
    report, page = read(folders["artifact"])
    assert (report, page) == read(folders["copy"])
    assert_same(report, local)
    assert report["data"]["verified"] is True
    assert report["data"]["warnings"] == []
    assert report["pushed"]["version"] == 8
    assert report["models"]["in_service"] is None
    assert "Nothing was in service before" in page
    assert page.count('role="img"') == 9
    assert page.count("data:image/png;base64,") >= 60 + 4
    assert_same_page(page, local)


def test_both_ways_say_the_same_with_a_model_in_service(make, vertex):
    local, found = make(served=True, leaked=3)
    metadata, folders = vertex(found)
    assert metadata["problem"] == ""
    report, page = read(folders["copy"])
    assert_same(report, local)
    assert report["models"]["in_service"]["parameters"] == 75_290
    assert "It replaces resnet20 (30.0\u00a0%)" in page
    assert report["data"]["consistency"]["test_in_train"] == 3
    (warning,) = report["data"]["warnings"]
    assert warning.startswith("3 of 20 test images stand in the training data as well")
    assert warning in page
    assert_same_page(page, local)


def test_nothing_pushed_is_told_with_its_reason(make, vertex):
    local, found = make(served=True, refused="the server crashed")
    metadata, folders = vertex(found)
    assert metadata["pushed_version"] == ""
    assert metadata["winner"] == "candidate"
    report, page = read(folders["copy"])
    assert_same(report, local)
    assert report["pushed"] is None
    assert report["decision"]["blocked_by"] == ["canary: the server crashed"]
    assert "Nothing was published" in page
    assert "the server crashed" in page


def test_pushed_nought_is_nothing_in_service(make, vertex):
    """The cloud's ModelInService always has an artifact, a Resolver only if there is one."""
    from pipeline.report import build

    local, found = make()
    nothing = build.Artifact(
        node="ModelInService", key="pushed", id=1, type="PushedModel",
        uri=found.artifacts[0].uri, properties={"pushed": 0},
    )  # fmt: skip
    # Parts that only the lineage shows may be missing.
    metadata, folders = vertex(with_artifact(found, nothing), baseline=None)
    assert metadata["problem"] == ""
    assert_same(read(folders["copy"])[0], local)


def test_in_a_bucket_each_file_is_one_upload_and_pages_come_last(
    make, vertex, object_storage
):
    local, found = make(served=True)
    metadata, folders = vertex(found, object_storage.url("output"))
    assert metadata["problem"] == ""
    report, page = read(folders["copy"])
    assert folders["copy"] == object_storage.url("output/report")
    assert_same(report, local)
    assert page.rstrip().endswith("</html>")
    uploads = [
        urllib.parse.unquote(path)
        for method, path in object_storage.requests
        if method == "POST" and path.startswith("/upload/") and "report." in path
    ]
    assert [path.rpartition("report/report.")[2][:4] for path in uploads] == [
        "json", "html", "json", "html",
    ]  # fmt: skip


def test_a_copy_that_cannot_be_written_fails_no_run(make, vertex, object_storage):
    local, found = make()
    object_storage.fail("POST", "output/report/report.json", status=403)
    metadata, folders = vertex(found, object_storage.url("output"))
    assert "PermissionDenied" in metadata["problem"]
    assert metadata["reason"] == local["decision"]["reason"]
    assert_same(read(folders["artifact"])[0], local)


def test_what_is_in_service_is_what_the_ledger_names(
    make, vertex, object_storage, tmp_path
):
    from components.atomic_pusher import ledger
    from components.atomic_pusher.object_storage import publish

    _, found = make()
    moved = {**found.facts.config, "output_root": object_storage.url("output")}
    facts = dataclasses.replace(found.facts, config=moved)
    found = dataclasses.replace(found, facts=facts)
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"\x08\x01")
    folder = ledger.open_folder(object_storage.url("output/serving/cifar"))
    entry = publish(model, folder, ledger.Origin(network="resnet8"))
    _, folders = vertex(found, object_storage.url("output"))
    assert read(folders["copy"])[0]["in_service"] == {
        "version": entry.version,
        "path": f"{folder.uri}/{entry.version}",
        "network": "resnet8",
        "pushed": entry.published,
        "by": "run",
        "rollback_of": None,
    }


def test_a_report_that_cannot_be_made_fails_no_run(make, vertex):
    import tensorflow as tf

    local, found = make()
    metadata, folders = vertex(found, test_evaluation=None)
    assert "the run has no test_evaluation of Evaluator" in metadata["problem"]
    assert metadata["reason"] == local["decision"]["reason"]
    assert metadata["pushed_version"] == "8"
    assert not tf.io.gfile.exists(f"{folders['copy']}/report.json")


def test_a_registered_model_is_shown_under_its_name(make, vertex):
    from pipeline.report import build

    local, found = make()
    known = {
        "registered_model": "projects/p/locations/l/models/5@2",
        "registered_alias": "champion",
        "endpoint": "projects/p/locations/l/endpoints/6",
        "traffic_percent": 10,
    }
    registered = build.Artifact(
        node="VertexPush", key="registered", id=1, type="PushedModel",
        uri=found.artifacts[0].uri, properties=known,
    )  # fmt: skip
    _, folders = vertex(with_artifact(found, registered))
    report, page = read(folders["copy"])
    assert report["pushed"] == local["pushed"] | known
    assert "Answers 10 % of the requests to" in page


def test_what_could_not_be_registered_is_told_and_fails_the_run(make, vertex, request):
    from pipeline.report import build
    from pipeline.vertex.steps.report.executor import NotRegistered

    _, found = make()
    registered = build.Artifact(
        node="VertexPush", key="registered", id=1, type="PushedModel",
        uri=found.artifacts[0].uri,
        properties={"pushed": 1, "registration_problem": "models/cifar: permission denied"},
    )  # fmt: skip
    with pytest.raises(NotRegistered, match="VertexPush: models/cifar: permission"):
        vertex(with_artifact(found, registered))
    # It was written first, and says so.
    report, page = read(f"ram://{request.node.name}/report")
    assert report["pushed"]["registration_problem"] == "models/cifar: permission denied"
    assert "not in Model Registry, or not on the Endpoint: models/cifar" in page


def test_an_experiment_that_refuses_fails_the_run_once_the_report_is_written(
    make, vertex, request, monkeypatch
):
    """What would be recorded is what the report says of each contender."""
    from contract.config.run import RunConfig
    from contract.fields import override
    from pipeline.vertex.steps.report import experiment
    from pipeline.vertex.steps.report.executor import NotRegistered

    # No TLS, no experiment.
    monkeypatch.setenv(
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", "http://127.0.0.1:1"
    )
    config = override(
        RunConfig(), {"vertex.project": "my-project", "vertex.experiment": "cifar"}
    )
    local, found = make()
    with pytest.raises(NotRegistered, match="vertex.experiment=cifar: .* over TLS"):
        vertex(found, experiment=experiment.encode(config))
    report, _ = read(f"ram://{request.node.name}/report")
    recordings = {
        each.params["contender"]: each for each in experiment.recordings(local)
    }
    assert recordings.keys() == {"baseline", "candidate"}
    for name, recording in recordings.items():
        model = report["models"][name]
        assert recording.metrics["eval_error"] == model["eval"]["error"]
        assert recording.metrics["test_error"] == model["test"]["error"]
        assert recording.params["network"] == model["network"]
        assert recording.metrics["won"] == (report["decision"]["winner"] == name)
        history = local["page"]["histories"][name]
        assert recording.curves.keys() == {point["step"] for point in history}
