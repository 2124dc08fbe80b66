"""Work of the AtomicPusher: reads the blessings, publishes, records what happened."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import model_utils
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import (
    Examples,
    InfraBlessing,
    Model,
    ModelBlessing,
    ModelEvaluation,
    PushedModel,
)
from tfx.utils import io_utils, path_utils

from components import artifacts
from components.atomic_pusher import ledger, object_storage, publish
from components.declaration import Output, executor_of
from components.drift.baseline import baseline
from contract import pushed_model as properties
from contract.canary import CanaryResult
from contract.comparison import Comparison, Decision
from contract.predictions import Predictions
from contract.records import (
    BASELINE_FILE,
    CANARY_FILE,
    COMPARISON_FILE,
    DECISION_FILE,
    PREDICTIONS_FILE,
    RUN_CONFIGURATION_FILE,
    run_of,
)
from contract.run_facts import RunRecord
from contract.typed_json import Record
from trainer.examples import dataset_in

R = TypeVar("R", bound=Record)


def push(
    *,
    model: Model,
    model_blessing: ModelBlessing,
    infra_blessing: InfraBlessing | None,
    decision: artifacts.Decision | None,
    examples: Examples | None,
    evaluation: ModelEvaluation | None,
    configuration: artifacts.RunConfiguration | None,
    destination: str,
    pushed_model: Output[PushedModel],
) -> None:
    """Publishes a blessed model as a new version, all or nothing.

    TFX's Pusher copies file by file under the final name and skips a second push in the
    same second; this one never shows half a version and never skips. To a gs:// folder it
    publishes by components/atomic_pusher/object_storage.py.

    Args:
        model: With a SavedModel in Format-Serving/.
        model_blessing: Without a blessing nothing is pushed.
        infra_blessing: If given, needed as well.
        decision: For the ledger in object storage.
        examples: With `evaluation`, what monitoring compares live requests with: the
            version gets a file of it, BASELINE_FILE, beside the model's own.
        evaluation: The answers to the eval images.
        configuration: For the ledger.
        destination: Folder `<base>/<model name>`, local or gs://, that TensorFlow Serving
            watches.
        pushed_model: Gets a copy of what was pushed, with the custom properties of
            contract/pushed_model.py.

    Raises:
        PublishError: The blessed model could not be published.
        RecordError: What the ledger is to keep of the decision or the run is damaged.
    """
    obstacle = _missing_blessing(model_blessing, infra_blessing)
    if obstacle:
        logging.warning("Nothing is pushed: %s", obstacle)
        pushed_model.set_int_custom_property(properties.PUSHED, 0)
        return
    # The Trainer's Model that was chosen: the ModelChooser hands on a copy.
    trained = model_blessing.get_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY
    )
    source = path_utils.serving_model_path(
        model.uri, path_utils.is_old_model_artifact(model)
    )
    # As TFX's Pusher does: the artifact keeps what is pushed, whatever becomes of
    # the serving folder.
    io_utils.copy_dir(source, pushed_model.uri)
    if examples is not None and evaluation is not None:
        role = model.get_string_custom_property(properties.ROLE)
        _write_baseline(examples, evaluation, role, pushed_model.uri)
    if destination.startswith(ledger.SCHEME):
        origin = _origin(
            model, trained, decision, infra_blessing, configuration, pushed_model.uri
        )
        folder = ledger.open_folder(destination)
        version = publish_once(pushed_model.uri, folder, origin).version
        path = folder.version_uri(version)
    else:
        # Other code of this node or of the canary, whose verdict is an input, runs this
        # again; the same model does not become another version by that.
        serving = publish.newest(destination)
        if serving is not None and publish.same_files(serving, source):
            logging.info("Version %s is this model already", serving.name)
            version = int(serving.name)
        else:
            version = publish.publish(pushed_model.uri, destination)
        path = os.path.join(os.path.abspath(destination), str(version))
    logging.info("Pushed version %d to %s", version, path)
    pushed_model.set_int_custom_property(properties.PUSHED, 1)
    pushed_model.set_string_custom_property(properties.DESTINATION, path)
    pushed_model.set_string_custom_property(properties.VERSION, str(version))
    # Which training it came from, for the next run and for the history.
    for key in (properties.NETWORK, properties.ROLE):
        pushed_model.set_string_custom_property(
            key, model.get_string_custom_property(key)
        )
    pushed_model.set_int_custom_property(
        properties.MODEL_ID, model.get_int_custom_property(properties.MODEL_ID)
    )
    pushed_model.set_string_custom_property(properties.MODEL_URI, trained)


Executor = executor_of(push)


def _write_baseline(
    examples: Examples, evaluation: ModelEvaluation, role: str, folder: str
) -> None:
    """Adds the baseline to a copy of the model.

    Without one the model is as good: what monitoring could not use keeps no blessed model
    from being served, and is told.
    """
    try:
        dataset = dataset_in(examples)
        compared = os.path.join(evaluation.uri, COMPARISON_FILE)
        with fileio.open(compared, "rb") as file:
            names = Comparison.read(file, compared).class_names
        path = os.path.join(evaluation.uri, PREDICTIONS_FILE)
        with fileio.open(path, "rb") as file:
            predictions = Predictions.read(file, path, len(names))
        made = baseline(examples.uri, dataset, names, predictions, role)
    except Exception as problem:  # decoders', TensorFlow's, a damaged file's
        logging.warning("The version gets no baseline for monitoring: %s", problem)
        return
    io_utils.write_string_file(
        os.path.join(folder, BASELINE_FILE), made.to_json(allow_nan=False) + "\n"
    )


def publish_once(
    source: str, folder: ledger.Folder, origin: ledger.Origin
) -> ledger.Entry:
    """Publishes, unless this was done before: a task may be retried, a run repeated.

    Locally the cache sees to this. Vertex AI may start a task twice.

    Returns:
        The version in service if it is the same trained model, or what an earlier try
        of the same run published; else the new one.
    """
    with ledger.errors(f"{folder.uri} cannot be read"):
        _, history = ledger.published(folder)
        there = ledger.are_there(folder, history)
    serving = ledger.entry_in_service(history, there)
    for entry, exists in zip(history, there, strict=True):
        if not exists or not origin.model_uri:
            continue
        if entry.origin.model_uri != origin.model_uri:
            continue
        own = origin.run is not None and entry.origin.run == origin.run
        if entry is serving or (own and entry.rollback_of is None):
            logging.info("Version %d is this model already", entry.version)
            return entry
    return object_storage.publish(source, folder, origin)


def _missing_blessing(
    model_blessing: ModelBlessing, infra_blessing: InfraBlessing | None
) -> str | None:
    """Which blessing is missing, in words; None if all are there."""
    if not model_utils.is_model_blessed(model_blessing):
        return f"no contender was blessed (see {model_blessing.uri})"
    if infra_blessing and not model_utils.is_infra_validated(infra_blessing):
        return f"the model did not pass the serving check (see {infra_blessing.uri})"
    return None


def _origin(
    model: Model,
    trained: str,
    decision: artifacts.Decision | None,
    infra_blessing: InfraBlessing | None,
    configuration: artifacts.RunConfiguration | None,
    pushed_uri: str,
) -> ledger.Origin:
    """What the ledger says of the model; what nobody recorded stays unknown."""
    role = model.get_string_custom_property(properties.ROLE)
    decided = _read(Decision, decision, DECISION_FILE)
    canary = _read(CanaryResult, infra_blessing, CANARY_FILE, needed=False)
    run = _read(RunRecord, configuration, RUN_CONFIGURATION_FILE)
    config = run.facts.config if run else {}
    return ledger.Origin(
        network=model.get_string_custom_property(properties.NETWORK) or None,
        role=role or None,
        model_uri=trained or None,
        artifact_uri=pushed_uri,
        run=(run and run.run_id) or run_of(pushed_uri),
        pipeline=config.get("pipeline_name"),
        dataset=config.get("data", {}).get("name"),
        policy=decided.policy if decided else None,
        reason=decided.reason if decided else None,
        metrics=_metrics(decided, canary, role),
        config=config or None,
        commit=run.facts.commit if run else None,
    )


def _metrics(
    decision: Decision | None, canary: CanaryResult | None, role: str
) -> dict[str, Any]:
    """What the ledger keeps of the winner's evaluation."""
    winner = decision.comparison.models.get(role) if decision else None
    if winner is None or winner.measured is None:
        return {}
    return {
        "error": winner.measured.error,
        "ci95": list(winner.measured.ci95),
        "cross_entropy": winner.measured.cross_entropy,
        "ece": winner.measured.ece,
        "latency_ms": canary.latency_ms.get(role) if canary else None,
    }


def _read(
    kind: type[R], artifact: types.Artifact | None, name: str, *, needed: bool = True
) -> R | None:
    """A file of an optional input; None if that was not given, or has no such file."""
    if artifact is None:
        return None
    path = os.path.join(artifact.uri, name)
    if not needed and not fileio.exists(path):
        return None
    with fileio.open(path, "rb") as file:
        return kind.read(file, path)
