"""The report's dictionary, from what a run's artifacts hold.

In: what the runner knows of a run and which artifacts belong to it, whoever found them
(collect.py in ML Metadata, pipeline/vertex/steps/report on Vertex AI). Out: one plain
dictionary, which `render` turns into report.html and of which report.json is the fixed part
(schema 1). Nothing is run again, so that the report of a past run can be rebuilt at any
time. Artifacts may lie wherever TensorFlow reads: local folders, gs:// and the like.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tensorflow as tf

from components.example_validator import consistency
from contract import features, pushed_model
from contract.canary import CanaryResult
from contract.comparison import (
    BASELINE,
    CANDIDATE,
    IN_SERVICE,
    ComparedModel,
    Comparison,
    Decision,
    Difference,
)
from contract.contenders import names_in
from contract.datasets import DATASETS, Dataset, Extra
from contract.model_run import ModelRun
from contract.predictions import Predictions
from contract.progress import PROGRESS_LOGGER
from contract.records import (
    CANARY_FILE,
    COMPARISON_FILE,
    DECISION_FILE,
    HISTORY_FILE,
    MODEL_RUN_FILE,
    PREDICTIONS_FILE,
)
from contract.run_facts import RunFacts
from contract.typed_json import Record, RecordError
from pipeline.nodes import parts
from pipeline.report import pictures, published, remarks, selection
from trainer.examples import dataset_of

# Properties of a registered model that are shown.
_REGISTERED = (
    pushed_model.REGISTERED_MODEL,
    pushed_model.REGISTERED_ALIAS,
    pushed_model.ENDPOINT,
    pushed_model.REGISTRATION_PROBLEM,
)
_SHARES = (pushed_model.TRAFFIC_PERCENT,)

Report = dict[str, Any]
R = TypeVar("R", bound=Record)
_progress = logging.getLogger(PROGRESS_LOGGER)


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
    facts: RunFacts
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
        The keys of report.json (see README, "Where everything is"), of which `comparison`
        holds a Comparison by split, and under "page" what only the page shows:
        configuration, classes, histories, samples, artifacts.

    Raises:
        RecordError: A file of the run is damaged.
    """
    outputs = {(artifact.node, artifact.key): artifact for artifact in run.artifacts}
    contenders = names_in(run.facts.config)
    found = _parts(outputs, contenders)
    config, facts = run.facts.config, run.facts
    shown = config.get("report_pictures", True)  # runs of earlier versions lack it
    examples = found["examples"]
    data = dataset_of(examples.uri, config["data"]["name"], config["data"]["label"])
    decision = _read(Decision, found["decision"].uri, DECISION_FILE)
    compared, winner = decision.comparison, decision.winner
    comparisons = {
        features.EVAL: compared,
        features.TEST: _read(Comparison, found["test_evaluation"].uri, COMPARISON_FILE),
    }
    trainings = {
        name: _read(ModelRun, found[f"{name}_run"].uri, HISTORY_FILE)
        for name in compared.contenders
    }
    trainings[IN_SERVICE] = _training_of(found.get("in_service"))
    canary = _canary(found["infra_blessing"])
    blocked_by = list(decision.blocked_by)
    if winner in compared.contenders and not canary.passed:
        blocked_by += [f"canary: {reason}" for reason in canary.reasons]
    return {
        "schema": 1,
        "run": {
            "id": run.id,
            "preset": config["preset"],
            "started": _utc(facts.started),
            "seconds": facts.seconds,
            "commit": facts.commit,
            "versions": facts.versions,
        },
        "data": {
            **_data(examples, found.get("anomalies"), facts.data_reason),
            "label": config["data"]["label"],
        },
        "models": {
            name: _model(
                {split: part.models[name] for split, part in comparisons.items()},
                trainings[name],
                canary.latency_ms.get(name),
            )
            | (
                {"found": found["in_service"].properties.get(pushed_model.FOUND)}
                if name == IN_SERVICE
                else {}
            )
            if all(name in part.models for part in comparisons.values())
            else None
            for name in (*compared.contenders, IN_SERVICE)
        },
        "difference": _difference(compared),
        "differences": {
            name: _to_baseline(pair)
            for name in compared.contenders
            if (pair := compared.pairs.get((name, BASELINE)))
        },
        "decision": {
            **{key: getattr(decision, key) for key in ("policy", "winner", "reason")},
            "blocked_by": blocked_by,
        },
        "remarks": remarks.of_run(compared, trainings),
        "canary": canary.plain(),
        "pushed": _pushed(found["pushed_model"], found.get("registered")),
        "in_service": run.in_service and dict(run.in_service),
        "published": {
            name: published.lookup(data.name, compared.models[name].network)
            if data.label_key == features.LABEL and _as_published(data)
            else None
            for name in compared.contenders
        },
        "comparison": comparisons,
        "components": list(run.components),
        "page": {
            "config": config,
            "platform": facts.platform,
            "dataset_title": _title(data),
            "classes": list(data.class_names),
            "histories": {
                name: trainings[name].history for name in compared.contenders
            },
            **pictures.of_examples(examples.uri, data, shown=shown),
            "disagreements": _disagreements(
                decision, found["evaluation"].uri, examples.uri, data
            )
            if shown
            else None,
            "artifacts": [
                {
                    key: getattr(artifact, key)
                    for key in ("id", "node", "key", "type", "uri")
                }
                for artifact in outputs.values()
            ],
        },
    }


def _parts(
    outputs: Mapping[tuple[str, str], Artifact], contenders: Sequence[str]
) -> dict[str, Artifact]:
    """What the report is made of, by name."""
    found = {}
    for name, part in parts(contenders).items():
        place = next((each for each in part.places if each in outputs), None)
        if place is not None:
            found[name] = outputs[place]
        elif part.output.needed:
            raise LookupError(
                f"the run has no {part.output.key} of {part.node}, which its report needs"
            )
    return found


