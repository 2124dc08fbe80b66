"""Everything the report says, gathered from ML Metadata and the artifacts.

In: the metadata store of a run. Out: one plain dictionary, which `render` turns into
report.html and of which report.json is the fixed part (schema 1). Nothing is run again,
so that the report of a past run can be rebuilt at any time.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from PIL import Image

from components.evaluator.executor import COMPARISON_FILE, PREDICTIONS_FILE
from components.evaluator.measures import BASELINE, CANDIDATE, IN_SERVICE, ROLES
from components.model_chooser import choice
from components.model_in_service.strategy import PUSHED
from components.serving_canary.executor import CANARY_FILE
from pipeline import provenance
from pipeline.report import published
from trainer import features
from trainer.export import RUN_ASSET
from trainer.run import HISTORY_FILE

_SAMPLES_PER_CLASS = 8
_MOST_SAMPLE_CLASSES = 20
_MOST_DISAGREEMENTS = 24
_CONFIG_PROPERTY = "run_facts"
_RESOLVER = "tfx.dsl.components.common.resolver.Resolver"
_STATES = metadata_store_pb2.Execution.State

Report = dict[str, Any]


def record_run(database: str, run_id: str, facts: Mapping[str, Any]) -> None:
    """Keeps what only the runner knows (configuration, start, commit) with the run.

    Args:
        database: Path of the SQLite file.
        run_id: Pipeline run id.
        facts: JSON-able.
    """
    store = _open(database)
    context = _run_context(store, run_id)
    context.custom_properties[_CONFIG_PROPERTY].string_value = json.dumps(facts)
    store.put_contexts([context])


def latest_run(database: str) -> str | None:
    """The id of the newest run that came to its end, or None."""
    if not os.path.exists(database):
        return None
    runs = [
        context
        for context in _open(database).get_contexts_by_type("pipeline_run")
        if _CONFIG_PROPERTY in context.custom_properties
    ]
    if not runs:
        return None
    return max(runs, key=lambda context: context.create_time_since_epoch).name


def run_facts(
    config: Mapping[str, Any], data_reason: str, began: float, seconds: float
) -> dict[str, Any]:
    """What `record_run` keeps.

    Args:
        config: The whole RunConfig as a dictionary.
        data_reason: Why this data set.
        began: Start, seconds since the epoch.
        seconds: Duration of the run.
    """
    return {
        "config": dict(config),
        "data_reason": data_reason,
        "started": began,
        "seconds": seconds,
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "platform": provenance.machine(),
    }


def collect(database: str, run_id: str) -> Report:
    """Gathers a finished run.

    Args:
        database: Path of the SQLite metadata file.
        run_id: Pipeline run id in it.

    Returns:
        The keys of report.json (see README, "Outputs"), and under "page" what only the
        page shows: configuration, classes, histories, confusion, samples, artifacts.
    """
    store = _open(database)
    context = _run_context(store, run_id)
    facts = json.loads(context.custom_properties[_CONFIG_PROPERTY].string_value)
    config = facts["config"]
    components, outputs = _components(store, context.id)
    examples = outputs["CifarExampleGen", "examples"]
    classes = features.class_names(config["data"]["name"], config["data"]["label"])
    decision = _read_json(
        os.path.join(outputs["ModelChooser", "decision"].uri, "decision.json")
    )
    evaluation = outputs["Evaluator", "evaluation"].uri
    comparisons = {
        features.EVAL: decision["comparison"],
        features.TEST: _read_json(
            os.path.join(outputs["TestEvaluator", "evaluation"].uri, COMPARISON_FILE)
        ),
    }
    trainings = {
        role: _read_json(
            os.path.join(
                outputs[f"{role.capitalize()}Trainer", "model_run"].uri, HISTORY_FILE
            )
        )
        for role in choice.CONTENDERS
    }
    served = outputs.get(("ModelInService", PUSHED))
    trainings[IN_SERVICE] = (
        _read_json_if_there(os.path.join(served.uri, "assets.extra", RUN_ASSET))
        if served is not None
        else {}
    )
    canary = _canary(outputs["ServingCanary", "blessing"])
    blocked_by = list(decision["blocked_by"])
    if decision["winner"] in choice.CONTENDERS and not canary["passed"]:
        blocked_by += [f"canary: {reason}" for reason in canary["reasons"]]
    label_key = features.label_key(config["data"]["label"])
    return {
        "schema": 1,
        "run": {
            "id": run_id,
            "preset": config["preset"],
            "started": _utc(facts["started"]),
            "seconds": facts["seconds"],
            "commit": facts["commit"],
            "versions": facts["versions"],
        },
        "data": _data(examples, facts["data_reason"]),
        "models": {
            role: _model(
                {split: found["models"][role] for split, found in comparisons.items()},
                trainings[role],
            )
            if comparisons[features.EVAL]["models"][role]
            else None
            for role in ROLES
        },
        "difference": _difference(comparisons[features.EVAL]),
        "decision": {
            **{key: decision[key] for key in ("policy", "winner", "reason")},
            "blocked_by": blocked_by,
        },
        "canary": canary,
        "pushed": _pushed(outputs["AtomicPusher", "pushed_model"]),
        "published": {
            role: published.lookup(config["data"]["name"], config[role]["network"])
            if config["data"]["label"] == "fine"
            else None
            for role in choice.CONTENDERS
        },
        "comparison": comparisons,
        "components": components,
        "page": {
            "config": config,
            "platform": facts["platform"],
            "dataset_title": features.DATASETS[config["data"]["name"]].title,
            "classes": list(classes),
            "histories": {
                role: trainings[role]["history"] for role in choice.CONTENDERS
            },
            "class_counts": _class_counts(examples.uri, label_key, len(classes)),
            "samples": _samples(examples.uri, label_key, len(classes)),
            "disagreements": _disagreements(evaluation, examples.uri, classes),
            "artifacts": _artifacts(outputs),
        },
    }


def _open(database: str) -> metadata_store.MetadataStore:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = database
    return metadata_store.MetadataStore(config)


def _run_context(store: metadata_store.MetadataStore, run_id: str) -> Any:
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        raise ValueError(f"run {run_id} is not recorded in the metadata")
    return context


def _components(
    store: metadata_store.MetadataStore, run_context: int
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], Any]]:
    """Executions of a run in order, and their output artifacts by (node id, key)."""
    rows = []
    outputs = {}
    executions = store.get_executions_by_context(run_context)
    kinds = {kind.id: kind.name for kind in store.get_execution_types()}
    for execution in sorted(executions, key=lambda e: e.id):
        node = next(
            c.name.split(".", 1)[1]
            for c in store.get_contexts_by_execution(execution.id)
            if c.type == "node"
        )
        milliseconds = (
            execution.last_update_time_since_epoch - execution.create_time_since_epoch
        )
        rows.append(
            {
                "id": node,
                "state": _STATES.Name(execution.last_known_state).lower(),
                "seconds": milliseconds / 1000,
                # A Resolver only looks something up, in every run.
                "cached": execution.last_known_state == _STATES.Value("CACHED")
                or kinds[execution.type_id] == _RESOLVER,
            }
        )
        events = [
            event
            for event in store.get_events_by_execution_ids([execution.id])
            # A Resolver's outputs were made by others: internal ones.
            if event.type
            in (
                metadata_store_pb2.Event.OUTPUT,
                metadata_store_pb2.Event.INTERNAL_OUTPUT,
            )
        ]
        found = store.get_artifacts_by_id([event.artifact_id for event in events])
        by_id = {artifact.id: artifact for artifact in found}
        for event in events:
            outputs[node, event.path.steps[0].key] = by_id[event.artifact_id]
    return rows, outputs


def _data(examples: Any, reason: str) -> dict[str, Any]:
    properties = examples.custom_properties
    return {
        "name": properties["name"].string_value,
        "source": properties["source"].string_value,
        "verified": bool(properties["verified"].int_value),
        "verification": properties["verification"].string_value,
        "reason": reason,
        "counts": json.loads(properties["counts"].string_value),
    }


def _model(
    measured: Mapping[str, Mapping[str, Any]], training: Mapping[str, Any]
) -> dict[str, Any]:
    """One contender; `measured` holds its part of the comparison on each split."""
    evaluated = measured[features.EVAL]
    return {
        "network": evaluated["network"],
        "parameters": training.get("parameters"),
        **{
            split: {key: found.get(key) for key in ("error", "ci95")}
            for split, found in measured.items()
        },
        **{
            key: evaluated.get(key)
            for key in (
                "problem", "top5", "cross_entropy", "cross_entropy_ci95", "ece",
                "ece_ci95", "latency_ms",
            )
        },
        "train_seconds": training.get("seconds"),
        "images_per_second": training.get("images_per_second"),
    }  # fmt: skip


def _difference(comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """Candidate against baseline; what concerns the model in service is in `comparison`."""
    pair = comparison["pairs"][f"{CANDIDATE}_minus_{BASELINE}"]
    if pair is None:
        return None
    return {
        "candidate_minus_baseline": pair["difference"],
        **{key: pair[key] for key in ("ci95", "p_value", "method", "bootstrap_ci95")},
        "only_candidate_wrong": pair["only_first_wrong"],
        "only_baseline_wrong": pair["only_second_wrong"],
    }


def _disagreements(
    evaluation: str, examples: str, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Eval images on which exactly one of the two networks is right, surest first.

    Returns:
        For each: the picture (data URI), the true class, what each network says with
        which probability, and who is right.
    """
    with tf.io.gfile.GFile(os.path.join(evaluation, PREDICTIONS_FILE), "rb") as file:
        found = np.load(io.BytesIO(file.read()))
    keys = {role: f"probabilities/{role}" for role in (BASELINE, CANDIDATE)}
    if any(key not in found for key in keys.values()):
        return []
    labels = found["labels"]
    says = {role: found[key].argmax(axis=1) for role, key in keys.items()}
    sure = {role: found[key].max(axis=1) for role, key in keys.items()}
    right = {role: says[role] == labels for role in keys}
    differ = np.flatnonzero(right[BASELINE] != right[CANDIDATE])
    surest = np.minimum(sure[BASELINE], sure[CANDIDATE])
    chosen = differ[np.argsort(-surest[differ], kind="stable")][:_MOST_DISAGREEMENTS]
    pictures = _pictures(examples, {found["ids"][i] for i in chosen})
    return [
        {
            "picture": pictures[found["ids"][i]],
            "label": classes[labels[i]],
            "right": CANDIDATE if right[CANDIDATE][i] else BASELINE,
            **{
                role: {
                    "class": classes[says[role][i]],
                    "probability": float(sure[role][i]),
                }
                for role in keys
            },
        }
        for i in chosen
    ]


