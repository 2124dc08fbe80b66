"""From what a person typed to one complete, checked RunConfig, in milliseconds.

Order: defaults, preset, on Vertex AI the hardware's row, overrides. `data.name=auto` is
decided here, before the preset's rows for a data set are taken. Loads neither TensorFlow
nor TFX.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.example_gen import choice
from components.serving_canary import server
from contract import features, paths
from contract.config.run import RunConfig
from contract.config.train import TrainConfig
from contract.fields import ConfigError, override, parse_assignment, value_of
from pipeline.presets import ANY, PRESETS, layers
from pipeline.vertex import hardware, names, rules
from trainer import units

Engine = Literal["local", "vertex"]

_PROJECT = Path(__file__).parents[1]
# As serving/deploy takes it: a published name is hard to change.
_MODEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Resolved:
    """A configuration that can run."""

    config: RunConfig
    data_reason: str  # why this data set, one sentence
    # Of the data source, part of the cache key of ExampleGen; empty for Vertex AI, where
    # the run's first step takes it.
    fingerprint: str


def resolve(
    assignments: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    engine: Engine = "local",
) -> Resolved:
    """Applies preset and overrides to the defaults and checks the whole.

    For Vertex AI the answer depends on the assignments alone: whoever compiles, and the
    container that resolves them again in a run, get the same one.

    Args:
        assignments: `name=value` texts, later ones win.
        environment: For TFDS_DATA_DIR; of a local run only.
        directory: Where relative paths start.
        engine: What will run it.

    Raises:
        ConfigError: Any field that cannot be used; the message says why.
        components.example_gen.layout.DataError: data.path cannot be used.
    """
    overrides = dict(map(parse_assignment, assignments))
    # Everything is checked once before `auto` may ask the network.
    asked = override(RunConfig(), overrides)
    if asked.preset not in PRESETS:
        raise ConfigError(f"preset={asked.preset}: must be one of {', '.join(PRESETS)}")
    if engine == "local":
        found = _local_places(asked, overrides, environment, directory)
    else:
        found = _vertex_places(asked, overrides)
    path, tfds_dir = found["data.path"], found["data.tfds_dir"]
    name, reason = asked.data.name, "as configured"
    if name == "auto":
        if engine == "local" or path:
            # Of an address in object storage, the name alone is looked at.
            name, reason = choice.resolve_auto(tfds_dir, path=path)
        else:
            name, reason = "cifar10", "what auto means on Vertex AI"
    config = RunConfig()
    recipe = overrides.get("train.recipe")
    rows = layers(asked.preset, recipe, name, _depth(asked, overrides))
    if engine == "vertex":
        rows.append(hardware.of(asked.vertex).row)
    for row in rows:
        config = override(config, row)
    config = override(config, overrides)
    config = override(config, found | {"data.name": name})
    _check(config)
    if engine == "local":
        _check_local(config)
        return Resolved(config, reason, choice.fingerprint(config.data))
    _check_vertex(config)
    # What the data look like is the run's to find out: not every machine may see them.
    return Resolved(config, reason, "")


def output_root(config: RunConfig, overrides: Mapping[str, str], directory: str) -> str:
    """The folder that a run writes to: an absolute path, or an address in a bucket.

    The default lies beside the pipeline, so that a run is found again (and its cache with
    it) from whatever folder the next command is given.

    Args:
        config: With the overrides applied.
        overrides: What a person gave, by dotted name.
        directory: Where a relative path starts.
    """
    start = directory if "output_root" in overrides else str(_PROJECT)
    return absolute(config.output_root, start)


def _local_places(
    asked: RunConfig,
    overrides: Mapping[str, str],
    environment: Mapping[str, str],
    directory: str,
) -> dict[str, str | None]:
    """The fields that say where files are, as a local run takes them."""
    tfds_dir = asked.data.tfds_dir or environment.get("TFDS_DATA_DIR") or None
    path, base = asked.data.path, asked.serving.base_directory
    return {
        "data.tfds_dir": absolute(tfds_dir, directory) if tfds_dir else None,
        "data.path": absolute(path, directory) if path else None,
        "output_root": output_root(asked, overrides, directory),
        "serving.base_directory": absolute(base, directory) if base else None,
    }


def _vertex_places(
    asked: RunConfig, overrides: Mapping[str, str]
) -> dict[str, str | None]:
    """The same on Vertex AI: addresses in object storage, or nothing."""
    if "output_root" not in overrides:
        raise ConfigError(
            "output_root is missing: on Vertex AI it must be a folder in Cloud Storage, "
            "gs://bucket/folder"
        )
    found: dict[str, str | None] = {}
    for field in names.ADDRESSES:
        value = value_of(asked, field)
        if value is not None:
            value = value.rstrip("/")
            names.check_address(field, value)
        found[field] = value
    return found


def absolute(path: str, directory: str) -> str:
    """Local paths from `directory`; gs:// and the like only lose a last slash."""
    if "://" in path:
        return path.rstrip("/")
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
        problem = str(error).removeprefix(f"network={name!r}: ")
        raise ConfigError(f"{role}.network={name}: {problem}") from None


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
    if not _MODEL_NAME.fullmatch(config.serving.model_name):
        raise ConfigError(
            f"serving.model_name={config.serving.model_name}: must be letters, digits, "
            "dots, dashes and underscores, at most 63, a letter or digit first and last"
        )


