"""What is recorded with every push, and which push a run's models have to beat.

The custom properties of a PushedModel artifact: the AtomicPusher writes them, the
ModelChooser prepares some, and the Evaluator, the report and the history read them. This
file is a leaf without TFX.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

TYPE_NAME = "PushedModel"

# TFX's own.
PUSHED = "pushed"  # 1; 0: nothing was pushed, or nothing is in service yet
DESTINATION = "pushed_destination"  # <base>/<model name>/<version>
VERSION = "pushed_version"  # text

# Which training the model came from. Numbers of artifacts do not survive on Vertex AI,
# where properties are JSON and ids have 63 bits; folders of artifacts do.
NETWORK, ROLE = "network", "role"  # of the contender that won
MODEL_ID = "model_id"  # of the Trainer's Model, in ML Metadata
MODEL_URI = "model_uri"  # its folder
ROLLBACK_OF = "rollback_of"  # the version of the run that made the model
FOUND = "found"  # a sentence, of a version that no recorded run published

# Model Registry and Endpoint: pipeline/vertex/steps/push.
REGISTERED_MODEL = "registered_model"  # .../models/<id>@<version id>
REGISTERED_ALIAS = "registered_alias"
ENDPOINT = "endpoint"  # .../endpoints/<id>
DEPLOYED_MODEL = "deployed_model"  # id within the endpoint
TRAFFIC_PERCENT = "traffic_percent"  # share of the endpoint's traffic
REGISTRATION_PROBLEM = "registration_problem"  # a sentence, where that failed


def text(artifact: Any, name: str) -> str:
    """A custom property of an ml_metadata Artifact message; "" if it has none.

    Indexing a protobuf map with a missing key adds that key, without a value, and ML
    Metadata ends the process that stores such an artifact again.
    """
    properties = artifact.custom_properties
    return properties[name].string_value if name in properties else ""


def number(artifact: Any, name: str) -> int:
    """The same of a whole number; 0 if it has none."""
    properties = artifact.custom_properties
    return properties[name].int_value if name in properties else 0


def pushes(artifacts: Iterable[Any]) -> list[Any]:
    """The pushes among PushedModel artifacts, oldest first, each version once.

    Where the AtomicPusher ran again for a model that was in service already, it published
    nothing, and recorded the same version again. What a run recorded stands in place of
    what was only found there.

    Args:
        artifacts: ml_metadata's Artifact messages.
    """
    found: dict[tuple[str, str, int], Any] = {}
    for artifact in sorted(artifacts, key=lambda artifact: artifact.id):
        if number(artifact, PUSHED):
            # A version that was removed may have left its number to another push.
            key = (
                text(artifact, DESTINATION),
                text(artifact, ROLLBACK_OF),
                number(artifact, MODEL_ID),
            )
            if key not in found or text(found[key], FOUND):
                found[key] = artifact
    return list(found.values())


@dataclass(frozen=True)
class Push:
    """One push, as far as it matters for the next run."""

    version: str
    model: int | str  # which trained model: id or folder of the Trainer's artifact
    rollback_of: str  # version, or ""
    there: bool  # whether its folder still exists


def folder_is_there(destination: str) -> bool:
    """Whether a version's local folder still exists."""
    return os.path.isdir(destination)


def in_service(there: Sequence[bool]) -> int | None:
    """Index of the push in service: the newest one that is still there.

    Args:
        there: Of each push to one folder, oldest first, whether its folder exists.
    """
    return max((index for index, found in enumerate(there) if found), default=None)


def to_beat(history: Sequence[Push], own: Collection[int | str]) -> int | None:
    """Index of the push that a run's contenders have to beat, or None.

    It is the one in service, unless that is a model of this very run: the run is then a
    repetition, a model is not compared with itself, and the push that was in service
    when the model was chosen is taken, so that the repetition finds the same again.

    Args:
        history: All pushes to one folder, oldest first.
        own: The models that this run trained (or took from the cache).
    """
    index = in_service([push.there for push in history])
    if index is None or history[index].model not in own:
        return index
    original = history[index].rollback_of
    if original:  # the run that chose it is that of the version that was rolled back to
        versions = [push.version for push in history]
        index = versions.index(original) if original in versions else index
    return index - 1 if index else None
