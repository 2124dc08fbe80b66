"""Published versions from real metadata stores, and real publishing of earlier ones.

The stores are built as a pipeline's are: executions with events, artifacts with TFX's
custom properties, decision.json on disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.atomic_pusher.publish import publish
from pipeline import cli
from pipeline.history import metadata as history
from pipeline.local.exclusive import FolderInUse, exclusive

PROJECT = Path(__file__).parents[3]


class Pipeline:
    """Writes what a run leaves in ML Metadata."""

    def __init__(self, root: Path):
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        self.root, self.mlmd = root, mlmd
        root.mkdir(parents=True, exist_ok=True)
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(root / "metadata.sqlite")
        config.sqlite.connection_mode = 3
        self.store = metadata_store.MetadataStore(config)
        self.runs = 0
        self.decision_type = "components.Decision"
        self.serving = root / "serving/cifar"

    def artifact(self, kind: str, uri: Path, **properties: str | int) -> Any:
        type_id = self.store.put_artifact_type(
            self.mlmd.ArtifactType(name=kind), can_add_fields=True
        )
        made = self.mlmd.Artifact(
            type_id=type_id, uri=str(uri), state=self.mlmd.Artifact.LIVE
        )
        for name, value in properties.items():
            field = "int_value" if isinstance(value, int) else "string_value"
            setattr(made.custom_properties[name], field, value)
        (made.id,) = self.store.put_artifacts([made])
        return made

    def execute(self, node: str, run: Any, inputs: dict, outputs: dict) -> None:
        mlmd, store = self.mlmd, self.store
        execution = mlmd.Execution(
            type_id=store.put_execution_type(mlmd.ExecutionType(name=f"c.{node}")),
            last_known_state=mlmd.Execution.COMPLETE,
        )
        execution.custom_properties["parameter"].string_value = node.lower()

        def event(kind: Any, key: str) -> Any:
            made = mlmd.Event(type=kind)
            made.path.steps.add().key = key
            return made

        pairs = [(a, event(mlmd.Event.INPUT, key)) for key, a in inputs.items()]
        pairs += [(a, event(mlmd.Event.OUTPUT, key)) for key, a in outputs.items()]
        store.put_execution(
            execution,
            pairs,
            [run, self.context("node", f"cifar-resnet.{node}")],
            reuse_context_if_already_exist=True,
        )

    def context(self, kind: str, name: str) -> Any:
        type_id = self.store.put_context_type(self.mlmd.ContextType(name=kind))
        found = self.store.get_context_by_type_and_name(kind, name)
        return found or self.mlmd.Context(type_id=type_id, name=name)

    def run(self, network: str = "resnet8", *, own_properties: bool = True) -> int:
        """One run with a push; returns the version.

        Args:
            network: Of the winner, the candidate.
            own_properties: Whether the AtomicPusher already records network, role and id,
                and decision.json has its present form.
        """
        self.runs += 1

        def folder(node: str, key: str) -> Path:
            return self.root / f"artifacts/{node}/{key}/{self.runs}"

        run = self.context("pipeline_run", f"run-{self.runs}")
        facts = {"config": {"preset": network}, "commit": "abc"}
        run.custom_properties["run_facts"].string_value = json.dumps(facts)
        examples = self.artifact(
            "Examples", folder("CifarExampleGen", "examples"), name="digits"
        )
        model = self.artifact("Model", folder("CandidateTrainer", "model"))
        in_service = [
            a for a in self.store.get_artifacts_by_type("PushedModel")
        ] if self.runs > 1 else []  # fmt: skip
        write_model(folder("ModelChooser", "model"), network)
        chosen = self.artifact(
            "Model", folder("ModelChooser", "model"), network=network
        )
        folder("ModelChooser", "decision").mkdir(parents=True)
        measured = {"error": 0.0625, "ci95": [0.05, 0.08]}
        decision: dict[str, Any] = {"winner": "candidate"}
        if own_properties:
            entry = {"network": network, **measured}
            decision["comparison"] = {"models": {"candidate": entry}}
        else:
            entry = {"network": network, "eval": measured}
            decision["models"] = {"candidate": entry}
        (folder("ModelChooser", "decision") / "decision.json").write_text(
            json.dumps(decision)
        )
        verdict = self.artifact(
            self.decision_type,
            folder("ModelChooser", "decision"),
            reason=f"{network} is better",
        )
        blessing = self.artifact(
            "ModelBlessing",
            folder("ModelChooser", "blessing"),
            current_model_id=model.id,
        )
        version = publish(folder("ModelChooser", "model"), self.serving)
        shutil.copytree(
            folder("ModelChooser", "model"), folder("AtomicPusher", "pushed_model")
        )
        own = {"network": network, "role": "candidate", "model_id": model.id}
        pushed = self.artifact(
            "PushedModel",
            folder("AtomicPusher", "pushed_model"),
            pushed=1,
            pushed_destination=str(self.serving / str(version)),
            pushed_version=str(version),
            **(own if own_properties else {}),
        )
        self.execute("CifarExampleGen", run, {}, {"examples": examples})
        self.execute("CandidateTrainer", run, {"examples": examples}, {"model": model})
        evaluation = self.artifact("ModelEvaluation", folder("Evaluator", "evaluation"))
        chooser_inputs = {"candidate": model, "evaluation": evaluation}
        if in_service:
            chooser_inputs["in_service"] = in_service[-1]
        self.execute(
            "ModelChooser",
            run,
            chooser_inputs,
            {"model": chosen, "decision": verdict, "blessing": blessing},
        )
        self.execute(
            "AtomicPusher",
            run,
            {"model": chosen, "model_blessing": blessing},
            {"pushed_model": pushed},
        )
        return version


def write_model(folder: Path, content: str) -> None:
    (folder / "variables").mkdir(parents=True)
    # A SavedModel message: field 1 (saved_model_schema_version), field 2 with bytes.
    body = content.encode()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12" + bytes([len(body)]) + body)
    (folder / "variables/variables.index").write_bytes(b"index")
    (folder / "variables/variables.data-00000-of-00001").write_bytes(os.urandom(5000))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path / "output")


def places(pipeline: Pipeline) -> history.Places:
    return history.places([f"output_root={pipeline.root}"], "/")


def command(pipeline: Pipeline, *arguments: str) -> int:
    where = ["--runtime_parameter", f"output_root={pipeline.root}"]
    return cli.main(["models", *arguments, *where], {})


@pytest.mark.parametrize("own_properties", [True, False])
def test_what_was_published_and_why(pipeline, own_properties):
    """Also of the first pushes: fewer properties, an older form of decision.json."""
    first = pipeline.run("resnet8", own_properties=own_properties)
    second = pipeline.run("preact_resnet8", own_properties=own_properties)
    found = history.read(places(pipeline))
    assert [each.version for each in found] == [second, first]
    assert [each.in_service for each in found] == [True, False]
    newest = found[0]
    assert newest.path == str(pipeline.serving / str(second))
    assert newest.exists
    assert (newest.by, newest.rollback_of) == ("run", None)
    assert (newest.network, newest.role) == ("preact_resnet8", "candidate")
    assert newest.eval_error == 0.0625
    assert newest.ci95 == (0.05, 0.08)
    assert newest.reason == "preact_resnet8 is better"
    assert newest.dataset == "digits"
    assert newest.run == "run-2"


def test_the_list_for_people(pipeline, capsys):
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    shutil.rmtree(pipeline.serving / str(first))
    assert command(pipeline, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[1].startswith(f"{second} ")
    for words in ("candidate", "6.25 %", "5.0 to 8.0 %", "digits", "there, in service"):
        assert words in lines[1]
    assert lines[2] == "    preact_resnet8 is better"
    assert lines[3].startswith(f"{first} ")
    assert lines[3].endswith("missing")
    assert lines[4] == "    resnet8 is better"


def test_the_list_for_programs(pipeline, capsys):
    pipeline.run()
    assert command(pipeline, "list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = [dataclasses.asdict(each) for each in history.read(places(pipeline))]
    assert found == json.loads(json.dumps(expected))


def test_what_is_gone_from_disk_leaves_dashes(pipeline, capsys):
    pipeline.run()
    shutil.rmtree(pipeline.root / "artifacts")
    assert command(pipeline, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "–" in lines[1]
    assert lines[2] == "    resnet8 is better"  # this is in the metadata itself


def test_a_run_that_pushed_nothing_is_no_version(pipeline, capsys):
    pipeline.artifact("PushedModel", pipeline.root / "x", pushed=0)
    assert history.read(places(pipeline)) == []
    assert command(pipeline, "list") == 0
    assert capsys.readouterr().out == "nothing was published yet\n"


def test_rollback_publishes_a_new_version_and_keeps_the_lineage(pipeline, capsys):
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    before = {
        version: tree(pipeline.serving / str(version)) for version in (first, second)
    }
    assert command(pipeline, "rollback", str(first)) == 0
    newest, *rest = history.read(places(pipeline))
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
    third = history.rollback(places(pipeline), first)
    fourth = history.rollback(places(pipeline), second)
    fifth = history.rollback(places(pipeline), third.version)
    assert (third.rollback_of, fourth.rollback_of, fifth.rollback_of) == (
        first,
        second,
        first,
    )
    assert fifth.network == "resnet8"
    assert fifth.dataset == "digits"
    assert len({each.version for each in history.read(places(pipeline))}) == 5
    with pytest.raises(history.HistoryError, match=f"as version {fifth.version}"):
        history.rollback(places(pipeline), first)


def test_rollback_takes_what_is_left(pipeline):
    first, _ = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    content = tree(pipeline.serving / str(first))
    shutil.rmtree(pipeline.root / "artifacts/AtomicPusher/pushed_model/1")
    again = history.rollback(places(pipeline), first)
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
    with pytest.raises(history.HistoryError, match=words):
        history.rollback(places(pipeline), first)
    newest = history.read(places(pipeline))[0]
    assert (newest.version, newest.in_service) == (second, True)
    names = {path.name for path in pipeline.serving.iterdir()}
    assert names - {str(first)} == {str(second), ".publish.lock"}
    assert not list(pipeline.root.glob("artifacts/Rollback/pushed_model/*"))
    (execution,) = pipeline.store.get_executions_by_type("Rollback")
    assert execution.last_known_state == pipeline.mlmd.Execution.FAILED
    # And it can be tried again.
    again = pipeline.run("resnet8")
    assert history.rollback(places(pipeline), second).version > again


def test_the_version_in_service_is_published_again_only_if_it_is_gone(pipeline):
    version = pipeline.run()
    with pytest.raises(history.HistoryError, match="is in service already"):
        history.rollback(places(pipeline), version)
    shutil.rmtree(pipeline.serving / str(version))
    assert history.rollback(places(pipeline), version).version >= version


def test_what_is_gone_is_not_in_service(pipeline):
    """As for the next run's Resolver: the newest version whose folder is still there."""
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    shutil.rmtree(pipeline.serving / str(second))
    found = history.read(places(pipeline))
    assert [each.in_service for each in found] == [False, True]
    with pytest.raises(history.HistoryError, match="is in service already"):
        history.rollback(places(pipeline), first)
    third = history.rollback(places(pipeline), second)
    assert third.in_service and third.rollback_of == second


