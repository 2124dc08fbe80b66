"""From what a person typed to one complete, checked RunConfig, in milliseconds.

Order: defaults, preset, overrides. `data.name=auto` is decided here, before the preset's
rows for a data set are taken. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.example_gen import choice
from components.serving_canary import server
from pipeline.config import (
    ConfigError,
    RunConfig,
    TrainConfig,
    override,
    parse_assignment,
)
from pipeline.presets import ANY, PRESETS, layers
from trainer import features, units

_PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Resolved:
    """A configuration that can run."""

    config: RunConfig
    data_reason: str  # why this data set, one sentence
    fingerprint: str  # of the data source; part of the cache key of ExampleGen


def resolve(
    assignments: Sequence[str], environment: Mapping[str, str], directory: str
) -> Resolved:
    """Applies preset and overrides to the defaults and checks the whole.

    Args:
        assignments: `name=value` texts, later ones win.
        environment: For TFDS_DATA_DIR.
        directory: Where relative paths start.

    Raises:
        ConfigError: Any field that cannot be used; the message says why.
        components.example_gen.layout.DataError: data.path cannot be used.
    """
    overrides = dict(map(parse_assignment, assignments))
    # Everything is checked once before `auto` may ask the network.
    asked = override(RunConfig(), overrides)
    if asked.preset not in PRESETS:
        raise ConfigError(f"preset={asked.preset}: must be one of {', '.join(PRESETS)}")
    tfds_dir = asked.data.tfds_dir or environment.get("TFDS_DATA_DIR") or None
    if tfds_dir:
        tfds_dir = _absolute(tfds_dir, directory)
    path = _absolute(asked.data.path, directory) if asked.data.path else None
    name, reason = asked.data.name, "as configured"
    if name == "auto":
        name, reason = choice.resolve_auto(tfds_dir, path=path)
    config = RunConfig()
    recipe = overrides.get("train.recipe")
    for row in layers(asked.preset, recipe, name, _depth(asked, overrides)):
        config = override(config, row)
    config = override(config, overrides)
    config = override(
        config,
        {
            "data.name": name,
            "data.tfds_dir": tfds_dir,
            "data.path": path,
            # The default lies beside the pipeline, so that a run is found again (and its
            # cache with it) from whatever folder the next command is given.
            "output_root": _absolute(
                config.output_root,
                directory if "output_root" in overrides else str(_PROJECT),
            ),
        },
    )
    _check(config)
    return Resolved(config, reason, choice.fingerprint(config.data))


def _absolute(path: str, directory: str) -> str:
    """Local paths from `directory`; gs:// and the like stay as they are."""
    if "://" in path:
        return path
    return os.path.abspath(os.path.join(directory, os.path.expanduser(path)))


def _depth(asked: RunConfig, overrides: Mapping[str, str]) -> int:
    """Depth of the candidate that will be trained."""
    name = PRESETS[asked.preset][ANY]["candidate.network"]
    name = overrides.get("candidate.network", name)
    return _network("candidate", name).depth


def _network(role: str, name: str) -> units.NetworkSpec:
    try:
        return units.parse_network(name)
    except ValueError as error:
        raise ConfigError(f"{role}.network={name}: {error}") from None


def _check(config: RunConfig) -> None:
    """What one field alone cannot tell."""
    for role in ("baseline", "candidate"):
        spec = _network(role, getattr(config, role).network)
        if spec.family != "cifar":
            raise ConfigError(
                f"{role}.network={spec.name}: takes images of 224 x 224 pixels; these "
                "are 32 x 32, choose a network without imagenet in its name"
            )
    _check_replicas(config.train)
    try:
        server.check(config.canary.server)
    except server.ServerMissing as error:
        raise ConfigError(str(error)) from None
    if config.data.name == "digits" and config.data.path:
        raise ConfigError(
            f"data.path={config.data.path}: digits come with scikit-learn and are read "
            "from nowhere else; leave data.path out"
        )
    try:
        features.class_names(config.data.name, config.data.label)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", config.pipeline_name):
        raise ConfigError(
            f"pipeline_name={config.pipeline_name}: must be lower-case letters, digits "
            "and dashes, at most 128 (Vertex AI's rule)"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", config.serving.model_name):
        raise ConfigError(
            f"serving.model_name={config.serving.model_name}: must be letters, digits, "
            "dots, dashes and underscores, at most 128"
        )


def _check_replicas(train: TrainConfig) -> None:
    """Strategy, replicas and batch must fit together before anything starts."""
    replicas = train.replicas or 1
    if replicas > 1 and train.strategy not in ("mirrored", "tpu"):
        raise ConfigError(
            f"train.replicas={replicas}: train.strategy={train.strategy} does not take a "
            "number of replicas; choose train.strategy=mirrored"
        )
    if train.global_batch_size % replicas:
        raise ConfigError(
            f"train.global_batch_size={train.global_batch_size}: must divide by "
            f"train.replicas={replicas}, every replica gets the same share"
        )
    if train.last_batch == "keep" and (replicas > 1 or train.strategy == "tpu"):
        raise ConfigError(
            "train.last_batch=keep: an incomplete batch cannot be shared out; choose "
            "train.last_batch=drop with several replicas"
        )
