"""Which model is in service: the newest push to the folder that is pushed to now.

A strategy for TFX's Resolver. In: ML Metadata, the serving folder, and the models that
this run trained. Out: one PushedModel, or none before the first push.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from components.atomic_pusher import publish
from components.model_in_service.executor import Executor
from contract import pushed_model
from contract.model_run import ModelRun
from contract.progress import PROGRESS_LOGGER
from contract.records import MODEL_RUN_FILE
from contract.typed_json import RecordError

_progress = logging.getLogger(PROGRESS_LOGGER)

# Input and output of the Resolver; its other inputs are Models.
(_PUSHED,) = Executor.CONTRACT.outputs


class InServiceStrategy(resolver.ResolverStrategy):
    """The newest push; but see `pushed_model.to_beat` for a run that is repeated."""

    def __init__(self, destination: str) -> None:
        """Keeps the folder `<base>/<model name>` of the pushes that count."""
        self._destination = destination

    def resolve_artifacts(
        self, store: Any, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Resolves `pushed`; the other inputs, the run's own models, stay as they are."""
        own = [
            artifact
            for key, artifacts in input_dict.items()
            if key != _PUSHED
            for artifact in artifacts
        ]
        record_unknown(store, self._destination, own)
        found = in_service(
            pushes(store, self._destination), [artifact.id for artifact in own]
        )
        chosen = []
        if found is not None:
            kind = store.get_artifact_type(pushed_model.TYPE_NAME)
            chosen = [artifact_utils.deserialize_artifact(kind, found)]
        return {**input_dict, _PUSHED: chosen}


def record_unknown(
    store: Any, destination: str, own_models: Sequence[types.Artifact] = ()
) -> None:
    """Records the version that is served if no push that is recorded made it.

    Somebody lost the metadata, or runs with other output folders publish here as well.
    What TensorFlow Serving serves is the highest version; what it is, its own run.json
    says. Or this run itself published it and was killed before that was recorded: then it
    holds the very files of one of `own_models`, and must not be compared with itself.
    """
    found = publish.newest(destination)
    if found is None:
        return
    path = str(found)
    if any(
        pushed_model.text(push, pushed_model.DESTINATION) == path
        for push in pushes(store, destination)
    ):
        return
    network = _network(path)
    if network is None:
        _progress.warning(
            "warning: %s is served, but no model of this project (it has no %s): nothing "
            "is compared with it",
            path,
            MODEL_RUN_FILE,
        )
        return
    own = next(
        (
            model.id
            for model in own_models
            if publish.same_files(path, path_utils.serving_model_path(model.uri))
        ),
        None,
    )
    if own is None:
        sentence = (
            f"{path} was published by no run that is recorded here; its own {MODEL_RUN_FILE} "
            f"says that it is a {network}"
        )
    else:
        sentence = f"{path} was published by this run before it was stopped"
    _progress.info("in service: %s", sentence)
    artifact = standard_artifacts.PushedModel()
    artifact.uri = path
    artifact.mlmd_artifact.state = metadata_store_pb2.Artifact.LIVE
    artifact.set_int_custom_property(pushed_model.PUSHED, 1)
    if own is not None:
        artifact.set_int_custom_property(pushed_model.MODEL_ID, own)
    for name, value in {
        pushed_model.DESTINATION: path,
        pushed_model.VERSION: found.name,
        pushed_model.NETWORK: network,
        pushed_model.FOUND: sentence,
    }.items():
        artifact.set_string_custom_property(name, value)
    kind = store.put_artifact_type(
        artifact.artifact_type, can_add_fields=True, can_omit_fields=True
    )
    artifact.mlmd_artifact.type_id = kind
    store.put_artifacts([artifact.mlmd_artifact])


def _network(version: str) -> str | None:
    """The network that a published model says it is; None if it says nothing."""
    try:
        with open(os.path.join(version, MODEL_RUN_FILE), "rb") as file:
            return ModelRun.read(file, MODEL_RUN_FILE).network
    except (OSError, RecordError):
        return None


def pushes(store: Any, destination: str) -> list[Any]:
    """All pushes to a folder, oldest first; ml_metadata's Artifact messages."""
    folder = os.path.abspath(destination)
    return [
        artifact
        for artifact in pushed_model.pushes(
            store.get_artifacts_by_type(pushed_model.TYPE_NAME)
        )
        if os.path.dirname(pushed_model.text(artifact, pushed_model.DESTINATION))
        == folder
    ]


def in_service(history: Sequence[Any], own_models: Sequence[int]) -> Any | None:
    """The push that a run's contenders have to beat, or None.

    Args:
        history: All pushes, oldest first.
        own_models: Ids of the Model artifacts that this run trained (or took from the
            cache).
    """
    index = pushed_model.to_beat(
        [
            pushed_model.Push(
                version=pushed_model.text(push, pushed_model.VERSION),
                model=pushed_model.number(push, pushed_model.MODEL_ID),
                rollback_of=pushed_model.text(push, pushed_model.ROLLBACK_OF),
                there=pushed_model.folder_is_there(
                    pushed_model.text(push, pushed_model.DESTINATION)
                ),
            )
            for push in history
        ],
        own_models,
    )
    return None if index is None else history[index]
