"""A share of an Endpoint's traffic for a registered version.

The new version gets `canary_percent`, the version with the most traffic the rest; earlier
canaries get none and are removed. Deployment and traffic change in one request, after the
new version is ready.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.atomic_pusher.publish import PublishError
from pipeline.vertex.steps.push.patience import Patience, ensure, read, settle
from pipeline.vertex.steps.push.settings import Settings

# Of each deployed version. A 164-layer network answers in milliseconds on two cores, and
# TensorFlow takes about 1 GB: vertex.endpoint_machine_type may be small.
MIN_REPLICAS, MAX_REPLICAS = 1, 3

_NEW = "0"  # how a request names the version that it deploys
_CALL_SECONDS = 300.0


@dataclass(frozen=True)
class Deployed:
    """A version on an Endpoint."""

    endpoint: str  # resource name
    deployed_model: str  # id within the endpoint
    traffic_percent: int


def deploy(
    client: Any, settings: Settings, model: str, version: int, patience: Patience
) -> Deployed:
    """Deploys a registered version as a canary, and removes earlier canaries.

    A version that is deployed already keeps the traffic that it has: somebody may have
    changed it since.

    Args:
        client: aiplatform_v1.EndpointServiceClient of the region.
        settings: Which endpoint, how much traffic.
        model: Resource name of the registered version, with its number.
        version: The published version.
        patience: How long to wait.

    Raises:
        PublishError: The endpoint does not exist, or serves something unknown.
    """
    from google.cloud import aiplatform_v1

    name = _endpoint(client, settings, patience)
    label = f"{settings.model_name}-v{version}"

    def look() -> Any:
        endpoint = read(client.get_endpoint, name=name)
        return endpoint and next(
            (each for each in endpoint.deployed_models if each.display_name == label),
            None,
        )

    if look() is None:
        settle(client, name, patience)

    def start() -> Any:
        split = _split(client, name, settings)
        machine = aiplatform_v1.MachineSpec(machine_type=settings.machine_type)
        return client.deploy_model(
            request={
                "endpoint": name,
                "deployed_model": aiplatform_v1.DeployedModel(
                    model=model,
                    display_name=label,
                    dedicated_resources=aiplatform_v1.DedicatedResources(
                        machine_spec=machine,
                        min_replica_count=MIN_REPLICAS,
                        max_replica_count=MAX_REPLICAS,
                    ),
                ),
                "traffic_split": split,
            },
            timeout=_CALL_SECONDS,
        )

    new = ensure(look, start, patience)
    _remove_idle(client, name, new.id, settings, patience)
    endpoint = read(client.get_endpoint, name=name)
    share = dict(endpoint.traffic_split).get(new.id, 0) if endpoint else 0
    return Deployed(name, new.id, share)


def split(
    deployed: Iterable[str], traffic: Mapping[str, int], canary_percent: int
) -> dict[str, int]:
    """Traffic by id once a new version, "0", is there.

    Args:
        deployed: Ids that are deployed now.
        traffic: Their shares, in per cent.
        canary_percent: Share of the new one, unless it is alone.
    """
    shares = {each: traffic.get(each, 0) for each in deployed}
    stable = max(shares, key=lambda each: shares[each], default=None)
    if stable is None or not shares[stable] or canary_percent == 100:
        return {_NEW: 100}
    return {_NEW: canary_percent, stable: 100 - canary_percent}


def _endpoint(client: Any, settings: Settings, patience: Patience) -> str:
    """Resource name of the configured endpoint, or of the one named like the model."""
    given = settings.endpoint
    if given is not None:
        name = given if "/" in given else f"{settings.parent}/endpoints/{given}"
        if read(client.get_endpoint, name=name) is None:
            raise PublishError(
                f"serving.endpoint={given}: there is no such endpoint in "
                f"{settings.parent}; leave it out to have one made"
            )
        return name
    # A name of our own, so that a second try finds the endpoint of the first.
    number = re.sub(r"[^a-z0-9]+", "-", settings.model_name.lower()).strip("-")
    number = (number if number[:1].isalpha() else f"m-{number}")[:63].rstrip("-")
    name = f"{settings.parent}/endpoints/{number}"
    made: dict[str, Any] = {"display_name": settings.model_name}
    if settings.endpoint_projects is None:
        # Dedicated: an address of its own, larger requests, nobody else's traffic beside it.
        made["dedicated_endpoint_enabled"] = True
    else:
        made["private_service_connect_config"] = {
            "enable_private_service_connect": True,
            "project_allowlist": settings.endpoint_projects.split(","),
        }
    if settings.kms_key is not None:
        made["encryption_spec"] = {"kms_key_name": settings.kms_key}
    found = ensure(
        lambda: read(client.get_endpoint, name=name),
        lambda: client.create_endpoint(
            parent=settings.parent,
            endpoint=made,
            endpoint_id=number,
            timeout=_CALL_SECONDS,
        ),
        patience,
    )
    _check_reach(found, settings)
    return name


def _check_reach(endpoint: Any, settings: Settings) -> None:
    """An endpoint of an earlier push may be open to the internet, or closed to it.

    Which projects it lets in is not compared: the service may tell ids as numbers.
    """
    private = endpoint.private_service_connect_config.enable_private_service_connect
    if private != (settings.endpoint_projects is not None):
        reach = "Private Service Connect" if private else "the internet"
        raise PublishError(
            f"vertex.endpoint_projects={settings.endpoint_projects}: {endpoint.name} was "
            f"made for {reach}, which cannot be changed; delete it, or choose another "
            "serving.model_name"
        )


def _split(client: Any, name: str, settings: Settings) -> dict[str, int]:
    endpoint = read(client.get_endpoint, name=name)
    if endpoint is None:
        raise PublishError(f"{name}: the endpoint was removed meanwhile")
    traffic = dict(endpoint.traffic_split)
    names = {each.id: each.display_name for each in endpoint.deployed_models}
    found = split(names, traffic, settings.canary_percent)
    strangers = [
        names[each]
        for each in names
        if each not in found and traffic.get(each) and not _own(names[each], settings)
    ]
    if strangers:
        raise PublishError(
            f"{name}: serves {strangers[0]} too, which is no version of "
            f"{settings.model_name}; configure another serving.endpoint, or none"
        )
    return found


def _own(display_name: str, settings: Settings) -> bool:
    return bool(re.fullmatch(rf"{re.escape(settings.model_name)}-v\d+", display_name))


def _remove_idle(
    client: Any, name: str, new: str, settings: Settings, patience: Patience
) -> None:
    """Undeploys own versions without traffic: each costs its machine."""

    def idle() -> list[str]:
        endpoint = read(client.get_endpoint, name=name)
        if endpoint is None:
            return []
        return [
            each.id
            for each in endpoint.deployed_models
            if each.id != new
            and _own(each.display_name, settings)
            and not dict(endpoint.traffic_split).get(each.id)
        ]

    for number in idle():

        def gone(number: str = number) -> Any:
            return None if number in idle() else True

        def undeploy(number: str = number) -> Any:
            return client.undeploy_model(
                endpoint=name, deployed_model_id=number, timeout=_CALL_SECONDS
            )

        ensure(gone, undeploy, patience)
