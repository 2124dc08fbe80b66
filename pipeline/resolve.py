"""From what a person typed to one complete, checked RunConfig, in milliseconds.

Order: defaults, preset, recipe, the engine's row, a person's files, command line; a recipe
that a person did not ask for comes before the preset. `data.name=auto` is decided here,
before the preset's rows for a data set are taken. What only one engine asks for is in
pipeline/local/rules.py and pipeline/vertex/rules.py. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.example_gen import own_files, sources
from contract.config.run import RunConfig
from contract.config.train import TrainConfig
from contract.contenders import MOST_CONTENDERS, Contender
from contract.features import EVAL, TRAIN
from contract.fields import ConfigError, override, parse_assignments, value_of
from pipeline.presets import ANY, PRESETS, Row, layers
from trainer import initial_weights, units
from trainer import recipe as schedule
from trainer.tables import FAMILIES

# Where a value can come from, besides presets, recipes, data sets and files.
DEFAULT, ENGINE, COMMAND_LINE = "default", "engine", "command line"
AUTO, ENVIRONMENT = "auto", "environment"

_PROJECT = Path(__file__).parents[1]
# As serving/deploy takes it: a published name is hard to change.
_MODEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
# Its stem and stages leave a 32nd of each side.
_LEAST_IMAGENET_SIDE = 64


@dataclass(frozen=True)
class Resolved:
    """A configuration that can run."""

    config: RunConfig
    data_reason: str  # why this data set, one sentence
    # Dotted name -> where the value comes from, in words; all others are defaults.
    origins: Mapping[str, str]


class Rules(Protocol):
    """What resolving asks of the engine that will run the configuration; a module."""

    def places(
        self,
        asked: RunConfig,
        overrides: Mapping[str, str],
        environment: Mapping[str, str],
        directory: str,
    ) -> dict[str, str | None]:
        """The fields that say where files are, by dotted name, as this engine takes them."""
        ...

    def data_set(self, path: str | None, tfds_dir: str | None) -> tuple[str, str]:
        """What `data.name=auto` means, and why in a sentence."""
        ...

    def row(self, asked: RunConfig) -> Row:
        """What differs here from a preset; a person's overrides win."""
        ...

    def check(self, config: RunConfig) -> None:
        """Raises a ConfigError for what this engine cannot run."""
        ...


def resolve(
    assignments: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    rules: Rules,
    given_in: Mapping[str, str] | None = None,
) -> Resolved:
    """Applies preset and overrides to the defaults and checks the whole.

    Args:
        assignments: `name=value` texts, later ones win.
        environment: For TFDS_DATA_DIR; of a local run only.
        directory: Where relative paths start.
        rules: Of what will run it: pipeline.local.rules or pipeline.vertex.rules.
        given_in: Where the fields were given that were not on the command line.

    Raises:
        ConfigError: Any field that cannot be used; the message says why.
        components.example_gen.errors.DataError: data.path cannot be used.
    """
    overrides = parse_assignments(assignments)
    # Everything is checked once before `auto` may ask the network.
    asked = override(RunConfig(), overrides)
    if asked.preset not in PRESETS:
        raise ConfigError(f"preset={asked.preset}: must be one of {', '.join(PRESETS)}")
    found = rules.places(asked, overrides, environment, directory)
    name, reason = asked.data.name, "as configured"
    if name == "auto" and asked.data.tfds is not None:
        name, reason = own_files.NAME, f"data.tfds={asked.data.tfds} is given"
    elif name == "auto":
        name, reason = rules.data_set(found["data.path"], found["data.tfds_dir"])
    recipe = overrides.get("train.recipe")
    layered: list[tuple[str, Mapping[str, Any]]] = [
        *layers(asked.preset, recipe, name, _depth(asked, overrides)),
        *_imagenet_row(overrides, name),
        (ENGINE, rules.row(asked)),
        (COMMAND_LINE, overrides),
    ]
    config, origins = RunConfig(), dict[str, str]()
    for origin, row in layered:
        config = override(config, row)
        origins |= dict.fromkeys(row, origin)
    origins |= {k: v for k, v in (given_in or {}).items() if k in overrides}
    if asked.data.name == "auto":
        origins["data.name"] = AUTO
    for field, value in found.items():
        # What nobody gave can only have been found there.
        if value is not None and value_of(config, field) is None:
            origins[field] = ENVIRONMENT
    config = override(config, found | {"data.name": name})
    _check(config)
    rules.check(config)
    _check_length(config)
    return Resolved(config, reason, origins)


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


def absolute(path: str, directory: str) -> str:
    """Local paths from `directory`; gs:// and the like only lose a last slash."""
    if "://" in path:
        return path.rstrip("/")
    return os.path.abspath(os.path.join(directory, os.path.expanduser(path)))


def _depth(asked: RunConfig, overrides: Mapping[str, str]) -> int:
    """Depth of the candidate that will be trained."""
    name = PRESETS[asked.preset][ANY]["candidate.network"]
    name = overrides.get("candidate.network", name)
    return _network("candidate.network", name).depth