def _title(data: Dataset) -> str:
    """The data set, and what is not as it was published: shape, classes."""
    title = data.title
    if not _as_published(data):
        height, width, channels = data.pixels
        how = " at" if data.crop is None else ", cut to"
        grey = ", grey" if channels == 1 else ""
        title += f"{how} {height} x {width} pixels{grey}"
    if data.label_key == features.COARSE_LABEL:
        title += f", {len(data.class_names)} coarse classes"
    return title


def _as_published(data: Dataset) -> bool:
    """Whether the images have the published shape; what they were brought to is said."""
    entry = DATASETS.get(data.name)
    return entry is not None and data.image_shape == entry.image_shape


def _data(
    examples: Artifact, anomalies: Artifact | None, reason: str
) -> dict[str, Any]:
    """The source, and what ExampleValidator counted, with words for what matters of it.

    `consistency` is None if the data were accepted before such things were counted.
    """
    properties = examples.properties
    counts = json.loads(properties["counts"])
    told = properties.get("extra")
    extra = Extra.from_json(told, "extra") if told else None
    counted = anomalies.properties.get(consistency.PROPERTY) if anomalies else None
    found = json.loads(counted) if counted else None
    return {
        **{key: properties[key] for key in ("name", "source")},
        "verified": bool(properties["verified"]),
        "verification": properties["verification"],
        "reason": reason,
        "counts": counts,
        "extra": extra and {**extra.plain(), "sentence": extra.sentence},
        "consistency": found,
        "warnings": [
            *json.loads(properties.get("remarks", "[]")),
            *(consistency.warnings(found, counts) if found else ()),
        ],
    }


def _training_of(served: Artifact | None) -> ModelRun:
    """How the model in service was trained; empty where nothing is or nothing is known.

    Another version of the project may not have written it, or a person deleted it; what
    is there may be anybody's.
    """
    if served is None or not served.properties.get(pushed_model.PUSHED):
        return ModelRun()
    for folder in (served.uri, served.properties[pushed_model.DESTINATION]):
        if not tf.io.gfile.exists(os.path.join(folder, MODEL_RUN_FILE)):
            continue
        try:
            return _read(ModelRun, folder, MODEL_RUN_FILE)
        except RecordError as problem:
            _progress.warning("warning: how it was trained is not shown: %s", problem)
    return ModelRun()


def _model(
    compared: Mapping[str, ComparedModel],
    training: ModelRun,
    latency_ms: float | None,
) -> dict[str, Any]:
    """One model; `compared`: of each split, `latency_ms`: that the canary took."""
    evaluated = compared[features.EVAL].plain()
    return {
        "network": evaluated["network"],
        "parameters": training.parameters,
        **{
            split: {key: found.plain().get(key) for key in ("error", "ci95")}
            for split, found in compared.items()
        },
        **{
            key: evaluated.get(key)
            for key in (
                "problem", "top5", "cross_entropy", "cross_entropy_ci95", "ece",
                "ece_ci95",
            )
        },
        "latency_ms": evaluated["latency_ms"] if latency_ms is None else latency_ms,
        "train_seconds": training.seconds,
        "images_per_second": training.images_per_second,
    }  # fmt: skip


def _difference(comparison: Comparison) -> dict[str, Any] | None:
    """Candidate against baseline; what concerns the model in service is in `comparison`."""
    pair = comparison.pairs.get((CANDIDATE, BASELINE))
    if pair is None:
        return None
    return {
        "candidate_minus_baseline": pair.difference,
        "ci95": pair.ci95,
        "p_value": pair.p_value,
        "method": pair.method,
        "bootstrap_ci95": pair.bootstrap_ci95,
        "only_candidate_wrong": pair.only_first_wrong,
        "only_baseline_wrong": pair.only_second_wrong,
    }


def _to_baseline(pair: Difference) -> dict[str, Any]:
    """A contender against the baseline; corrected for all contenders of the run.

    Where there is one comparison alone, what is corrected is what was measured.
    """
    return {
        "minus_baseline": pair.difference,
        "ci95": pair.ci95,
        "joint_ci95": pair.deciding_ci95,
        "p_value": pair.p_value,
        "holm_p_value": pair.deciding_p_value,
        "method": pair.method,
        "bootstrap_ci95": pair.bootstrap_ci95,
        "only_contender_wrong": pair.only_first_wrong,
        "only_baseline_wrong": pair.only_second_wrong,
    }


def _disagreements(
    decision: Decision, evaluation: str, examples: str, data: Dataset
) -> dict[str, Any] | None:
    """Eval images on which exactly one of two contenders is right; None: there are none."""
    path = os.path.join(evaluation, PREDICTIONS_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        found = Predictions.read(file, path, len(data.class_names))
    two = selection.disagreeing(
        decision.comparison, decision.winner, found.probabilities.keys()
    )
    if two is None:
        return None
    images = pictures.disagreements(found, two, examples, data, path)
    return {"between": two, "images": images} if images else None


def _canary(blessing: Artifact) -> CanaryResult:
    """What the canary wrote; of a refusal that was tried again only the reasons are left."""
    if tf.io.gfile.exists(os.path.join(blessing.uri, CANARY_FILE)):
        return _read(CanaryResult, blessing.uri, CANARY_FILE)
    reasons = blessing.properties.get("reasons") or ""
    return CanaryResult(passed=False, reasons=(reasons,), server=None)


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


def _read(kind: type[R], folder: str, name: str) -> R:
    path = os.path.join(folder, name)
    with tf.io.gfile.GFile(path, "rb") as file:
        return kind.read(file, path)


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")
