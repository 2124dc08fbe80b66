"""Which push a run has to beat, from histories as ML Metadata keeps them."""

import os

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
