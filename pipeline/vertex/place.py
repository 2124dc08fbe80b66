"""Where on Google Cloud a command works: project, region, service, and names there.

Comes in: what a person typed, RUN or SCHEDULE as an id or a whole resource name, and the
variable that gcloud knows for another address of the service. Goes out: checked names,
addresses of the console's pages, ids of runs. Standard library only, until a service of
this machine is opened.
"""

from __future__ import annotations

import datetime
import re
import secrets
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from contract.config.vertex import VertexConfig
from contract.fields import ConfigError

# gcloud's own variable for another address of the service: private endpoints, tests.
ENDPOINT_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONSOLE = "https://console.cloud.google.com/vertex-ai/locations"
_PAGES = {"pipelineJobs": "pipelines/runs", "schedules": "pipelines/schedules"}
_LONGEST_NAME = 105  # a run's id adds 22 characters and has fewer than 128


class VertexError(Exception):
    """Vertex AI did not do what it was asked; the message is one line for a person."""


@dataclass(frozen=True)
class Place:
    """A project's region, and who answers there."""

    project: str
    region: str
    secure: bool = True  # TLS and credentials; never without but on this machine
    address: str = ""  # host or host:port; "": the region's own

    @property
    def target(self) -> str:
        """Host (and port) of the service."""
        return self.address or f"{self.region}-aiplatform.googleapis.com"

    @property
    def parent(self) -> str:
        """Resource name of the region in the project."""
        return f"projects/{self.project}/locations/{self.region}"

    def open_insecure(self, kind: Any) -> Any:
        """Google's client of a service where `secure` is false: no TLS, no credentials."""
        import grpc  # only here: commands that talk to nobody start without it

        transport = kind.get_transport_class("grpc")
        return kind(transport=transport(channel=grpc.insecure_channel(self.target)))

    def resource(self, collection: str, identifier: str) -> str:
        """Resource name of, for example, a run: collection "pipelineJobs"."""
        return f"{self.parent}/{collection}/{identifier}"

    def page(self, collection: str, identifier: str) -> str:
        """Address of the console's page."""
        return (
            f"{_CONSOLE}/{self.region}/{_PAGES[collection]}/{identifier}"
            f"?project={self.project}"
        )

    @property
    def options(self) -> str:
        """The options that name this place on a command line."""
        return f"--project {self.project} --region {self.region}"


def find(vertex: VertexConfig, environment: Mapping[str, str]) -> Place:
    """The place that a configuration and the environment name.

    Raises:
        ConfigError: No project, or a value that cannot be one.
    """
    if vertex.project is None:
        raise ConfigError(
            "vertex.project=None: must be the id of a Google Cloud project; give "
            "--project PROJECT"
        )
    # In an API's names a project is its id or its number.
    _match("vertex.project", vertex.project, r"[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]+")
    _match("vertex.region", vertex.region, r"[a-z]+(-[a-z]+)+[0-9]+")
    place = Place(vertex.project, vertex.region)
    other = environment.get(ENDPOINT_VARIABLE, "").strip()
    if not other:
        return place
    parts = urllib.parse.urlsplit(other if "//" in other else f"https://{other}")
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.path not in ("", "/")
        or (parts.scheme == "http" and parts.hostname not in _LOOPBACK)
    ):
        raise ConfigError(
            f"{ENDPOINT_VARIABLE}={other}: must be https://HOST, the service's address "
            "(http:// on this machine only); unset it for the region's own"
        )
    return replace(place, secure=parts.scheme == "https", address=parts.netloc)


def located(
    place: Place, collection: str, given: str, what: str
) -> tuple[Place, str | None]:
    """Takes a whole resource name apart.

    Args:
        place: Where it is if it is no whole name.
        collection: "pipelineJobs" or "schedules".
        given: `projects/P/locations/R/<collection>/ID`, or something shorter.
        what: What `given` is called in an error: RUN or SCHEDULE.

    Returns:
        Its place and id; None as id when it is no whole name.

    Raises:
        ConfigError: A resource name of something else.
    """
    if "/" not in given:
        return place, None
    pattern = rf"projects/([^/]+)/locations/([^/]+)/{collection}/([^/]+)"
    match = re.fullmatch(pattern, given)
    if match is None:
        raise ConfigError(
            f"{what}={given}: must be an id, or "
            f"projects/PROJECT/locations/REGION/{collection}/ID"
        )
    return replace(place, project=match[1], region=match[2]), match[3]


def new_run_id(pipeline_name: str, now: datetime.datetime) -> str:
    """An id that no other run has, so that asking twice cannot make two runs."""
    stamp = now.astimezone(datetime.UTC).strftime("%Y%m%d%H%M%S")
    return f"{pipeline_name[:_LONGEST_NAME].rstrip('-')}-{stamp}-{secrets.token_hex(3)}"


def check_run_id(run_id: str) -> None:
    """Refuses what Vertex AI takes for no run's id.

    Raises:
        ConfigError: With the rule.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,126}", run_id):
        raise ConfigError(
            f"--run_id={run_id}: must be lower-case letters, digits and dashes that "
            "begin with a letter, at most 127"
        )


def _match(field: str, value: str, pattern: str) -> None:
    if not re.fullmatch(pattern, value):
        example = {"vertex.project": "a project's id", "vertex.region": "a region"}
        raise ConfigError(
            f"{field}={value}: must be {example[field]}, such as "
            f"{'my-project-1' if 'project' in field else 'us-central1'}"
        )
