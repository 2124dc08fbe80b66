"""Writes a deployment folder: configuration files and the templates filled in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from serving.deploy import configuration
from serving.deploy.configuration import Versions
from serving.deploy.outputs import DeployError, PublishedModel

TEMPLATES = Path(__file__).parent / "templates"
RECORD = "deploy.json"  # says what was generated from what, and that a folder is ours
_SUFFIX = ".jinja"
_PART = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*"  # between two slashes of an image's name
_TAG, _DIGEST = r":\w[\w.-]{0,127}", "@sha256:[0-9a-f]{64}"
_IMAGE = re.compile(
    # registry:port/name:tag@digest
    rf"([A-Za-z0-9.-]+(:\d+)?/)?{_PART}(/{_PART})*({_TAG}({_DIGEST})?|{_DIGEST})",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the outputs of a run do not say."""

    versions: Versions = "latest"
    image: str = "tensorflow/serving:2.19.1"
    storage: str = "pvc://models"  # where KServe finds the models' folders
    cpus: int = 2  # of a replica
    memory: str = "2Gi"  # of a replica
    min_replicas: int = 2
    max_replicas: int = 10

    def __post_init__(self) -> None:
        if not _IMAGE.fullmatch(self.image):
            raise DeployError(
                f"--image={self.image}: an image's name with a tag or a digest is needed, "
                f"such as {Choices.image}"
            )
        if not re.fullmatch(r"[a-z0-9]+://[\w./-]+", self.storage, re.ASCII):
            raise DeployError(
                f"--storage={self.storage}: a URI is needed, such as pvc://models or "
                "gs://bucket/models"
            )
        if not re.fullmatch(r"[1-9][0-9]*(Mi|Gi)", self.memory):
            raise DeployError(f"--memory={self.memory}: write it as 512Mi or 2Gi")
        if not 1 <= self.cpus <= 1024:
            raise DeployError(f"--cpus={self.cpus} must be 1 to 1024")
        if not 1 <= self.min_replicas <= self.max_replicas <= 10_000:
            raise DeployError(
                f"--min_replicas={self.min_replicas} and --max_replicas="
                f"{self.max_replicas} must be 1 to 10,000, the first not above the second"
            )


def generate(
    models: Sequence[PublishedModel], choices: Choices, target: str | os.PathLike[str]
) -> list[Path]:
    """Writes all files.

    Args:
        models: From `outputs.read_outputs`.
        choices: The rest.
        target: Folder; new, empty, or made by this function before.

    Returns:
        The files, sorted.

    Raises:
        DeployError: The folder holds something else, or `render` refuses the models;
            nothing is written then.
    """
    folder = Path(target)
    if folder.exists() and not (folder / RECORD).is_file() and any(folder.iterdir()):
        raise DeployError(
            f"{folder}: is not empty and was not made by this command; choose another"
        )
    files = render(models, choices)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a running server may read its configuration at any moment.
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    return sorted(folder / name for name in files)


def render(models: Sequence[PublishedModel], choices: Choices) -> dict[str, str]:
    """All files as text, by their path in the deployment folder.

    Raises:
        DeployError: Two models would have one name in Kubernetes, or the stored batching
            parameters contradict themselves.
    """
    _check_slugs(models)
    configs = {
        "models.config": configuration.models_config(
            models, base="/models", versions=choices.versions
        ),
        "batching.config": configuration.batching_config(models, threads=choices.cpus),
        "monitoring.config": configuration.monitoring_config(),
    }
    names = [model.name for model in models]
    values = {
        "choices": choices,
        "models": models,
        "model": names[0],
        "app": f"{_slug(names[0])}-serving",
        "models_folder": str(models[0].folder.parent),
        "configs": configs,
        "arguments": _arguments(choices),
        "metrics_path": configuration.METRICS_PATH,
    }
    files = {f"tensorflow_serving/{name}": text for name, text in configs.items()}
    files |= _templates(values)
    record = {
        "image": choices.image,
        "models": {
            model.name: (
                configuration.pinned_versions(model)
                if choices.versions == "pinned"
                else {"newest": model.versions[-1]}
            )
            for model in models
        },
        "files": sorted(files),
    }
    return files | {RECORD: json.dumps(record, indent=2) + "\n"}


def _templates(values: Mapping[str, Any]) -> dict[str, str]:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML; tojson quotes what comes from outside
    )
    environment.filters["slug"] = _slug
    found = {}
    for path in sorted(TEMPLATES.rglob("*")):
        if path.is_file():
            name = path.relative_to(TEMPLATES).as_posix()
            found[name.removesuffix(_SUFFIX)] = (
                environment.get_template(name).render(values)
                if name.endswith(_SUFFIX)
                else path.read_text(encoding="utf-8")
            )
    return found


def _arguments(choices: Choices) -> list[str]:
    """tensorflow_model_server's flags, the same under Compose and Kubernetes."""
    flags = {
        "port": 8500,
        "rest_api_port": 8501,
        "model_config_file": "/config/models.config",
        "model_config_file_poll_wait_seconds": 30,
        "file_system_poll_wait_seconds": 5,
        "monitoring_config_file": "/config/monitoring.config",
        "enable_batching": "true",
        "batching_parameters_file": "/config/batching.config",
        "rest_api_timeout_in_ms": 30_000,
        "tensorflow_intra_op_parallelism": choices.cpus,
    }
    if choices.versions == "pinned":
        # Otherwise labels are refused until their versions have been loaded.
        flags["allow_version_labels_for_unavailable_models"] = "true"
    return [f"--{name}={value}" for name, value in flags.items()]


def _slug(name: str) -> str:
    """A name as Kubernetes takes it: an RFC 1123 label that begins with a letter."""
    # 63 characters at most, of which "model-" and "-serving-grpc" take 19.
    slug = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")[:44].strip("-")
    return slug if slug[:1].isalpha() else f"model-{slug}".rstrip("-")


def _check_slugs(models: Sequence[PublishedModel]) -> None:
    """Of two InferenceServices with one name, kubectl would keep the last."""
    taken: dict[str, PublishedModel] = {}
    for model in models:
        slug = _slug(model.name)
        other = taken.setdefault(slug, model)
        if other is not model:
            raise DeployError(
                f"{other.folder} and {model.folder}: in Kubernetes both would be named "
                f"{slug}, and names must differ; rename a folder, or choose by --model"
            )
