"""What is kept of a trained row: its answers and its record; the model goes.

A model is needed until its answers are there. Then its files are removed, all but the
record of its training, and the folder stays: TFX takes a Trainer's result from its cache
while that is there. If answers are ever asked for again (edited code), a model without files
is forgotten as a whole, and so trained again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from contract.model_run import ModelRun
from contract.provenance import source_digest
from contract.records import EXTRA_ASSETS, MODEL_FILE, MODEL_RUN_FILE

_FORMAT = "Format-Serving"
_ANSWERS = "components/answers/executor.py"
_WHOLE = (
    metadata_store_pb2.Execution.State.COMPLETE,
    metadata_store_pb2.Execution.State.CACHED,
)


def prune(store: Any) -> tuple[int, int]:
    """Removes the files of all models whose answers are there.

    Args:
        store: Of ML Metadata.

    Returns:
        Models that had files, and bytes.
    """
    models = size = 0
    for model in _models(store):
        folder = os.path.join(model.uri, _FORMAT)
        if _has_files(folder) and any(_answers(store, model)):
            size += _remove(folder)
            models += 1
    return models, size


def forget_unanswered(store: Any) -> list[str]:
    """Removes the rest of models without files that would be asked again.

    Returns:
        Their folders.
    """
    digest = source_digest(_ANSWERS)
    forgotten = []
    for model in _models(store):
        folder = os.path.join(model.uri, _FORMAT)
        if not os.path.isdir(folder) or _has_files(folder) or _diverged(folder):
            continue
        if not any(
            execution.custom_properties["source"].string_value == digest
            for execution in _answers(store, model)
        ):
            shutil.rmtree(model.uri, ignore_errors=True)
            forgotten.append(model.uri)
    return forgotten


def _models(store: Any) -> list[Any]:
    types = {each.name for each in store.get_artifact_types()}
    return store.get_artifacts_by_type("Model") if "Model" in types else []


def _answers(store: Any, model: Any) -> Iterator[Any]:
    """The executions that asked a model, and whose answers are on the disk."""
    events = store.get_events_by_artifact_ids([model.id])
    asked = [e.execution_id for e in events if e.type == e.INPUT]
    for execution in store.get_executions_by_id(asked):
        if execution.last_known_state not in _WHOLE:
            continue
        given = [
            event.artifact_id
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == event.OUTPUT
        ]
        if given and all(
            os.path.isdir(artifact.uri) for artifact in store.get_artifacts_by_id(given)
        ):
            yield execution


def _has_files(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, MODEL_FILE))


def _diverged(folder: str) -> bool:
    """Whether there never was a model: its answers need none."""
    try:
        with open(os.path.join(folder, MODEL_RUN_FILE), "rb") as file:
            return ModelRun.read(file, folder).problem is not None
    except (OSError, ValueError):
        return False


def _remove(folder: str) -> int:
    """Removes a model's files but for the record of its training; returns their bytes."""
    kept = os.path.join(folder, MODEL_RUN_FILE)
    # What makes it a model goes first: a half removed one is none.
    size = os.path.getsize(os.path.join(folder, MODEL_FILE))
    os.remove(os.path.join(folder, MODEL_FILE))
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            file = os.path.join(path, name)
            if file != kept:
                size += os.path.getsize(file)
                os.remove(file)
        if path not in (folder, os.path.join(folder, EXTRA_ASSETS)):
            os.rmdir(path)
    return size
