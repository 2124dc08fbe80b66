"""What a local run takes, and what this machine must have for it.

A module of the form of `pipeline.resolve.Rules`. Loads neither TensorFlow nor TFX.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from components.batch_predict import plan
from components.example_gen import choice, own_files, sources
from components.serving_canary import server
from contract import paths
from contract.config.data import DataConfig
from contract.config.run import RunConfig
from contract.contenders import BASELINE, CANDIDATE
from contract.fields import ConfigError, value_of
from pipeline.presets import Row
from pipeline.resolve import absolute, output_root


def places(
    asked: RunConfig,
    overrides: Mapping[str, str],
    environment: Mapping[str, str],
    directory: str,
) -> dict[str, str | None]:
    """Absolute paths; data may also be in object storage."""
    tfds_dir = asked.data.tfds_dir
    if "data.tfds_dir" not in overrides:  # "none" is a choice, too
        tfds_dir = environment.get("TFDS_DATA_DIR")
    path, base = asked.data.path, asked.serving.base_directory
    extra, images = asked.data.extra, asked.batch_predict.images
    weights = {
        f"{name}.initial_weights": absolute(given, directory) if given else None
        for name, given in (
            (BASELINE, asked.baseline.initial_weights),
            (CANDIDATE, asked.candidate.initial_weights),
        )
    }
    return {
        **weights,
        "data.extra": absolute(extra, directory) if extra else None,
        "data.tfds_dir": absolute(tfds_dir, directory) if tfds_dir else None,
        "data.path": absolute(path, directory) if path else None,
        "output_root": output_root(asked, overrides, directory),
        "serving.base_directory": absolute(base, directory) if base else None,
        "batch_predict.images": absolute(images, directory) if images else None,
    }


def data_set(path: str | None, tfds_dir: str | None) -> tuple[str, str]:
    """CIFAR-10 if it is here or can be had, else the digits."""
    return choice.resolve_auto(tfds_dir, path=path)


def row(asked: RunConfig) -> Row:  # noqa: ARG001
    """Nothing: presets are made for this machine."""
    return {}


def check(config: RunConfig) -> None:
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
        if value and _is_class(value, config.data):
            raise ConfigError(
                f"{field}={value}: lies in data.path={config.data.path}, whose folders are "
                "classes; give a folder elsewhere"
            )
    if config.serving.push != "directory":
        raise ConfigError(
            f"serving.push={config.serving.push}: a local run has no Model Registry; "
            "choose serving.push=directory, or run on Vertex AI"
        )
    images = config.batch_predict.images
    if images is not None and "://" not in images:
        plan.find_files(images, plan.FIELD)
    train = config.train
    if train.strategy == "multi_worker":
        raise ConfigError(
            "train.strategy=multi_worker: a local run trains on this machine alone; choose "
            "train.strategy=mirrored, or run on Vertex AI"
        )
    if train.tpu is not None and train.strategy not in ("auto", "tpu"):
        raise ConfigError(
            f"train.tpu={train.tpu}: train.strategy={train.strategy} trains on no TPU; "
            "choose train.strategy=tpu, or leave train.tpu out"
        )


def _is_class(folder: str, data: DataConfig) -> bool:
    """Whether what is written there would be images of one's own in the next run."""
    if data.name != own_files.NAME or data.path is None:
        return False
    return os.path.isdir(data.path) and own_files.is_inside(folder, data.path)


def fingerprint(config: RunConfig) -> str:
    """Of the files' digests, or whatever tells that they are others."""
    return sources.local_fingerprint(config.data)
