"""Which push a run has to beat, from histories as ML Metadata keeps them."""

import json
import os
import shutil

import pytest

pytestmark = pytest.mark.tf


@pytest.fixture
def store(tmp_path):
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "metadata.sqlite")
    return metadata_store.MetadataStore(config)


def push(store, version: int, model: int, *, folder, pushed=1, of="") -> int:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    kind = store.put_artifact_type(
        mlmd.ArtifactType(name="PushedModel"), can_add_fields=True
    )
    artifact = mlmd.Artifact(type_id=kind, uri=f"/a/{version}")
    properties = artifact.custom_properties
    properties["pushed"].int_value = pushed
    if pushed:
        os.makedirs(f"{folder}/{version}")
        properties["pushed_destination"].string_value = f"{folder}/{version}"
        properties["pushed_version"].string_value = str(version)
        properties["model_id"].int_value = model
    if of:
        properties["rollback_of"].string_value = of
    return store.put_artifacts([artifact])[0]


@pytest.mark.parametrize(
    ("history", "own", "expected"),
    [
        ([], [1, 2], None),
        ([(1, 10)], [11, 12], 1),
        ([(1, 10), (2, 20)], [11, 12], 2),
        ([(1, 10)], [10, 11], None),  # the first run, repeated
        ([(1, 10), (2, 20)], [20, 21], 1),  # the second run, repeated
        ([(1, 10), (2, 20)], [10, 11], 2),  # the first run again, after another won
        ([(1, 10), (2, 20), (3, 10, "1")], [20, 21], 3),  # after a rollback
        (
            [(1, 10), (2, 20), (3, 10, "1")],
            [10, 11],
            None,
        ),  # and what it rolled back to
    ],
)
def test_the_newest_push_that_is_not_this_runs_own(
    store, tmp_path, history, own, expected
):
    from components.model_in_service import strategy

    folder = tmp_path / "cifar"
    for version, model, *of in history:
        push(store, version, model, folder=folder, of=of[0] if of else "")
    push(store, 97, 1, folder=folder)
    (folder / "97").rmdir()  # somebody deleted it: it does not serve
    push(store, 98, 1, folder=folder, pushed=0)
    push(store, 99, 1, folder=tmp_path / "other")
    found = strategy.in_service(strategy.pushes(store, str(folder)), own)
    version = found and int(found.custom_properties["pushed_version"].string_value)
    assert version == expected
    if found:  # ML Metadata aborts on a property without a value, stored again
        values = found.custom_properties.values()
        assert all(value.WhichOneof("value") for value in values)
        store.put_artifacts([found])


def test_the_resolver_gives_tfx_artifacts(store, tmp_path):
    from tfx.types import standard_artifacts

    from components.model_in_service.strategy import InServiceStrategy

    identity = push(store, 7, 70, folder=tmp_path)
    models = []
    for number in (1, 2):
        models.append(standard_artifacts.Model())
        models[-1].id = number
    strategy = InServiceStrategy(str(tmp_path))
    found = strategy.resolve_artifacts(
        store, {"pushed": [], "baseline": models[:1], "candidate": models[1:]}
    )
    (artifact,) = found["pushed"]
    assert artifact.id == identity
    assert artifact.get_string_custom_property("pushed_version") == "7"
    assert found["baseline"] == models[:1]
    empty = InServiceStrategy("/nowhere").resolve_artifacts(
        store, {"pushed": [artifact]}
    )
    assert empty == {"pushed": []}


def write_version(folder, version: int, run) -> None:
    extra = folder / str(version) / "assets.extra"
    extra.mkdir(parents=True)
    (folder / str(version) / "saved_model.pb").write_bytes(b"")
    if run is not None:
        (extra / "run.json").write_text(run)


def test_a_version_that_no_recorded_run_published_says_itself_what_it_is(
    store, tmp_path, caplog
):
    """Metadata were lost, or another output folder publishes to the same place."""
    from components.model_in_service.strategy import InServiceStrategy

    folder = tmp_path / "cifar"
    write_version(folder, 5, json.dumps({"network": "resnet20"}))
    (folder / "99").mkdir()  # without a model: TensorFlow Serving cannot serve it
    strategy = InServiceStrategy(str(folder))
    with caplog.at_level("INFO", "pipeline.progress"):
        (first,) = strategy.resolve_artifacts(store, {"pushed": []})["pushed"]
    assert first.uri == f"{folder}/5"
    assert first.get_string_custom_property("network") == "resnet20"
    assert first.get_string_custom_property("pushed_destination") == f"{folder}/5"
    sentence = first.get_string_custom_property("found")
    assert f"{folder}/5 was published by no run that is recorded here" in sentence
    assert [record.getMessage() for record in caplog.records] == [
        f"in service: {sentence}"
    ]
    # The next run finds the same artifact, so that its cache holds.
    (again,) = strategy.resolve_artifacts(store, {"pushed": []})["pushed"]
    assert again.id == first.id
    # What is published later, by whomever, is in service then.
    push(store, 6, 60, folder=folder)
    assert find(strategy, store) == "6"
    write_version(folder, 8, json.dumps({"network": "resnet56"}))
    assert find(strategy, store) == "8"


@pytest.mark.parametrize("edited", [False, True])
def test_a_push_that_was_killed_before_it_was_recorded_is_this_runs_own(
    store, tmp_path, edited
):
    from tfx.types import standard_artifacts

    from components.model_in_service.strategy import InServiceStrategy

    folder, exported = tmp_path / "cifar", tmp_path / "model" / "Format-Serving"
    push(store, 4, 40, folder=folder)
    write_version(folder, 5, json.dumps({"network": "resnet20"}))
    shutil.copytree(folder / "5", exported)
    if edited:
        (exported / "saved_model.pb").write_bytes(b"another")
    model = standard_artifacts.Model()
    model.uri, model.id = str(tmp_path / "model"), 50
    found = InServiceStrategy(str(folder)).resolve_artifacts(
        store, {"pushed": [], "candidate": [model]}
    )
    # Compared with is what was in service before, not the very same model.
    (artifact,) = found["pushed"]
    version = artifact.get_string_custom_property("pushed_version")
    assert version == ("5" if edited else "4")


def find(strategy, store) -> str:
    (artifact,) = strategy.resolve_artifacts(store, {"pushed": []})["pushed"]
    return artifact.get_string_custom_property("pushed_version")


@pytest.mark.parametrize("run", [None, "", "[]", "{}", '{"network": 7}'])
def test_a_model_that_does_not_say_what_it_is_is_told(store, tmp_path, caplog, run):
    from components.model_in_service.strategy import InServiceStrategy

    write_version(tmp_path / "cifar", 5, run)
    strategy = InServiceStrategy(str(tmp_path / "cifar"))
    assert strategy.resolve_artifacts(store, {"pushed": []}) == {"pushed": []}
    (record,) = caplog.records
    assert f"{tmp_path}/cifar/5 is served, but no model of this" in record.getMessage()


@pytest.mark.parametrize(
    "run",
    [
        "[" * 500_000,
        '["network"]',
        '{"network": 5}',
        json.dumps({"network": "\x1b[2J\nresnet8"}),
        json.dumps({"network": "x" * 10_000}),
        " " * (2 << 20) + "{}",
    ],
)
def test_what_no_pipeline_would_write_of_a_network_is_not_repeated(tmp_path, run):
    from components.model_in_service import strategy

    write_version(tmp_path, 5, run)
    assert strategy._network(str(tmp_path / "5")) is None
