"""Which model is in service: the newest push to the folder that is pushed to now.

A strategy for TFX's Resolver. In: ML Metadata, and the models that this run trained. Out:
one PushedModel, or none before the first push.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.common import resolver
from tfx.types import artifact_utils

from components import pushed_model

PUSHED = "pushed"  # input and output of the Resolver; its other inputs are Models


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
            artifact.id
            for key, artifacts in input_dict.items()
            if key != PUSHED
            for artifact in artifacts
        ]
        found = in_service(pushes(store, self._destination), own)
        chosen = []
        if found is not None:
            kind = store.get_artifact_type(pushed_model.TYPE_NAME)
            chosen = [artifact_utils.deserialize_artifact(kind, found)]
        return {**input_dict, PUSHED: chosen}


def pushes(store: Any, destination: str) -> list[Any]:
    """All pushes to a folder, oldest first; ml_metadata's Artifact messages."""
    folder = os.path.abspath(destination)
    return sorted(
        (
            artifact
            for artifact in store.get_artifacts_by_type(pushed_model.TYPE_NAME)
            if pushed_model.number(artifact, pushed_model.PUSHED)
            and os.path.dirname(pushed_model.text(artifact, pushed_model.DESTINATION))
            == folder
        ),
        key=lambda artifact: artifact.id,
    )


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
