"""Earlier versions published again for real, and recorded in real metadata stores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.history import published, stores
from pipeline.local.exclusive import FolderInUse, exclusive
from tests.pipeline.history.recorded import tree

PROJECT = Path(__file__).parents[3]


def test_rollback_publishes_a_new_version_and_keeps_the_lineage(pipeline, capsys):
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    before = {
        version: tree(pipeline.serving / str(version)) for version in (first, second)
    }
    assert pipeline.command("rollback", str(first)) == 0
    newest, *rest = stores.read(pipeline.places)
    assert newest.version > second
    assert capsys.readouterr().out == (
        f"version {first} is published again as version {newest.version}, "
        f"{newest.path}\n"
    )
    assert tree(Path(newest.path)) == before[first]
    assert {v: tree(pipeline.serving / str(v)) for v in before} == before
    assert newest.in_service and not any(each.in_service for each in rest)
    assert (newest.by, newest.rollback_of) == ("rollback", first)
    # Verdict, network and data are those of the run that made the model.
    old = rest[-1]
    for name in ("network", "role", "eval_error", "ci95", "reason", "dataset"):
        assert getattr(newest, name) == getattr(old, name), name
    # As TFX and the next run's Resolver see it.
    (artifact,) = [
        each
        for each in pipeline.store.get_artifacts_by_type("PushedModel")
        if each.id == newest.artifact_id
    ]
    assert artifact.state == pipeline.mlmd.Artifact.LIVE
    assert tree(Path(artifact.uri)) == before[first]
    properties = artifact.custom_properties
    assert properties["pushed"].int_value == 1
    assert properties["pushed_version"].string_value == str(newest.version)
    assert properties["rollback_of"].string_value == str(first)
    (original,) = pipeline.store.get_artifacts_by_id([old.artifact_id])
    model_id = original.custom_properties["model_id"].int_value
    assert properties["model_id"].int_value == model_id > 0
    (execution,) = pipeline.store.get_executions_by_type("Rollback")
    assert execution.last_known_state == pipeline.mlmd.Execution.COMPLETE
    events = pipeline.store.get_events_by_execution_ids([execution.id])
    kinds = pipeline.mlmd.Event
    assert {(e.type, e.artifact_id) for e in events} == {
        (kinds.INPUT, old.artifact_id),
        (kinds.OUTPUT, newest.artifact_id),
    }
    assert [c.name for c in pipeline.store.get_contexts_by_execution(execution.id)] == [
        "cifar-resnet",
        "cifar-resnet.Rollback",
    ]


def test_rollback_of_a_rollback(pipeline):
    """Each version says which run's model it is, however often it was rolled back to."""
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    third = stores.rollback(pipeline.places, first)
    fourth = stores.rollback(pipeline.places, second)
    fifth = stores.rollback(pipeline.places, third.version)
    assert (third.rollback_of, fourth.rollback_of, fifth.rollback_of) == (
        first,
        second,
        first,
    )
    assert fifth.network == "resnet8"
    assert fifth.dataset == "digits"
    assert len({each.version for each in stores.read(pipeline.places)}) == 5
    with pytest.raises(published.HistoryError, match=f"as version {fifth.version}"):
        stores.rollback(pipeline.places, first)


def test_rollback_takes_what_is_left(pipeline):
    first, _ = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    content = tree(pipeline.serving / str(first))
    shutil.rmtree(pipeline.root / "artifacts/AtomicPusher/pushed_model/1")
    again = stores.rollback(pipeline.places, first)
    assert tree(Path(again.path)) == content


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
        (lambda folder: (folder / "saved_model.pb").unlink(), "cannot be read"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b""), "is empty"),
        (
            lambda folder: (folder / "saved_model.pb").write_bytes(
                (folder / "saved_model.pb").read_bytes()[:-3]
            ),
            "is damaged",
        ),
        (
            lambda folder: (folder / "variables/variables.index").unlink(),
            "its variables are incomplete",
        ),
    ],
)
def test_what_is_damaged_is_not_published(pipeline, damage, words):
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    damage(pipeline.serving / str(first))
    damage(pipeline.root / "artifacts/AtomicPusher/pushed_model/1")
    with pytest.raises(published.HistoryError, match=words):
        stores.rollback(pipeline.places, first)
    newest = stores.read(pipeline.places)[0]
    assert (newest.version, newest.in_service) == (second, True)
    names = {path.name for path in pipeline.serving.iterdir()}
    assert names - {str(first)} == {str(second), ".publish.lock"}
    assert not list(pipeline.root.glob("artifacts/Rollback/pushed_model/*"))
    (execution,) = pipeline.store.get_executions_by_type("Rollback")
    assert execution.last_known_state == pipeline.mlmd.Execution.FAILED
    # And it can be tried again.
    again = pipeline.run("resnet8")
    assert stores.rollback(pipeline.places, second).version > again


def test_the_version_in_service_is_published_again_only_if_it_is_gone(pipeline):
    version = pipeline.run()
    with pytest.raises(published.HistoryError, match="is in service already"):
        stores.rollback(pipeline.places, version)
    shutil.rmtree(pipeline.serving / str(version))
    assert stores.rollback(pipeline.places, version).version >= version


def test_a_rollback_waits_for_no_run(pipeline):
    version = pipeline.run()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pipeline.local.exclusive import exclusive\n"
            f"with exclusive({str(pipeline.root)!r}):\n"
            "    print('held', flush=True); sys.stdin.read()",
        ],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse):
            stores.rollback(pipeline.places, version)
        # Looking is possible meanwhile.
        assert len(stores.read(pipeline.places)) == 1
    finally:
        holder.communicate()
    with exclusive(str(pipeline.root)):
        pass


def test_a_copy_of_an_output_folder_stands_alone(pipeline, tmp_path, capsys):
    old, _ = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    copy = tmp_path / "copy"
    shutil.copytree(pipeline.root, copy)
    before = tree(pipeline.root)
    where = published.places([f"output_root={copy}"], "/")
    new = stores.rollback(where, old)
    assert new.path == f"{copy}/serving/cifar/{new.version}"
    assert tree(Path(new.path)) == tree(copy / f"serving/cifar/{old}")
    assert {Path(each.path).parents[2] for each in stores.read(where)} == {copy}
    assert tree(pipeline.root) == before
