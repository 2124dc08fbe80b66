"""Writes a deployment folder: configuration files and the templates filled in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from serving.deploy import configuration
from serving.deploy.choices import (
    GRAFANA_IMAGE,
    PROMETHEUS_IMAGE,
    SYNC_IMAGE,
    Choices,
)
from serving.deploy.memory import needed
from serving.deploy.outputs import DeployError, PublishedModel

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = Path(__file__).parent / "scripts"
RECORD = "deploy.json"  # says what was generated from what, and that a folder is ours
_SUFFIX = ".jinja"
_REST_PORT = 8501


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
    stale = _made_before(folder) - files.keys()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a running server may read its configuration at any moment.
        partial = path.with_name(f".{path.name}.part")
        partial.unlink(missing_ok=True)  # of a call that was killed, or somebody's link
        with partial.open("x", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    for name in stale:  # kubectl apply -f FOLDER would apply them too
        (folder / name).unlink(missing_ok=True)
    return sorted(folder / name for name in files)


def _made_before(folder: Path) -> set[str]:
    """What the record of an earlier call lists; a damaged record lists nothing."""
    try:
        files = json.loads((folder / RECORD).read_bytes())["files"]
        # A folder in it may be a link to another one.
        return {
            name
            for name in files
            if (folder / name).parent.resolve().is_relative_to(folder.resolve())
            and (folder / name).is_file()
        }
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()


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
        "ready.sh": _script("ready.sh"),
    }
    if choices.bucket:
        configs["sync.sh"] = _script("sync.sh")
    names = [model.name for model in models]
    memory = choices.memory or needed(models, choices.versions)
    alone = {
        model.name: choices.memory or needed([model], choices.versions)
        for model in models
    }
    values = {
        "choices": choices,
        "bucket": choices.bucket,
        "claim": choices.claim,
        "sync_image": SYNC_IMAGE,
        "prometheus_image": PROMETHEUS_IMAGE,
        "grafana_image": GRAFANA_IMAGE,
        "models": models,
        "model": names[0],
        "app": f"{_slug(names[0])}-serving",
        "memory": memory,
        "limits": _limits(memory, choices),
        "memory_of": alone,
        "limits_of": {name: _limits(each, choices) for name, each in alone.items()},
        "ready": _ready(names),
        "models_folder": str(models[0].folder.parent),
        "configs": configs,
        "arguments": _arguments(choices),
        "metrics_path": configuration.METRICS_PATH,
    }
    files = {f"tensorflow_serving/{name}": text for name, text in configs.items()}
    files |= _templates(values)
    record = {
        "image": choices.image,
        "memory": memory,
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


def _script(name: str) -> str:
    return (SCRIPTS / name).read_text(encoding="ascii")


def _ready(names: Sequence[str]) -> list[str]:
    """The probe's command. It ends by itself, before the probe's 5 s are over.

    Kubernetes does not end a command that is late (kubernetes/kubernetes, issue 110070):
    beside a server that hangs, there would be one more every few seconds.
    """
    script = ["bash", "/config/ready.sh", str(_REST_PORT), *names]
    return ["timeout", "4", *script]


def _limits(memory: str, choices: Choices) -> dict[str, str]:
    """Of a container. GPUs are requested by their limit."""
    gpus = {"nvidia.com/gpu": str(choices.gpus)} if choices.gpus else {}
    return {"memory": memory, **gpus}


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
    return {name: text for name, text in found.items() if text.strip()}


def _arguments(choices: Choices) -> list[str]:
    """tensorflow_model_server's flags, the same under Compose and Kubernetes."""
    flags = {
        "port": 8500,
        "rest_api_port": _REST_PORT,
        "model_config_file": "/config/models.config",
        "model_config_file_poll_wait_seconds": 30,
        "file_system_poll_wait_seconds": 5,
        "monitoring_config_file": "/config/monitoring.config",
        "enable_batching": "true",
        "batching_parameters_file": "/config/batching.config",
        "rest_api_timeout_in_ms": 30_000,
        "tensorflow_intra_op_parallelism": choices.cpus,
        # A client asks for the pods' addresses again when a connection ends; otherwise
        # pods that were added later would get no calls (grpc/grpc, issue 12295).
        "grpc_channel_arguments": "grpc.max_connection_age_ms=300000,"
        "grpc.max_connection_age_grace_ms=60000",
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
