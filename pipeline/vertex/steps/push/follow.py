"""Follows a push with Model Registry and Endpoint, and writes into the ledger what came of it.

Loads google-cloud-aiplatform's service clients when called; neither TensorFlow nor TFX.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from components.atomic_pusher import ledger, object_storage
from components.atomic_pusher.publish import PublishError
from contract import pushed_model as properties
from contract.comparison import Comparison
from contract.config.vertex import VertexConfig
from pipeline.vertex.place import find
from pipeline.vertex.steps.push import endpoint, evaluation, registry
from pipeline.vertex.steps.push.patience import Patience
from pipeline.vertex.steps.push.settings import Settings

_log = logging.getLogger(__name__)


def follow(
    settings: Settings,
    folder: ledger.Folder,
    version: int,
    patience: Patience,
    clients: tuple[Any, Any] | None = None,
) -> dict[str, str | int]:
    """Registers and deploys one published version, and adds the outcome to the ledger.

    Args:
        settings: What to do.
        folder: Where it was published.
        version: Which.
        patience: How long to wait for Vertex AI.
        clients: ModelServiceClient and EndpointServiceClient; made from the region and
            the environment's credentials if not given.

    Returns:
        Custom properties, by the names of contract/pushed_model.py.

    Raises:
        PublishError: Vertex AI refused, or the version is not in the ledger.
    """
    uri = folder.version_uri(version)
    with ledger.errors(f"{uri} was not registered in {settings.parent}"):
        models, endpoints = clients or _clients(settings)
        entry = ledger.read_entry(folder, version)
        if entry is None:
            raise PublishError(f"{uri}: was never published")
        name = registry.register(models, settings, entry, uri, patience)
        _log.info("%s is %s", uri, name)
        outcome: dict[str, str | int] = {
            properties.REGISTERED_MODEL: name,
            properties.REGISTERED_ALIAS: settings.alias,
        }
        if settings.deploy:
            deployed = endpoint.deploy(endpoints, settings, name, version, patience)
            _log.info("%s gets %d %%", name, deployed.traffic_percent)
            outcome |= {
                properties.ENDPOINT: deployed.endpoint,
                properties.DEPLOYED_MODEL: deployed.deployed_model,
                properties.TRAFFIC_PERCENT: deployed.traffic_percent,
            }
    object_storage.record_registered(folder, version, outcome)
    return outcome


def import_evaluations(  # noqa: PLR0913 - the same as `follow`, and what was measured
    settings: Settings,
    folder: ledger.Folder,
    version: int,
    registered: str,
    comparisons: Sequence[Comparison],
    patience: Patience,
    client: Any = None,
) -> list[str]:
    """Imports what was measured of a registered version, one evaluation per split.

    Args:
        settings: What to do.
        folder: Where the version was published.
        version: Which.
        registered: Its resource name in Model Registry.
        comparisons: Of the run that trained it.
        patience: How long to wait for Vertex AI.
        client: ModelServiceClient; made as in `follow` if not given.

    Returns:
        Resource names of the evaluations.

    Raises:
        PublishError: Vertex AI refused.
    """
    with ledger.errors(f"the evaluation of {registered} was not imported"):
        models = client or _clients(settings)[0]
        entry = ledger.read_entry(folder, version)
        if entry is None:
            raise PublishError(f"{folder.version_uri(version)}: was never published")
        found = [
            evaluation.import_evaluation(
                models,
                registered,
                comparison,
                entry.origin.role,
                entry.origin.run,
                patience,
            )
            for comparison in comparisons
        ]
    names = [name for name in found if name is not None]
    _log.info("%s has the evaluations %s", registered, ", ".join(names) or "none")
    return names


def _clients(settings: Settings) -> tuple[Any, Any]:
    from google.cloud import aiplatform_v1

    vertex = VertexConfig(project=settings.project, region=settings.region)
    place = find(vertex, os.environ)

    def connect(kind: Any) -> Any:
        if not place.secure:
            return place.open_insecure(kind)
        return kind(client_options={"api_endpoint": place.target})

    return (
        connect(aiplatform_v1.ModelServiceClient),
        connect(aiplatform_v1.EndpointServiceClient),
    )
