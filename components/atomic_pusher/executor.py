"""Work of the AtomicPusher: reads the blessings, publishes, records what happened."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.atomic_pusher import ledger, object_storage, publish
from contract import pushed_model as properties
from contract.comparison import Decision
from contract.records import DECISION_FILE, RUN_CONFIGURATION_FILE, run_of
from contract.run_facts import RunRecord
from contract.typed_json import Record

MODEL, MODEL_BLESSING, INFRA_BLESSING = "model", "model_blessing", "infra_blessing"
DECISION, CONFIGURATION = "decision", "configuration"
DESTINATION = "destination"
PUSHED_MODEL = "pushed_model"

R = TypeVar("R", bound=Record)


class Executor(base_executor.BaseExecutor):
    """Pushes when all blessings are there."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes the model, or says why not.

        Args:
            input_dict: `model`, `model_blessing` and, optionally, `infra_blessing`; for
                the ledger in object storage `decision` and `configuration`.
            output_dict: `pushed_model`.
            exec_properties: `destination`, the folder of version folders.

        Raises:
            PublishError: The blessed model could not be published.
            RecordError: What the ledger is to keep of the decision or the run is damaged.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[PUSHED_MODEL])
        obstacle = _missing_blessing(input_dict)
        if obstacle:
            logging.warning("Nothing is pushed: %s", obstacle)
            pushed.set_int_custom_property(properties.PUSHED, 0)
            return
        model = artifact_utils.get_single_instance(input_dict[MODEL])
        source = path_utils.serving_model_path(
            model.uri, path_utils.is_old_model_artifact(model)
        )
        # As TFX's Pusher does: the artifact keeps what is pushed, whatever becomes of
        # the serving folder.
        io_utils.copy_dir(source, pushed.uri)
        destination = exec_properties[DESTINATION]
        if destination.startswith(ledger.SCHEME):
            origin = _origin(input_dict, pushed.uri)
            folder = ledger.open_folder(destination)
            version = publish_once(source, folder, origin).version
            path = folder.version_uri(version)
        else:
            version = publish.publish(source, destination)
            path = os.path.join(os.path.abspath(destination), str(version))
        logging.info("Pushed version %d to %s", version, path)
        pushed.set_int_custom_property(properties.PUSHED, 1)
        pushed.set_string_custom_property(properties.DESTINATION, path)
        pushed.set_string_custom_property(properties.VERSION, str(version))
        # Which training it came from, for the next run and for the history.
        for key in (properties.NETWORK, properties.ROLE):
            pushed.set_string_custom_property(
                key, model.get_string_custom_property(key)
            )
        pushed.set_int_custom_property(
            properties.MODEL_ID, model.get_int_custom_property(properties.MODEL_ID)
        )
        pushed.set_string_custom_property(properties.MODEL_URI, _trained(input_dict))


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


def _missing_blessing(input_dict: dict[str, list[types.Artifact]]) -> str | None:
    """Which blessing is missing, in words; None if all are there."""
    blessing = artifact_utils.get_single_instance(input_dict[MODEL_BLESSING])
    if not model_utils.is_model_blessed(blessing):
        return f"no contender was blessed (see {blessing.uri})"
    if input_dict.get(INFRA_BLESSING):
        canary = artifact_utils.get_single_instance(input_dict[INFRA_BLESSING])
        if not model_utils.is_infra_validated(canary):
            return f"the model did not pass the serving check (see {canary.uri})"
    return None


def _trained(input_dict: dict[str, list[types.Artifact]]) -> str:
    """Folder of the Trainer's Model that was chosen: the ModelChooser hands on a copy."""
    blessing = artifact_utils.get_single_instance(input_dict[MODEL_BLESSING])
    return blessing.get_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY
    )


def _origin(
    input_dict: dict[str, list[types.Artifact]], pushed_uri: str
) -> ledger.Origin:
    """What the ledger says of the model; what nobody recorded stays unknown."""
    model = artifact_utils.get_single_instance(input_dict[MODEL])
    role = model.get_string_custom_property(properties.ROLE)
    decision = _read(Decision, input_dict, DECISION, DECISION_FILE)
    run = _read(RunRecord, input_dict, CONFIGURATION, RUN_CONFIGURATION_FILE)
    config = run.facts.config if run else {}
    return ledger.Origin(
        network=model.get_string_custom_property(properties.NETWORK) or None,
        role=role or None,
        model_uri=_trained(input_dict) or None,
        artifact_uri=pushed_uri,
        run=(run and run.run_id) or run_of(pushed_uri),
        pipeline=config.get("pipeline_name"),
        dataset=config.get("data", {}).get("name"),
        policy=decision.policy if decision else None,
        reason=decision.reason if decision else None,
        metrics=_metrics(decision, role),
        config=config or None,
        commit=run.facts.commit if run else None,
    )


def _metrics(decision: Decision | None, role: str) -> dict[str, Any]:
    """What the ledger keeps of the winner's evaluation."""
    winner = decision.comparison.models.get(role) if decision else None
    if winner is None or winner.measured is None:
        return {}
    return {
        "error": winner.measured.error,
        "ci95": list(winner.measured.ci95),
        "cross_entropy": winner.measured.cross_entropy,
        "ece": winner.measured.ece,
        "latency_ms": winner.latency_ms,
    }


def _read(
    kind: type[R], input_dict: dict[str, list[types.Artifact]], key: str, name: str
) -> R | None:
    """A file of an optional input; None if that was not given."""
    if not input_dict.get(key):
        return None
    path = os.path.join(artifact_utils.get_single_uri(input_dict[key]), name)
    with fileio.open(path, "rb") as file:
        return kind.read(file, path)