def test_verdicts_of_earlier_pipelines_are_found(pipeline):
    """The type of the verdict was once called Decision."""
    pipeline.decision_type = "Decision"
    pipeline.run("resnet8")
    assert history.read(places(pipeline))[0].reason == "resnet8 is better"


@pytest.mark.parametrize(
    "content",
    [
        "[" * 500_000,
        "[]",
        '{"comparison": []}',
        '{"comparison": {"models": [1]}}',
        '{"comparison": {"models": {"candidate": {"error": "x", "ci95": 5}}}}',
        '{"comparison": {"models": {"candidate": {"eval": {"ci95": [null, "a"]}}}}}',
        '{"comparison": {"models": {"candidate": {"error": NaN, "ci95": [1]}}}}',
        '{"winner": ["candidate"], "models": {"candidate": {"network": {}}}}',
        " " * (17 << 20) + "{}",
    ],
)
def test_a_verdict_of_another_form_leaves_dashes(pipeline, capsys, content):
    pipeline.run()
    (file,) = pipeline.root.glob("artifacts/ModelChooser/decision/*/decision.json")
    file.write_text(content)
    assert command(pipeline, "list") == 0
    assert " –  " in capsys.readouterr().out.splitlines()[1]


def test_a_list_moves_no_cursor(pipeline, capsys):
    pipeline.run("\x1b[2J\x1b]0;title\x07\nresnet8")
    assert command(pipeline, "list") == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


