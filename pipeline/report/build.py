"""The report's dictionary, from what a run's artifacts hold.

In: what the runner knows of a run and which artifacts belong to it, whoever found them
(collect.py in ML Metadata, pipeline/vertex/steps/report on Vertex AI). Out: one plain
dictionary, which `render` turns into report.html and of which report.json is the fixed part
(schema 1). Nothing is run again, so that the report of a past run can be rebuilt at any
time. Artifacts may lie wherever TensorFlow reads: local folders, gs:// and the like.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from components.evaluator.measures import BASELINE, CANDIDATE, IN_SERVICE, ROLES
from components.example_validator import consistency
from components.model_chooser import choice
from contract import arrays, features, pushed_model, stored
from contract.datasets import DATASETS, class_names
from contract.records import (
    CANARY_FILE,
    COMPARISON_FILE,
    DECISION_FILE,
    HISTORY_FILE,
    MODEL_RUN_FILE,
    PREDICTIONS_FILE,
)
from pipeline.nodes import PARTS
from pipeline.report import published
from trainer.examples import records

_SAMPLES_PER_CLASS = 8
_MOST_SAMPLE_CLASSES = 20
_MOST_DISAGREEMENTS = 24
_MOST_JSON, _MOST_PREDICTIONS = 64 << 20, 1 << 30  # bytes
# Properties of a registered model that are shown.
_REGISTERED = (
    pushed_model.REGISTERED_MODEL,
    pushed_model.REGISTERED_ALIAS,
    pushed_model.ENDPOINT,
)
_SHARES = (pushed_model.TRAFFIC_PERCENT,)

Report = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An output of a node, as the engine's metadata tell it."""

    node: str
    key: str
    id: int | None  # None where ids say nothing to people (on Vertex AI)
    type: str
    uri: str
    # Custom properties: texts and numbers; on Vertex AI whole numbers come as floats.
    properties: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that came to its end."""

    id: str
    facts: Mapping[str, Any]  # see pipeline/report/facts.py
    # Rows of report.json's "components"; None for what the engine does not tell.
    components: Sequence[Mapping[str, Any]]
    artifacts: Sequence[Artifact]  # in the order in which they were made
    # What is in service when the report is written, see pipeline/history: a rollback, or a
    # later run, may have replaced what this run pushed.
    in_service: Mapping[str, Any] | None = None


def build(run: Run) -> Report:
    """Reads what the artifacts of a run hold.

    Args:
        run: Must have the artifacts of the needed parts (pipeline/nodes.py).

    Returns:
        The keys of report.json (see README, "Outputs"), and under "page" what only the
        page shows: configuration, classes, histories, samples, artifacts.
    """
    outputs = {(artifact.node, artifact.key): artifact for artifact in run.artifacts}
    found = {
        name: outputs[part.node, part.output.key]
        for name, part in PARTS.items()
        if part.output.needed or (part.node, part.output.key) in outputs
    }
    config, facts = run.facts["config"], run.facts
    examples = found["examples"]
    classes = class_names(config["data"]["name"], config["data"]["label"])
    decision = _read_json(os.path.join(found["decision"].uri, DECISION_FILE))
    comparisons = {
        features.EVAL: decision["comparison"],
        features.TEST: _read_json(
            os.path.join(found["test_evaluation"].uri, COMPARISON_FILE)
        ),
    }
    trainings = {
        role: _read_json(os.path.join(found[f"{role}_run"].uri, HISTORY_FILE))
        for role in choice.CONTENDERS
    }
    trainings[IN_SERVICE] = _training_of(found.get("in_service"))
    canary = _canary(found["infra_blessing"])
    blocked_by = list(decision["blocked_by"])
    if decision["winner"] in choice.CONTENDERS and not canary["passed"]:
        blocked_by += [f"canary: {reason}" for reason in canary["reasons"]]
    label_key = features.label_key(config["data"]["label"])
    return {
        "schema": 1,
        "run": {
            "id": run.id,
            "preset": config["preset"],
            "started": _utc(facts["started"]),
            "seconds": facts["seconds"],
            "commit": facts["commit"],
            "versions": facts["versions"],
        },
        "data": {
            **_data(examples, found.get("anomalies"), facts["data_reason"]),
            "label": config["data"]["label"],
        },
        "models": {
            role: _model(
                {split: part["models"][role] for split, part in comparisons.items()},
                trainings[role],
            )
            | (
                {"found": found["in_service"].properties.get(pushed_model.FOUND)}
                if role == IN_SERVICE
                else {}
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
        "pushed": _pushed(found["pushed_model"], found.get("registered")),
        "in_service": run.in_service and dict(run.in_service),
        "published": {
            role: published.lookup(config["data"]["name"], config[role]["network"])
            if config["data"]["label"] == "fine"
            else None
            for role in choice.CONTENDERS
        },
        "comparison": comparisons,
        "components": list(run.components),
        "page": {
            "config": config,
            "platform": facts["platform"],
            "dataset_title": _title(config["data"], classes),
            "classes": list(classes),
            "histories": {
                role: trainings[role]["history"] for role in choice.CONTENDERS
            },
            "class_counts": _class_counts(examples.uri, label_key, len(classes)),
            "samples": _samples(
                examples.uri,
                features.TRAIN,
                label_key,
                len(classes),
                _SAMPLES_PER_CLASS,
            ),
            # Files of their own, which a person can send to a server.
            "pictures": {
                name: row[0]
                for name, row in zip(
                    classes,
                    _samples(examples.uri, features.TEST, label_key, len(classes), 1),
                    strict=False,
                )
                if row
            },
            "disagreements": _disagreements(
                found["evaluation"].uri, examples.uri, classes
            ),
            "artifacts": [
                {
                    key: getattr(artifact, key)
                    for key in ("id", "node", "key", "type", "uri")
                }
                for artifact in outputs.values()
            ],
        },
    }


def _title(data: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The data set, and what was learnt of it if that is not its usual classes."""
    title = DATASETS[data["name"]].title
    if data["label"] == "coarse":
        return f"{title}, {len(classes)} coarse classes"
    return title