def _imagenet_row(overrides: Mapping[str, str], dataset: str) -> list[tuple[str, Row]]:
    """What follows, on one's own images, from an ImageNet network that a person asks for.

    Images of its papers' size, and for the other contender the other kind of its depth: a
    preset's network, made for small images, would take hours on these.
    """
    asked = {}
    for field in ("candidate.network", "baseline.network"):
        if (name := overrides.get(field)) is not None:
            asked[field] = _network(field, name)
    found = [spec for spec in asked.values() if spec.family == "imagenet"]
    if dataset != own_files.NAME or not found:
        return []
    depth = found[0].depth
    row: Row = {
        "data.image_size": FAMILIES["imagenet"].image_side,
        "baseline.network": f"imagenet_resnet{depth}",
        "candidate.network": f"imagenet_preact_resnet{depth}",
    }
    return [(f"network {found[0].name}", row)]


def _network(field: str, name: str) -> units.NetworkSpec:
    try:
        return units.parse_network(name)
    except ValueError as error:
        problem = str(error).removeprefix(f"network={name!r}: ")
        raise ConfigError(f"{field}={name}: {problem}") from None


def _check(config: RunConfig) -> None:
    """What one field alone cannot tell."""
    try:
        shape = sources.expected(config.data).pixels
    except ValueError as error:
        raise ConfigError(str(error)) from None
    side = shape[0]
    for contender in config.all_contenders:
        field = f"{contender.name}.network"
        if contender.name in config.contenders:
            field = f"contenders.{contender.name}"
        spec = _network(field, contender.network)
        if spec.family != "cifar" and side < _LEAST_IMAGENET_SIDE:
            raise ConfigError(
                f"{field}={spec.name}: is made for images of 224 x 224 pixels, and takes "
                f"{_LEAST_IMAGENET_SIDE} x {_LEAST_IMAGENET_SIDE} and more; these are {side} x "
                f"{side}, choose a network without imagenet in its name"
            )
        _check_weights(contender, spec, shape[2])
    _check_freeze(config)
    if len(config.all_contenders) > MOST_CONTENDERS:
        raise ConfigError(
            f"contenders: {len(config.all_contenders)} networks; at most {MOST_CONTENDERS} "
            "can be compared in one run, baseline and candidate among them"
        )
    if config.evaluation.crops != "center" and not config.data.encoded:
        raise ConfigError(
            f"evaluation.crops={config.evaluation.crops}: cuts several images out of a "
            "picture, and needs data.encoded=true; set it, or leave evaluation.crops out"
        )
    _check_replicas(config.train)
    if config.data.name == "digits" and config.data.path:
        raise ConfigError(
            f"data.path={config.data.path}: digits come with scikit-learn and are read "
            "from nowhere else; leave data.path out"
        )
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


def _check_weights(
    contender: Contender, spec: units.NetworkSpec, channels: int
) -> None:
    """Weights on this machine must be there and fit; others are looked at in the run."""
    path = contender.initial_weights
    if path is None or "://" in path:
        return
    source = initial_weights.find(path, f"{contender.name}.initial_weights")
    initial_weights.check(source, spec, channels)


def _check_freeze(config: RunConfig) -> None:
    last = config.train.freeze
    if last == "none":
        return
    tuned = [each for each in config.all_contenders if each.initial_weights]
    if not tuned:
        raise ConfigError(
            f"train.freeze={last}: no network starts from weights, and random ones would "
            "stay; give candidate.initial_weights, or leave train.freeze out"
        )
    for each in tuned:
        stages = len(units.parse_network(each.network).units_per_stage)
        if last.startswith("stage") and int(last.removeprefix("stage")) > stages:
            raise ConfigError(
                f"train.freeze={last}: {each.network} has {stages} stages; choose "
                f"train.freeze=stage{stages} or one before"
            )


def _check_replicas(train: TrainConfig) -> None:
    """Strategy, replicas and batch must fit together before anything starts."""
    replicas = train.replicas or 1
    if replicas > 1 and train.strategy not in ("mirrored", "multi_worker", "tpu"):
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
    several = replicas > 1 or tpu or train.strategy == "multi_worker"
    if train.last_batch == "keep" and several:
        raise ConfigError(
            "train.last_batch=keep: an incomplete batch cannot be shared out; choose "
            "train.last_batch=drop with several replicas"
        )


def _check_length(config: RunConfig) -> None:
    """Refuses a batch that is larger than the train split of the whole data set."""
    if config.data.path and config.data.allow_unverified:
        return  # a person's own files may be more, or fewer
    try:
        schedule.steps_per_epoch(config.train, train_images(config))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def train_images(config: RunConfig) -> int:
    """Images that are trained on, once the eval split is carved out."""
    counts = sources.expected(config.data).counts
    if EVAL in counts:
        return counts[TRAIN]
    return counts[TRAIN] - round(counts[TRAIN] * config.data.eval_fraction)
