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

from components.model_chooser import choice, executor
from pipeline import provenance
from trainer import features
from trainer.run import HISTORY_FILE

_SAMPLES_PER_CLASS = 8
_MOST_SAMPLE_CLASSES = 20
_CONFIG_PROPERTY = "run_facts"
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
    metrics = executor.overall_metrics(outputs["TestEvaluator", "evaluation"].uri)
    test = {
        role: choice.measured(
            executor.contender(metrics, role, config[role]["network"])
        )
        for role in choice.ROLES
    }
    trainings = {
        role: _read_json(
            os.path.join(
                outputs[f"{role.capitalize()}Trainer", "model_run"].uri, HISTORY_FILE
            )
        )
        for role in choice.ROLES
    }
    models = {
        role: _model(decision["models"][role], test[role], trainings[role])
        for role in choice.ROLES
    }
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
        "models": {**models, "in_service": None},
        "difference": decision["difference"],
        "decision": {
            key: decision[key] for key in ("policy", "winner", "reason", "blocked_by")
        },
        "pushed": _pushed(outputs["AtomicPusher", "pushed_model"]),
        "components": components,
        "page": {
            "config": config,
            "platform": facts["platform"],
            "dataset_title": features.DATASETS[config["data"]["name"]].title,
            "classes": list(classes),
            "histories": {role: trainings[role]["history"] for role in choice.ROLES},
            "eval": decision["models"],
            "class_counts": _class_counts(examples.uri, label_key, len(classes)),
            "samples": _samples(examples.uri, label_key, len(classes)),
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
                "cached": execution.last_known_state == _STATES.Value("CACHED"),
            }
        )
        events = [
            event
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == metadata_store_pb2.Event.OUTPUT
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
    evaluated: Mapping[str, Any], tested: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "network": training["network"],
        "parameters": training["parameters"],
        "eval": {key: evaluated["eval"][key] for key in ("error", "ci95")},
        "test": {key: tested["eval"][key] for key in ("error", "ci95")},
        "cross_entropy": evaluated["cross_entropy"],
        "ece": None,
        "train_seconds": training["seconds"],
        "images_per_second": training["images_per_second"],
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
    kinds = {
        key: tf.io.FixedLenFeature([], tf.string if key == features.IMAGE else tf.int64)
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


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")
