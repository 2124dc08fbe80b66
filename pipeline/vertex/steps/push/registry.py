"""A published version as a version of a model in Vertex AI's Model Registry.

`v<version>`, an alias, marks what this project registered: it leads from a push to its
version in the registry, so that a repeated task finds what it has made.
"""

from __future__ import annotations

import datetime
from typing import Any

from components.atomic_pusher.ledger import Entry
from pipeline.vertex.names import label
from pipeline.vertex.steps.push.patience import Patience, ensure, read, settle
from pipeline.vertex.steps.push.settings import Settings

PORT = 8080
SERVE = ("python", "-m", "pipeline.vertex.steps.push.serve")
_UPLOAD_SECONDS = 1800.0
# A copy of the model, TensorFlow's import and the first answer take a minute or two; machine
# and image take several more.
_START_SECONDS, _PROBE_SECONDS = 600, 10
_DEPLOYMENT_SECONDS = 1800


def register(
    client: Any, settings: Settings, entry: Entry, uri: str, patience: Patience
) -> str:
    """Registers a version and moves the alias to it.

    Args:
        client: aiplatform_v1.ModelServiceClient of the region.
        settings: Which model, image and alias.
        entry: What was published.
        uri: Its gs:// folder.
        patience: How long to wait.

    Returns:
        Resource name with the registry's own version number, `.../models/<id>@<number>`.
    """
    model = f"{settings.parent}/models/{settings.model_name}"

    def look() -> Any:
        return read(client.get_model, name=f"{model}@v{entry.version}")

    if look() is None:
        settle(client, model, patience)

    def upload() -> Any:
        known = read(client.get_model, name=model) is not None
        target = {"parent_model": model} if known else {"model_id": settings.model_name}
        return client.upload_model(
            request={
                "parent": settings.parent,
                "model": describe(settings, entry, uri),
                **target,
            },
            timeout=_UPLOAD_SECONDS,
        )

    found = ensure(look, upload, patience)
    name = f"{model}@{found.version_id}"
    if settings.alias not in found.version_aliases:

        def moved() -> Any:
            aliased = read(client.get_model, name=f"{model}@{settings.alias}")
            same = aliased is not None and aliased.version_id == found.version_id
            return True if same else None

        def move() -> None:
            # Vertex AI takes the alias away from the version that had it.
            client.merge_version_aliases(
                name=name, version_aliases=[settings.alias], timeout=60.0
            )

        ensure(moved, move, patience)
    return name


def describe(settings: Settings, entry: Entry, uri: str) -> Any:
    """The Model message of one version."""
    from google.cloud import aiplatform_v1

    origin = entry.origin
    labels = {
        "push": str(entry.version),
        "network": origin.network,
        "role": origin.role,
        "run": origin.run,
        "pipeline": origin.pipeline,
        "data": origin.dataset,
    }
    return aiplatform_v1.Model(
        display_name=settings.model_name,
        description="Residual network on CIFAR, published by its TFX pipeline.",
        version_description=origin.reason or "",
        version_aliases=[f"v{entry.version}"],
        artifact_uri=uri,
        container_spec=container(settings, entry.version),
        labels={name: label(value) for name, value in labels.items() if value},
        encryption_spec=settings.kms_key
        and aiplatform_v1.EncryptionSpec(kms_key_name=settings.kms_key),
    )


def container(settings: Settings, version: int) -> Any:
    """How the model is served.

    An image that is neither this project's nor Google's must serve the SavedModel at
    $AIP_STORAGE_URI on $AIP_HTTP_PORT by TensorFlow Serving's REST interface.
    """
    from google.cloud import aiplatform_v1

    if settings.prebuilt_image:
        return aiplatform_v1.ModelContainerSpec(image_uri=settings.image)
    route = f"/v1/models/{settings.model_name}"
    return aiplatform_v1.ModelContainerSpec(
        image_uri=settings.image,
        command=list(SERVE) if settings.own_image else [],
        env=[
            aiplatform_v1.EnvVar(name="MODEL_NAME", value=settings.model_name),
            aiplatform_v1.EnvVar(name="MODEL_VERSION", value=str(version)),
        ],
        ports=[aiplatform_v1.Port(container_port=PORT)],
        predict_route=f"{route}:predict",
        health_route=route,
        # The model's address answers once it is loaded: until then nothing is asked of the
        # container, and it is not taken for dead.
        startup_probe=aiplatform_v1.Probe(
            http_get=aiplatform_v1.Probe.HttpGetAction(path=route, port=PORT),
            period_seconds=_PROBE_SECONDS,
            timeout_seconds=_PROBE_SECONDS,
            failure_threshold=_START_SECONDS // _PROBE_SECONDS,
        ),
        deployment_timeout=datetime.timedelta(seconds=_DEPLOYMENT_SECONDS),
    )
