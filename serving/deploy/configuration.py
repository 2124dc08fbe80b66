"""TensorFlow Serving's configuration files, as protobuf text.

Formats: tensorflow_serving/config/model_server_config.proto, monitoring_config.proto and
servables/tensorflow/session_bundle_config.proto (BatchingParameters).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from serving.deploy.outputs import DeployError, PublishedModel

Versions = Literal["latest", "pinned"]

METRICS_PATH = "/monitoring/prometheus/metrics"
STABLE, PREVIOUS = "stable", "previous"  # version labels

_DEFAULT_BATCHING = """\
max_batch_size { value: 128 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
allowed_batch_sizes: 128
"""


def models_config(
    models: Iterable[PublishedModel], *, base: str, versions: Versions
) -> str:
    """A ModelServerConfig.

    Args:
        models: What to serve.
        base: Folder in which the server sees the models' folders.
        versions: "latest" follows each push; "pinned" serves the version in service as
            "stable" and the one before it as "previous", until the file is made again.
    """
    entries = []
    for model in models:
        lines = [
            f'name: "{model.name}"',
            f'base_path: "{base.rstrip("/")}/{model.name}"',
            'model_platform: "tensorflow"',
        ]
        if versions == "pinned":
            labels = pinned_versions(model)
            chosen = " ".join(f"versions: {version}" for version in labels.values())
            lines.append(f"model_version_policy {{ specific {{ {chosen} }} }}")
            lines += [
                f'version_labels {{ key: "{label}" value: {version} }}'
                for label, version in labels.items()
            ]
        else:
            lines.append("model_version_policy { latest { num_versions: 1 } }")
        body = "\n".join(f"    {line}" for line in lines)
        entries.append(f"  config {{\n{body}\n  }}\n")
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def pinned_versions(model: PublishedModel) -> dict[str, int]:
    """The versions to serve by label: the one in service, and the one before."""
    labels = (STABLE, PREVIOUS)
    return dict(zip(labels, reversed(model.versions), strict=False))


def monitoring_config() -> str:
    """A MonitoringConfig that turns the Prometheus page on."""
    return f'prometheus_config {{\n  enable: true\n  path: "{METRICS_PATH}"\n}}\n'


def batching_config(models: Sequence[PublishedModel], *, threads: int) -> str:
    """BatchingParameters: those stored with the first model, and the number of threads.

    Raises:
        DeployError: The stored ones contradict themselves.
    """
    text = models[0].batching or _DEFAULT_BATCHING
    largest = re.search(r"max_batch_size\s*\{\s*value\s*:\s*(\d+)", text)
    sizes = [int(size) for size in re.findall(r"allowed_batch_sizes\s*:\s*(\d+)", text)]
    if sizes and (largest is None or sizes[-1] != int(largest[1])):
        raise DeployError(
            f"{models[0].folder}: in batching_params.pbtxt the last of "
            f"allowed_batch_sizes, {sizes[-1]}, must be max_batch_size"
        )
    if "num_batch_threads" not in text:
        text = f"{text.rstrip()}\nnum_batch_threads {{ value: {threads} }}\n"
    return text