def _check_local(config: RunConfig) -> None:
    """What this machine must have, and what only Vertex AI can do."""
    try:
        server.check(config.canary.server)
        server.check_temporary_folder(config.canary.server)
    except server.ServerMissing as error:
        raise ConfigError(str(error)) from None
    for field in ("output_root", "serving.base_directory"):
        if "://" in (value := value_of(config, field) or ""):
            raise ConfigError(
                f"{field}={value}: a local run publishes to local folders and keeps its "
                "metadata in a file there; give a local folder, or run on Vertex AI"
            )
        if (problem := paths.length_problem(value)) is not None:
            raise ConfigError(f"{field}={value}: {problem}")
    if config.serving.push != "directory":
        raise ConfigError(
            f"serving.push={config.serving.push}: a local run has no Model Registry; "
            "choose serving.push=directory, or run on Vertex AI"
        )
    train = config.train
    if train.tpu is not None and train.strategy not in ("auto", "tpu"):
        raise ConfigError(
            f"train.tpu={train.tpu}: train.strategy={train.strategy} trains on no TPU; "
            "choose train.strategy=tpu, or leave train.tpu out"
        )
    # A person's own files may be more, or fewer.
    if not (config.data.path and config.data.allow_unverified):
        rules.check_length(config)


def _check_vertex(config: RunConfig) -> None:
    """What Vertex AI's machines do not have, and what Google Cloud would refuse."""
    if config.canary.server != server.EMBEDDED:
        raise ConfigError(
            f"canary.server={config.canary.server}: the containers on Vertex AI have "
            "neither Docker nor this machine's programs; choose "
            f"canary.server={server.EMBEDDED}"
        )
    rules.check(config)


def _check_replicas(train: TrainConfig) -> None:
    """Strategy, replicas and batch must fit together before anything starts."""
    replicas = train.replicas or 1
    if replicas > 1 and train.strategy not in ("mirrored", "tpu"):
        fitting = "mirrored" if train.tpu is None else "tpu"
        raise ConfigError(
            f"train.replicas={replicas}: train.strategy={train.strategy} does not take a "
            f"number of replicas; choose train.strategy={fitting}"
        )
    if train.global_batch_size % replicas:
        raise ConfigError(
            f"train.global_batch_size={train.global_batch_size}: must divide by "
            f"train.replicas={replicas}, every replica gets the same share"
        )
    tpu = train.strategy == "tpu" or train.tpu is not None
    if train.last_batch == "keep" and (replicas > 1 or tpu):
        raise ConfigError(
            "train.last_batch=keep: an incomplete batch cannot be shared out; choose "
            "train.last_batch=drop with several replicas"
        )
