"""What is removed of a trained row, and when it is trained again for that."""

from pathlib import Path

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from contract.model_run import ModelRun
from contract.provenance import source_digest
from studies import kept

CURRENT = source_digest("components/answers/executor.py")


@pytest.fixture
def store():
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    return metadata_store.MetadataStore(config)


def model(store, folder: Path, *, problem: str | None = None) -> int:
    """Of a finished training: files on the disk, and an artifact."""
    serving = folder / "Format-Serving"
    (serving / "assets.extra").mkdir(parents=True)
    record = ModelRun(network="resnet8", problem=problem)
    (serving / "assets.extra/run.json").write_text(record.to_json())
    if problem is None:
        (serving / "variables").mkdir()
        for name in ("saved_model.pb", "variables/variables.index", "assets.extra/x"):
            (serving / name).write_bytes(b"x" * 100)
    kind = store.put_artifact_type(mlmd.ArtifactType(name="Model"))
    (number,) = store.put_artifacts([mlmd.Artifact(type_id=kind, uri=str(folder))])
    return number


def answers(store, asked: int, folder: Path, source: str = CURRENT, state="COMPLETE"):
    """Of a model, by a code."""
    folder.mkdir()
    kind = store.put_artifact_type(mlmd.ArtifactType(name="components.Answers"))
    step = store.put_execution_type(mlmd.ExecutionType(name="Answers"))
    execution = mlmd.Execution(
        type_id=step, last_known_state=mlmd.Execution.State.Value(state)
    )
    execution.custom_properties["source"].string_value = source
    (number,) = store.put_executions([execution])
    (given,) = store.put_artifacts([mlmd.Artifact(type_id=kind, uri=str(folder))])
    store.put_events(
        [
            mlmd.Event(execution_id=number, artifact_id=asked, type=mlmd.Event.INPUT),
            mlmd.Event(execution_id=number, artifact_id=given, type=mlmd.Event.OUTPUT),
        ]
    )


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


RECORD = "Format-Serving/assets.extra/run.json"


def test_a_model_whose_answers_are_there_goes_but_for_its_record(store, tmp_path):
    answers(store, model(store, tmp_path / "1"), tmp_path / "2")
    assert kept.prune(store) == (1, 300)
    assert files(tmp_path / "1") == {RECORD}
    assert not (tmp_path / "1/Format-Serving/variables").exists()
    assert kept.prune(store) == (0, 0)
    # Its answers are of this code: nothing is trained again.
    assert kept.forget_unanswered(store) == []
    assert files(tmp_path / "1") == {RECORD}


def test_a_model_stays_until_its_answers_are_whole(store, tmp_path):
    number = model(store, tmp_path / "1")
    assert kept.prune(store) == (0, 0)
    answers(store, number, tmp_path / "2", state="RUNNING")
    assert kept.prune(store) == (0, 0)
    answers(store, number, tmp_path / "3")
    (tmp_path / "3").rmdir()
    assert kept.prune(store) == (0, 0)
    assert len(files(tmp_path / "1")) == 4


def test_a_model_that_would_be_asked_again_is_forgotten_as_a_whole(store, tmp_path):
    answers(store, model(store, tmp_path / "1"), tmp_path / "2", source="other code")
    # With its files it can be asked.
    assert kept.forget_unanswered(store) == []
    kept.prune(store)
    assert kept.forget_unanswered(store) == [str(tmp_path / "1")]
    assert not (tmp_path / "1").exists()


def test_a_training_that_diverged_never_had_a_model_to_ask(store, tmp_path):
    model(store, tmp_path / "1", problem="the loss is nan")
    assert kept.forget_unanswered(store) == []
    assert files(tmp_path / "1") == {RECORD}


def test_an_empty_store_has_nothing_to_remove(store):
    assert kept.prune(store) == (0, 0)
    assert kept.forget_unanswered(store) == []