def _pictures(uri: str, ids: set[bytes]) -> dict[bytes, str]:
    """PNG data URIs of the eval images with these ids."""
    found = {}
    keys = [features.IMAGE, features.EXAMPLE_ID]
    for batch in _split_dataset(uri, features.EVAL, keys):
        names = batch[features.EXAMPLE_ID].numpy()
        for pixels, name in zip(batch[features.IMAGE].numpy(), names, strict=True):
            if name in ids:
                found[name] = _png_uri(pixels)
    return found


def _canary(blessing: Any) -> dict[str, Any]:
    """What the canary wrote; of a refusal that was tried again only the reasons are left."""
    path = os.path.join(blessing.uri, CANARY_FILE)
    if tf.io.gfile.exists(path):
        return _read_json(path)
    return {
        "passed": False,
        "reasons": [blessing.custom_properties["reasons"].string_value],
    }


def _pushed(artifact: Any) -> dict[str, Any] | None:
    properties = artifact.custom_properties
    if not properties["pushed"].int_value:
        return None
    return {
        "version": int(properties["pushed_version"].string_value),
        "path": properties["pushed_destination"].string_value,
    }


def _artifacts(outputs: Mapping[tuple[str, str], Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": artifact.id,
            "node": node,
            "key": key,
            "type": artifact.type,
            "uri": artifact.uri,
        }
        for (node, key), artifact in outputs.items()
    ]


