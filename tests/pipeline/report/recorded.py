"""What a run leaves behind, made in a second: artifacts on disk and ML Metadata of them.

Nothing is trained, but every file has the content that its component gives it, by the
components' own code where that is plain Python.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluator import measures
from components.example_validator import consistency
from components.model_chooser import choice
from contract import features
from contract.canary import CanaryResult
from contract.config.run import RunConfig
from contract.datasets import Dataset, Shape, known
from contract.fields import from_json, override
from contract.predictions import Predictions
from contract.records import DATASET_FILE
from pipeline.report import collect, facts

COUNTS = {"train": 60, "eval": 40, "test": 20}
CLASSES = known("digits").class_names
CANARY = CanaryResult(
    passed=True, reasons=(), server="embedded", load_seconds=0.5,
    p50_ms=1.0, p99_ms=2.0, requests=50, max_abs_difference=1e-7,
)  # fmt: skip


class Store:
    """ML Metadata of one run, as TFX writes it."""

    def __init__(self, database: Path, run_id: str):
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(database)
        config.sqlite.connection_mode = 3
        self.store, self.mlmd = metadata_store.MetadataStore(config), mlmd
        self.run = self._context("pipeline_run", run_id)

    def execute(self, node: str, *outputs: tuple[str, str, Path, dict]) -> None:
        """Records a node; an output is key, type, folder and custom properties."""
        mlmd, store = self.mlmd, self.store
        execution = mlmd.Execution(
            type_id=store.put_execution_type(mlmd.ExecutionType(name=f"c.{node}")),
            last_known_state=mlmd.Execution.COMPLETE,
        )
        pairs = []
        for key, kind, uri, properties in outputs:
            type_id = store.put_artifact_type(
                mlmd.ArtifactType(name=kind), can_add_fields=True
            )
            artifact = mlmd.Artifact(type_id=type_id, uri=str(uri))
            for name, value in properties.items():
                field = "int_value" if isinstance(value, int) else "string_value"
                setattr(artifact.custom_properties[name], field, value)
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            event.path.steps.add().key = key
            pairs.append((artifact, event))
        store.put_execution(
            execution,
            pairs,
            [self.run, self._context("node", f"cifar-resnet.{node}")],
            reuse_context_if_already_exist=True,
        )

    def _context(self, kind: str, name: str) -> Any:
        type_id = self.store.put_context_type(self.mlmd.ContextType(name=kind))
        found = self.store.get_context_by_type_and_name(kind, name)
        return found or self.mlmd.Context(type_id=type_id, name=name)


def record(
    root: Path,
    *,
    served: bool = False,
    refused: str = "",
    policy: str = "best",
    leaked: int = 0,
    further: Mapping[str, str] | None = None,
    data: Dataset | None = None,
    earlier: bool = False,
    report_pictures: bool = True,
) -> tuple[str, str]:
    """Makes a run of digits in which the candidate errs less than the baseline.

    Args:
        root: Folder, made.
        served: Whether a model is in service; it errs more than both.
        refused: The canary's reason to refuse the winner.
        policy: With "superior" the difference is too small to be beyond doubt.
        leaked: How many test images stand in train as well.
        further: Contender -> network; each errs less than those before it.
        data: What the examples are, as dataset.json tells; None: of digits, and not told,
            as before there was such a file.
        earlier: As before there were Answers: each split has an Evaluator of its own, which
            also took the times.
        report_pictures: The configuration's field.

    Returns:
        Database and run id.
    """
    root.mkdir(parents=True)
    config = override(
        RunConfig(),
        {
            "data.name": "digits",
            "evaluation.policy": policy,
            "preset": "smoke",
            "report_pictures": report_pictures,
        }
        | {f"contenders.{name}": network for name, network in (further or {}).items()},
    )
    store = Store(root / "metadata.sqlite", "run-1")
    generator = np.random.default_rng(0)
    labels = {split: np.arange(n) % 10 for split, n in COUNTS.items()}
    properties = {
        "name": "digits", "source": "scikit-learn", "verified": 1,
        "verification": "as published", "counts": json.dumps(COUNTS),
    }  # fmt: skip
    shape = (data or known("digits")).image_shape
    ids = {
        split: write_split(root / "examples", split, labels[split], generator, shape)
        for split in COUNTS
    }
    if data is not None:
        (root / "examples" / DATASET_FILE).write_text(data.to_json())
    classes = data.class_names if data else CLASSES
    store.execute(
        "CifarExampleGen", ("examples", "Examples", root / "examples", properties)
    )
    counted = {
        "test_in_train": leaked, "test_in_eval": 0, "label_conflicts": 0,
        "copies": dict.fromkeys(COUNTS, 0), "superclass_conflicts": 0,
    }  # fmt: skip
    store.execute(
        "ExampleValidator",
        (
            "anomalies",
            "ExampleAnomalies",
            root / "anomalies",
            {consistency.PROPERTY: json.dumps(counted)},
        ),
    )
    roles = {"baseline": "resnet8", "candidate": "preact_resnet8", **(further or {})}
    for role, network in roles.items():
        write_json(root / role / "history.json", training(network))
        store.execute(
            f"{role.capitalize()}Trainer",
            ("model", "Model", root / f"{role}_model", {}),
            ("model_run", "ModelRun", root / role, {}),
        )
    if served:
        roles["in_service"] = "resnet20"
        write_json(root / "pushed/assets.extra/run.json", training("resnet20"))
        path = str(root / "serving/cifar/7")
        place = {"pushed": 1, "pushed_version": "7", "pushed_destination": path}
        store.execute(
            "ModelInService", ("pushed", "PushedModel", root / "pushed", place)
        )
    else:
        store.execute("ModelInService")
    wrong = {"baseline": 8, "candidate": 4, "in_service": 12}
    wrong |= {name: 3 - number for number, name in enumerate(further or {})}
    comparisons = {}
    for node, split in (("Evaluator", "eval"), ("TestEvaluator", "test")):
        images = measures.Images(ids=ids[split], labels=labels[split], bands={})
        answers = {
            role: measures.Answered(
                network=network,
                probabilities=probabilities(labels[split], wrong[role]),
            )
            for role, network in roles.items()
        }
        compared = measures.compare(split, images, answers, classes, ())
        if earlier:
            timed = {
                name: replace(model, latency_ms=1.5)
                for name, model in compared.models.items()
            }
            compared = replace(compared, models=timed)
        comparisons[split] = compared
        write_json(root / node / "comparison.json", comparisons[split].plain())
        predictions = Predictions(
            ids=ids[split],
            labels=labels[split],
            bands={},
            probabilities={
                role: probabilities(labels[split], wrong[role]) for role in roles
            },
        )
        with (root / node / "predictions.npz").open("wb") as file:
            predictions.write(file)
        if earlier:
            store.execute(node, ("evaluation", "ModelEvaluation", root / node, {}))
    if not earlier:
        store.execute(
            "Evaluator",
            ("evaluation", "ModelEvaluation", root / "Evaluator", {}),
            ("test_evaluation", "ModelEvaluation", root / "TestEvaluator", {}),
        )
    decision = choice.choose(comparisons["eval"], config.evaluation)
    write_json(root / "decision/decision.json", decision.plain())
    said = {"winner": decision.winner or "none", "reason": decision.reason}
    store.execute(
        "ModelChooser",
        ("decision", "components.Decision", root / "decision", said),
    )
    chosen = decision.winner in decision.comparison.contenders
    canary = CANARY
    if chosen and not earlier:
        other = "in_service" if served else "baseline"
        canary = replace(canary, latency_ms={other: 1.4, decision.winner: 1.5})
    if refused or not chosen:
        reasons = (refused or "nothing to check",)
        canary = replace(canary, passed=False, reasons=reasons)
    write_json(root / "canary/canary.json", canary.plain())
    told = {"reasons": "; ".join(canary.reasons)}
    store.execute("ServingCanary", ("blessing", "InfraBlessing", root / "canary", told))
    pushed: dict[str, Any] = {"pushed": 0}
    if chosen and not refused:
        path = str(root / "serving/cifar/8")
        pushed = {"pushed": 1, "pushed_version": "8", "pushed_destination": path}
    store.execute("AtomicPusher", ("pushed_model", "PushedModel", root / "new", pushed))
    this_run = facts.run_facts(asdict(config), "a test", began=1.7e9, seconds=75.0)
    database = str(root / "metadata.sqlite")
    collect.record_run(database, "run-1", this_run)
    assert from_json(RunConfig, json.dumps(this_run.config)) == config
    return database, "run-1"


def write_split(
    folder: Path,
    split: str,
    labels: np.ndarray,
    generator: np.random.Generator,
    shape: Shape = (32, 32, 3),
) -> np.ndarray:
    """TFRecords as CifarExampleGen writes them; returns the ids in label order."""
    import tensorflow as tf

    size = (len(labels), math.prod(filter(None, shape)))
    pixels = generator.integers(0, 256, size, np.uint8)
    ids = np.array([f"{split}{i:03}".encode() for i in range(len(labels))])
    path = folder / f"Split-{split}" / "data_tfrecord-00000-of-00001.gz"
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP")) as writer:
        for image, label, name in zip(pixels, labels, ids, strict=True):
            example = tf.train.Example()
            feature = example.features.feature
            feature[features.IMAGE].bytes_list.value.append(image.tobytes())
            feature[features.LABEL].int64_list.value.append(int(label))
            feature[features.EXAMPLE_ID].bytes_list.value.append(bytes(name))
            writer.write(example.SerializeToString())
    return ids


def probabilities(labels: np.ndarray, wrong: int) -> np.ndarray:
    """Sure of the right class, but of the next one for the first `wrong` images."""
    said = labels.copy()
    said[:wrong] = (said[:wrong] + 1) % 10
    return (0.02 + 0.8 * np.eye(10)[said]).astype(np.float32)


def training(network: str) -> dict[str, Any]:
    return {
        "network": network,
        "parameters": 75_290,
        "seconds": 12.5,
        "images_per_second": 640.0,
        "history": [
            {"step": 1, "epoch": 0.5, "loss": 2.0, "accuracy": 0.1},
            {"step": 2, "epoch": 1.0, "eval_loss": 1.5, "eval_accuracy": 0.4},
        ],
    }


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
