"""Servers that the tests of this folder share; made when the first of them asks."""

from __future__ import annotations

import resource
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.serving.server import processes


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind, only to be read: tf2 (1 and 3), tf1, images."""
    from tests.serving.server import models

    root = tmp_path_factory.mktemp("models")
    models.write_tf2(root / "tf2" / "1")
    models.write_tf2(root / "tf2" / "3", shift=3.0)
    models.write_tf1(root / "tf1" / "1")
    models.write_images(root / "images" / "1")
    return root


def write_config(path: Path, root: Path) -> Path:
    """A model configuration file with all of `model_root`."""
    path.write_text(
        f"""
        model_config_list {{
          config {{
            name: "tf2" base_path: "{root}/tf2" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }}
            version_labels {{ key: "canary" value: 3 }}
            version_labels {{ key: "future" value: 9 }}
          }}
          config {{ name: "tf1" base_path: "{root}/tf1" model_platform: "tensorflow" }}
          config {{
            name: "images" base_path: "{root}/images" model_platform: "tensorflow"
          }}
        }}
        """
    )
    return path


@pytest.fixture(scope="session")
def server(model_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server in this process with all the models."""
    from serving.server import application
    from serving.server.flags import Flags

    config = write_config(tmp_path_factory.mktemp("config") / "models.txt", model_root)
    running = application.start(
        Flags(
            port=0,
            model_config_file=str(config),
            allow_version_labels_for_unavailable_models=True,
            enable_grpc_healthcheck_service=True,
        )
    )
    yield running
    running.stop(0)


@pytest.fixture(scope="session")
def process(
    model_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """A server as its users start it. The last one to use it may end it."""
    folder = tmp_path_factory.mktemp("process")
    socket = f"{folder}/a b%20#?ü"
    config = write_config(folder / "models.txt", model_root)
    monitoring = folder / "monitoring.txt"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, most_files))
    child = processes.start(
        "--port=-1",
        "--rest_api_port=-1",
        f"--monitoring_config_file={monitoring}",
        f"--model_config_file={config}",
        f"--grpc_socket_path={socket}",
        "--allow_version_labels_for_unavailable_models",
        "--enable_grpc_healthcheck_service=true",
        "--max_image_pixels=1000000",
        "--max_message_bytes=20000000",
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most_files))
    child.socket_path = socket
    child.socket = f"unix:{urllib.parse.quote(socket)}"  # a URI, to gRPC
    yield child
    if child.popen.poll() is None:
        child.popen.kill()
        child.popen.wait()