def _data(
    examples: Artifact, anomalies: Artifact | None, reason: str
) -> dict[str, Any]:
    """The source, and what ExampleValidator counted, with words for what matters of it.

    `consistency` is None if the data were accepted before such things were counted.
    """
    properties = examples.properties
    counts = json.loads(properties["counts"])
    counted = anomalies.properties.get(consistency.PROPERTY) if anomalies else None
    found = json.loads(counted) if counted else None
    return {
        **{key: properties[key] for key in ("name", "source")},
        "verified": bool(properties["verified"]),
        "verification": properties["verification"],
        "reason": reason,
        "counts": counts,
        "consistency": found,
        "warnings": consistency.warnings(found, counts) if found else [],
    }


def _training_of(served: Artifact | None) -> dict[str, Any]:
    """How the model in service was trained; empty where nothing is or nothing is known.

    Another version of the project may not have written it, or a person deleted it; what
    is there may be anybody's.
    """
    if served is None or not served.properties.get(pushed_model.PUSHED):
        return {}
    for folder in (served.uri, served.properties[pushed_model.DESTINATION]):
        path = os.path.join(folder, MODEL_RUN_FILE)
        if tf.io.gfile.exists(path):
            try:
                told = _read_json(path)
            except stored.Unreadable:
                return {}
            return {
                key: told[key]
                for key in ("parameters", "seconds", "images_per_second")
                if type(told.get(key)) in (int, float) and math.isfinite(told[key])
            }
    return {}


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
        content = io.BytesIO(file.read())
    found: dict[str, Any] = arrays.read(content, _MOST_PREDICTIONS)
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


def _canary(blessing: Artifact) -> dict[str, Any]:
    """What the canary wrote; of a refusal that was tried again only the reasons are left."""
    path = os.path.join(blessing.uri, CANARY_FILE)
    if tf.io.gfile.exists(path):
        return _read_json(path)
    return {"passed": False, "reasons": [blessing.properties.get("reasons") or ""]}


def _pushed(pushed: Artifact, registered: Artifact | None) -> dict[str, Any] | None:
    """The new version; on Vertex AI also how it is known there, as far as it is."""
    if not pushed.properties.get(pushed_model.PUSHED):
        return None
    known = registered.properties if registered else {}
    return {
        "version": int(pushed.properties[pushed_model.VERSION]),
        "path": pushed.properties[pushed_model.DESTINATION],
        **{key: known[key] for key in _REGISTERED if known.get(key)},
        **{key: int(known[key]) for key in _SHARES if known.get(key) is not None},
    }


def _split_dataset(uri: str, split: str, keys: Sequence[str]) -> tf.data.Dataset:
    files = tf.io.gfile.glob(os.path.join(uri, f"Split-{split}", "*"))
    texts = (features.IMAGE, features.EXAMPLE_ID)
    kinds = {
        key: tf.io.FixedLenFeature([], tf.string if key in texts else tf.int64)
        for key in keys
    }
    return (
        records(files)
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


def _samples(
    uri: str, split: str, label_key: str, classes: int, most: int
) -> list[list[str]]:
    """The first images of the first classes, as PNG data URIs, a row a class."""
    shown = min(classes, _MOST_SAMPLE_CLASSES)
    rows: list[list[str]] = [[] for _ in range(shown)]
    for batch in _split_dataset(uri, split, [features.IMAGE, label_key]):
        pairs = zip(
            batch[features.IMAGE].numpy(), batch[label_key].numpy(), strict=True
        )
        for pixels, label in pairs:
            if label < shown and len(rows[label]) < most:
                rows[label].append(_png_uri(pixels))
        if all(len(row) == most for row in rows):
            break
    return rows


def _png_uri(pixels: bytes) -> str:
    array = np.frombuffer(pixels, np.uint8).reshape(features.IMAGE_SHAPE)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _read_json(path: str) -> Any:
    with tf.io.gfile.GFile(path, "rb") as file:
        return stored.json_object(file, _MOST_JSON)


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")