def _split_dataset(uri: str, split: str, keys: Sequence[str]) -> tf.data.Dataset:
    files = sorted(tf.io.gfile.glob(os.path.join(uri, f"Split-{split}", "*")))
    compression = "GZIP" if files[0].endswith(".gz") else ""
    texts = (features.IMAGE, features.EXAMPLE_ID)
    kinds = {
        key: tf.io.FixedLenFeature([], tf.string if key in texts else tf.int64)
        for key in keys
    }
    return (
        tf.data.TFRecordDataset(files, compression_type=compression)
        .batch(1000)
        .map(lambda serialized: tf.io.parse_example(serialized, kinds))
    )


def _class_counts(uri: str, label_key: str, classes: int) -> dict[str, list[int]]:
    """Images of each class in each split."""
    counts = {}
    for split in features.SPLITS:
        total = np.zeros(classes, np.int64)
        for batch in _split_dataset(uri, split, [label_key]):
            total += np.bincount(batch[label_key], minlength=classes)
        counts[split] = total.tolist()
    return counts


def _samples(uri: str, label_key: str, classes: int) -> list[list[str]]:
    """The first training images of the first classes, as PNG data URIs, a row a class."""
    shown = min(classes, _MOST_SAMPLE_CLASSES)
    rows: list[list[str]] = [[] for _ in range(shown)]
    for batch in _split_dataset(uri, features.TRAIN, [features.IMAGE, label_key]):
        pairs = zip(
            batch[features.IMAGE].numpy(), batch[label_key].numpy(), strict=True
        )
        for pixels, label in pairs:
            if label < shown and len(rows[label]) < _SAMPLES_PER_CLASS:
                rows[label].append(_png_uri(pixels))
        if all(len(row) == _SAMPLES_PER_CLASS for row in rows):
            break
    return rows


def _png_uri(pixels: bytes) -> str:
    array = np.frombuffer(pixels, np.uint8).reshape(features.IMAGE_SHAPE)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _read_json(path: str) -> Any:
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)


def _read_json_if_there(path: str) -> dict[str, Any]:
    """For what another version of the project may not have written, or a person deleted."""
    return _read_json(path) if tf.io.gfile.exists(path) else {}


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")
