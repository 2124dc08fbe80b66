"""What runs leave in an output folder: ML Metadata and published models, made in a second.

The stores are built as a pipeline's are: executions with events, artifacts with TFX's
custom properties, decision.json on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.atomic_pusher.publish import publish
from contract.run_facts import RunFacts
from pipeline import cli
from pipeline.history import published
from tests.contract.comparisons import earlier


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

    @property
    def places(self) -> published.Places:
        """As a command with this output_root takes it."""
        return published.places([f"output_root={self.root}"], "/")

    def command(self, *arguments: str) -> int:
        """`pipeline.py models ...`; returns the exit status."""
        where = ["--runtime_parameter", f"output_root={self.root}"]
        return cli.main(["models", *arguments, *where], {})

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
        facts = RunFacts(
            config={"preset": network},
            data_reason="a test",
            started=1.7e9,
            commit="abc",
            versions={},
            platform="any",
        )
        run.custom_properties["run_facts"].string_value = facts.to_json()
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
        (folder("ModelChooser", "decision") / "decision.json").write_text(
            decision(network) if own_properties else first_decision(network)
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
        # Models were inputs by the contenders' names once; they are numbered now.
        key = "model_001" if own_properties else "candidate"
        chooser_inputs = {key: model, "evaluation": evaluation}
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


def decision(network: str) -> str:
    """decision.json after the candidate made 6.25 % errors."""
    found = earlier("decision.json")
    models = dict(found.comparison.models)
    measured = replace(models["candidate"].measured, error=0.0625, ci95=(0.05, 0.08))
    models["candidate"] = replace(
        models["candidate"], network=network, measured=measured
    )
    comparison = replace(found.comparison, models=models)
    return replace(found, comparison=comparison).to_json()


def first_decision(network: str) -> str:
    """The same as the first ModelChooser wrote it; its baseline could not be measured."""
    counted = {"error": 0.0625, "ci95": [0.05, 0.08], "examples": 160, "errors": 10}
    unknown = {"error": None, "ci95": None, "examples": 0, "errors": None}
    rest = {"cross_entropy": None, "per_class": {}}
    return json.dumps(
        {
            "policy": "best",
            "winner": "candidate",
            "reason": f"{network} is better",
            "blocked_by": [],
            "models": {
                "baseline": {"network": "resnet8", "eval": unknown, **rest},
                "candidate": {"network": network, "eval": counted, **rest},
            },
            "difference": None,
        }
    )


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


def version(number: int, folder: str, **known: Any) -> published.Published:
    """A version that is in service, and of which little else is known."""
    fields: dict[str, Any] = dict.fromkeys(published.Published.__dataclass_fields__)
    fields |= {"version": number, "path": f"{folder}/{number}", "exists": True}
    fields |= {"pushed": "2026-11-29T10:37", "in_service": True, "by": "run"}
    return published.Published(**fields | known)
