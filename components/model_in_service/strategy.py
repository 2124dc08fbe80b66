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
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

PUSHED = "pushed"  # input and output of the Resolver; its other inputs are Models
PUSHED_MODEL = "PushedModel"
# Custom properties of a PushedModel; the first two are TFX's.
IS_PUSHED, DESTINATION = "pushed", "pushed_destination"
VERSION, MODEL_ID, ROLLBACK_OF = "pushed_version", "model_id", "rollback_of"


class InServiceStrategy(resolver.ResolverStrategy):
    """The newest push; but see `in_service` for a run that is repeated."""

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
            kind = store.get_artifact_type(PUSHED_MODEL)
            chosen = [artifact_utils.deserialize_artifact(kind, found)]
        return {**input_dict, PUSHED: chosen}


def pushes(store: Any, destination: str) -> list[Any]:
    """All pushes to a folder, oldest first; ml_metadata's Artifact messages."""
    folder = os.path.abspath(destination)
    return sorted(
        (
            artifact
            for artifact in store.get_artifacts_by_type(PUSHED_MODEL)
            if artifact.custom_properties[IS_PUSHED].int_value
            and os.path.dirname(artifact.custom_properties[DESTINATION].string_value)
            == folder
        ),
        key=lambda artifact: artifact.id,
    )


def in_service(history: Sequence[Any], own_models: Sequence[int]) -> Any | None:
    """The push that a run's contenders have to beat, or None.

    It is the newest one whose folder is still there, unless that is a model of this very
    run: the run is then a repetition, a model is not compared with itself, and the push
    that was in service when the model was chosen is taken, so that the repetition finds
    everything in the cache.

    Args:
        history: All pushes, oldest first.
        own_models: Ids of the Model artifacts that this run trained (or took from the
            cache).
    """
    there = [
        number
        for number, push in enumerate(history)
        if fileio.isdir(push.custom_properties[DESTINATION].string_value)
    ]
    if not there:
        return None
    index = there[-1]
    properties = history[index].custom_properties
    if properties[MODEL_ID].int_value not in own_models:
        return history[index]
    original = properties[ROLLBACK_OF].string_value
    if original:  # the run that chose it is that of the version that was rolled back to
        versions = [push.custom_properties[VERSION].string_value for push in history]
        index = versions.index(original) if original in versions else index
    return history[index - 1] if index else None
