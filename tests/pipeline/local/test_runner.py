"""The local runner's own additions: sweeping what is left or gone."""

import os

import pytest

pytestmark = pytest.mark.tf


@pytest.fixture
def store(tmp_path):
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "metadata.sqlite")
    config.sqlite.connection_mode = 3
    return metadata_store.MetadataStore(config)


def executions(store, states):
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    kind = store.put_execution_type(mlmd.ExecutionType(name="Node"))
    return store.put_executions(
        [mlmd.Execution(type_id=kind, last_known_state=state) for state in states]
    )


def test_what_a_killed_run_left_is_swept_and_nothing_else(store, tmp_path):
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from pipeline.local.runner import _sweep_interrupted

    done, left, failed = executions(
        store,
        [mlmd.Execution.COMPLETE, mlmd.Execution.RUNNING, mlmd.Execution.FAILED],
    )
    root = tmp_path / "artifacts"
    for number in (done, left, failed):
        (root / f"Node/examples/{number}/Split-train").mkdir(parents=True)
        (root / f"Node/.system/executor_execution/{number}").mkdir(parents=True)
    _sweep_interrupted(store, str(root))
    kept = {str(done), str(failed)}
    assert {p.name for p in (root / "Node/examples").iterdir()} == kept
    assert {
        p.name for p in (root / "Node/.system/executor_execution").iterdir()
    } == kept
    states = {e.id: e.last_known_state for e in store.get_executions()}
    assert states == {
        done: mlmd.Execution.COMPLETE,
        left: mlmd.Execution.CANCELED,
        failed: mlmd.Execution.FAILED,
    }


class Display:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def start(self, name):
        self.told.append(name)

    def end(self, state, note=""):
        self.told.append((state, note))


# TFX's way to read messages, at which protobuf points from where TFX is called.
@pytest.mark.filterwarnings("ignore:label\\(\\) is deprecated:DeprecationWarning")
def test_a_stop_while_beam_runs_is_a_stop_and_no_failure(tmp_path):
    """Beam makes an error of whatever is raised in a step, of SystemExit as well."""
    from pipeline.local.runner import ComponentFailed, LocalRunner
    from tests.pipeline.local.small_flow import flow

    display = Display()
    with pytest.raises(SystemExit) as stop:
        LocalRunner(display).run(flow(str(tmp_path), "stopped"))
    assert stop.value.code == 128 + 15
    assert display.told == ["Make", ("failed", "stopped")]
    assert not os.listdir(tmp_path / "artifacts/Make/made")
    display = Display()
    with pytest.raises(ComponentFailed, match="Make: ValueError: a wrong text"):
        LocalRunner(display).run(flow(str(tmp_path), "wrong"))
    assert display.told == ["Make", ("failed", "")]
    LocalRunner(display).run(flow(str(tmp_path), "right"))
    assert display.told[2:] == [
        "Make",
        ("done", ""),
        "Copy",
        ("done", ""),
        "Second",
        ("done", ""),
    ]


def test_a_push_whose_version_is_gone_is_forgotten(store, tmp_path):
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from pipeline.local.runner import no_longer_valid

    assert no_longer_valid(store) == []  # before the first push there is no such type
    kind = store.put_artifact_type(mlmd.ArtifactType(name="PushedModel"))
    for name in ("there", "gone"):
        artifact = mlmd.Artifact(type_id=kind, uri=str(tmp_path / f"{name}-artifact"))
        os.mkdir(artifact.uri)
        pushed = tmp_path / f"{name}-version"
        artifact.custom_properties["pushed_destination"].string_value = str(pushed)
        store.put_artifacts([artifact])
    os.mkdir(tmp_path / "there-version")
    ((artifact, reason),) = no_longer_valid(store)
    assert artifact.uri == str(tmp_path / "gone-artifact")
    assert reason == f"{tmp_path}/gone-version is gone"


def test_predictions_that_are_gone_are_forgotten(store, tmp_path):
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from pipeline.local.runner import no_longer_valid

    kind = store.put_artifact_type(mlmd.ArtifactType(name="components.BatchPrediction"))
    for name in ("there", "gone", ""):  # "": nothing was pushed
        artifact = mlmd.Artifact(type_id=kind, uri=str(tmp_path / f"{name}-artifact"))
        output = str(tmp_path / name) if name else ""
        artifact.custom_properties["output"].string_value = output
        store.put_artifacts([artifact])
    (tmp_path / "there").touch()
    ((artifact, reason),) = no_longer_valid(store)
    assert artifact.uri == str(tmp_path / "gone-artifact")
    assert reason == f"{tmp_path}/gone is gone"


def test_examples_of_which_a_file_is_gone_are_forgotten(store, tmp_path):
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from pipeline.local.runner import no_longer_valid

    assert no_longer_valid(store) == []  # before the first ingestion
    kind = mlmd.ArtifactType(name="Examples")
    kind.properties["split_names"] = mlmd.STRING
    kind = store.put_artifact_type(kind)
    damages = {
        "whole": lambda _: None,
        "shard": lambda folder: (
            folder / "Split-eval/data_tfrecord-00002-of-00003.gz"
        ).unlink(),
        "split": lambda folder: [f.unlink() for f in (folder / "Split-test").iterdir()],
    }
    for name, damage in damages.items():
        for split in ("train", "eval", "test"):
            folder = tmp_path / name / f"Split-{split}"
            folder.mkdir(parents=True)
            for shard in range(3):
                suffix = f"{shard:05d}-of-00003.gz"
                (folder / f"data_tfrecord-{suffix}").write_bytes(b"")
        artifact = mlmd.Artifact(type_id=kind, uri=str(tmp_path / name))
        artifact.properties["split_names"].string_value = '["train", "eval", "test"]'
        store.put_artifacts([artifact])
        damage(tmp_path / name)
    assert {artifact.uri: reason for artifact, reason in no_longer_valid(store)} == {
        str(tmp_path / name): f"files are gone from {tmp_path / name}/Split-{split}"
        for name, split in {"shard": "eval", "split": "test"}.items()
    }