def test_errors_are_one_line(pipeline, capsys, tmp_path):
    version = pipeline.run()
    for action in ("rollback", "show"):
        assert command(pipeline, action, "12345") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"version 12345 was never published from output_root={pipeline.root}; "
        assert f"known: {version}" in error
    for action in (["list"], ["show", "1"], ["rollback", "1"]):
        where = ["--runtime_parameter", f"output_root={tmp_path}/nowhere"]
        assert cli.main(["models", *action, *where], {}) == 2
        assert "no metadata is there" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()  # looking makes no folder
    (tmp_path / "metadata.sqlite").write_bytes(b"this is no database")
    where = ["--runtime_parameter", f"output_root={tmp_path}"]
    assert cli.main(["models", "list", *where], {}) == 2
    assert "cannot be read" in capsys.readouterr().err


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
            history.rollback(places(pipeline), version)
        # Looking is possible meanwhile.
        assert len(history.read(places(pipeline))) == 1
    finally:
        holder.communicate()
    with exclusive(str(pipeline.root)):
        pass


def test_the_lineage_of_a_version(pipeline, capsys):
    pipeline.run("resnet8")
    second = pipeline.run("preact_resnet8")
    assert command(pipeline, "show", str(second)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"] == {"preset": "preact_resnet8"}
    assert found["commit"] == "abc"
    assert [each["node"] for each in found["executions"]] == [
        "CifarExampleGen",
        "CandidateTrainer",
        "ModelChooser",
        "AtomicPusher",
    ]
    assert found["executions"][-1]["outputs"] == {
        "pushed_model": [found["artifact_id"]]
    }
    assert found["executions"][0]["parameters"] == {"parameter": "cifarexamplegen"}
    kinds = [each["type"] for each in found["artifacts"]]
    # Two pushes: its own, and the one it was compared with; that one's run is not told.
    assert sorted(kinds) == sorted(
        ["Examples", "Model", "Model", "components.Decision", "ModelBlessing"]
        + ["ModelEvaluation"]
        + ["PushedModel"] * 2
    )


def test_the_lineage_of_a_rollback_goes_back_to_the_training(pipeline):
    first, _ = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    third = history.rollback(places(pipeline), first)
    found = history.lineage(places(pipeline), third.version)
    assert [each["node"] for each in found["executions"]] == [
        "CifarExampleGen",
        "CandidateTrainer",
        "ModelChooser",
        "AtomicPusher",
        "Rollback",
    ]
    assert found["config"] == {"preset": "resnet8"}


def test_versions_in_several_folders_are_listed_with_them():
    def version(number: int, folder: str) -> history.Published:
        fields = dict.fromkeys(
            item.name for item in dataclasses.fields(history.Published)
        )
        known = {"version": number, "path": f"{folder}/{number}", "exists": True}
        known |= {"pushed": "2026-11-29T10:37", "in_service": True, "by": "run"}
        return history.Published(**fields | known)

    first, second = version(1, "/a/cifar"), version(2, "/b/mine")
    assert "/a/cifar" not in history.as_text([first])
    lines = history.as_text([second, first]).splitlines()
    assert lines[1].endswith("there, in service, /b/mine")
    assert lines[2].endswith("there, in service, /a/cifar")


def test_folders_are_those_of_a_run(tmp_path):
    from pipeline.local import rules as local_rules
    from pipeline.resolve import resolve

    for assignments in (
        ["data.name=digits"],
        ["data.name=digits", "output_root=here", "serving.model_name=mine"],
        ["data.name=digits", f"serving.base_directory={tmp_path}/models"],
    ):
        config = resolve(assignments, {}, str(tmp_path), local_rules).config
        found = history.places(assignments, str(tmp_path))
        assert found.output_root == config.output_root
        assert found.destination == f"{config.serving_root}/{config.serving.model_name}"
        assert found.pipeline_name == config.pipeline_name


@pytest.mark.parametrize(
    "arguments", [["models", "--help"], ["models", "rollback", "x"], ["models", "list"]]
)
def test_nothing_heavy_is_loaded(arguments, tmp_path):
    code = (
        "import sys; from pipeline import cli\n"
        "try: cli.main(sys.argv[1:], {})\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'tfx', 'keras', 'apache_beam', 'ml_metadata'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    where = ["--runtime_parameter", f"output_root={tmp_path}/nowhere"]
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            *arguments,
            *(where if "list" in arguments else []),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "loaded []"


def test_a_copy_of_an_output_folder_stands_alone(pipeline, tmp_path, capsys):
    old, _ = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    copy = tmp_path / "copy"
    shutil.copytree(pipeline.root, copy)
    before = tree(pipeline.root)
    where = history.places([f"output_root={copy}"], "/")
    new = history.rollback(where, old)
    assert new.path == f"{copy}/serving/cifar/{new.version}"
    assert tree(Path(new.path)) == tree(copy / f"serving/cifar/{old}")
    assert {Path(each.path).parents[2] for each in history.read(where)} == {copy}
    assert tree(pipeline.root) == before


def test_a_version_that_was_found_has_no_run(pipeline):
    path = pipeline.serving / "5"
    write_model(path, "resnet20")
    pipeline.artifact(
        "PushedModel",
        path,
        pushed=1,
        pushed_destination=str(path),
        pushed_version="5",
        network="resnet20",
    )
    (found,) = history.read(places(pipeline))
    assert (found.by, found.run, found.in_service) == ("found", None, True)
    assert "found" in history.as_text([found])
