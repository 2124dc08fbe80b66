"""`python -m pipeline.vertex.steps.push.serve`: serves a model in a container of Vertex AI.

Vertex AI says by environment variables which model (AIP_STORAGE_URI, a folder with a
SavedModel; MODEL_NAME and MODEL_VERSION are set with the model, pipeline/vertex/steps/push/
registry.py) and on which port (AIP_HTTP_PORT). This copies the model to a folder as
TensorFlow Serving wants it and becomes the embedded server.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from components.atomic_pusher import ledger, object_storage


def main(environment: Mapping[str, str]) -> None:
    """Becomes the server."""
    base = Path(tempfile.mkdtemp(prefix="model-"))
    command = prepare(environment, base)
    os.execv(command[0], command)


def prepare(environment: Mapping[str, str], base: Path) -> list[str]:
    """Copies the model below a folder and returns the server's command.

    Raises:
        PublishError: The model cannot be read.
    """
    uri, name = environment["AIP_STORAGE_URI"], environment["MODEL_NAME"]
    with ledger.errors(f"{uri} cannot be copied"):
        object_storage.download(uri, base / name / environment["MODEL_VERSION"])
    return [
        sys.executable,
        "-m",
        "serving.server",
        "--bind_address=0.0.0.0",
        f"--rest_api_port={environment['AIP_HTTP_PORT']}",
        f"--model_name={name}",
        f"--model_base_path={base / name}",
    ]


if __name__ == "__main__":
    main(os.environ)
