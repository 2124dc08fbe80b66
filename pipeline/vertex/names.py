"""How things are named on Google Cloud: one table, and the sentence for what breaks it.

Standard library only. Sources: the documentation of Resource Manager (project ids), IAM
(service accounts), Compute Engine (networks), Cloud Storage (buckets, objects), Artifact
Registry and the distribution specification (images), and Vertex AI (job, model, alias and
endpoint names), read in November 2026.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from contract.config.run import RunConfig
from contract.fields import ConfigError, value_of

_PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
_REGION = r"[a-z]+-[a-z]+[0-9]+"
_HOST = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?"
_FOLDER = r"(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+"
_RESOURCE = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"  # a name in Compute Engine
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

_OPTION = r"--[a-z][a-z0-9_]*(=[A-Za-z0-9._:/@=-]+)?"


@dataclass(frozen=True)
class Name:
    """The form of one field's value."""

    pattern: str
    rule: str  # "must be ...", with an example


_SERVICE_ACCOUNT = Name(
    rf"([a-z][a-z0-9-]{{4,28}}[a-z0-9]@{_PROJECT}\.iam|"
    rf"[0-9]+-compute@developer|{_PROJECT}@appspot)\.gserviceaccount\.com",
    "a service account's address, such as "
    "cifar-pipeline@my-project.iam.gserviceaccount.com",
)

# What is None is not looked at. A job's id is the pipeline's name, a dash and 14 digits, of
# at most 128 characters that begin with a letter.
NAMES: Mapping[str, Name] = {
    "vertex.project": Name(
        _PROJECT,
        "a project id, 6 to 30 lower-case letters, digits and dashes that begin with a "
        "letter (not the project's title or number)",
    ),
    "vertex.repository": Name(
        _HOST + _FOLDER,
        "host and path of a container repository, without a tag, such as "
        "us-central1-docker.pkg.dev/my-project/cifar-resnet",
    ),
    "vertex.image_tag": Name(
        r"(?!latest$)" + _TAG,
        "a fixed tag of letters, digits, dots, dashes and underscores, at most 128 "
        "(latest would name another image tomorrow)",
    ),
    "vertex.serving_image": Name(
        rf"{_HOST}{_FOLDER}(:{_TAG}|@sha256:[0-9a-f]{{64}})",
        "an image with its tag or digest, such as "
        "us-central1-docker.pkg.dev/my-project/cifar-resnet/serving:0.1.0",
    ),
    "vertex.service_account": _SERVICE_ACCOUNT,
    "vertex.beam_service_account": _SERVICE_ACCOUNT,
    "vertex.network": Name(
        rf"projects/[0-9]+/global/networks/{_RESOURCE}",
        "projects/<number>/global/networks/<name>, with the project's number",
    ),
    "vertex.beam_endpoint": Name(
        r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[0-9]{1,5}",
        "host:port, such as flink.internal:8099",
    ),
    "vertex.beam_arguments": Name(
        rf"{_OPTION}(,{_OPTION})*",
        "options of Beam, divided by commas, such as "
        "--number_of_worker_harness_threads=4,--labels=team=vision",
    ),
    "serving.registry_alias": Name(
        r"(?!(v[0-9]+|default)$)[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]",
        "letters, digits and dashes that begin with a lower-case letter and end with one "
        "or a digit; not default, nor v and a number, which name single versions",
    ),
    "serving.endpoint": Name(
        # The service chooses numbers; ids that somebody chose may be texts.
        rf"(projects/({_PROJECT}|[0-9]+)/locations/{_REGION}/endpoints/)?"
        r"([0-9]{1,20}|[a-z]([a-z0-9-]{0,61}[a-z0-9])?)",
        "an endpoint's id, a number or lower-case letters, digits and dashes, or "
        "projects/<project>/locations/<region>/endpoints/<id>",
    ),
    "vertex.reservation": Name(
        rf"projects/({_PROJECT}|[0-9]+)/zones/{_REGION}-[a-z]/reservations/{_RESOURCE}",
        "projects/<project>/zones/<zone>/reservations/<name>",
    ),
    "vertex.network_attachment": Name(
        rf"projects/({_PROJECT}|[0-9]+)/regions/{_REGION}/networkAttachments/{_RESOURCE}",
        "projects/<project>/regions/<region>/networkAttachments/<name>",
    ),
    "vertex.endpoint_projects": Name(
        rf"{_PROJECT}(,{_PROJECT})*",
        "ids of projects, divided by commas, such as my-project,our-clients",
    ),
    "vertex.beam_subnetwork": Name(
        rf"(https://www\.googleapis\.com/compute/v1/projects/{_PROJECT}/)?"
        rf"regions/{_REGION}/subnetworks/{_RESOURCE}",
        "regions/<region>/subnetworks/<name>, or in a shared network "
        "https://www.googleapis.com/compute/v1/projects/<project>/regions/<region>/"
        "subnetworks/<name>",
    ),
    "vertex.kms_key": Name(
        rf"projects/{_PROJECT}/locations/{_REGION}/keyRings/[A-Za-z0-9_-]{{1,63}}/"
        r"cryptoKeys/[A-Za-z0-9_-]{1,63}",
        "projects/<project>/locations/<region>/keyRings/<ring>/cryptoKeys/<key>",
    ),
    "vertex.experiment": Name(
        r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?",
        "lower-case letters, digits and dashes, at most 50",
    ),
    "vertex.tensorboard": Name(
        rf"projects/({_PROJECT}|[0-9]+)/locations/{_REGION}/tensorboards/[0-9]{{1,20}}",
        "projects/<project>/locations/<region>/tensorboards/<number>",
    ),
    "pipeline_name": Name(
        r"[a-z][a-z0-9-]{0,112}",
        "lower-case letters, digits and dashes that begin with a letter, at most 113: a "
        "run's id adds the time",
    ),
}
_MODEL_ID = Name(
    r"[a-z_][a-z0-9_-]{0,62}",
    "lower-case letters, digits, dashes and underscores, at most 63, that begin with a "
    "letter or underscore: it becomes an id in Model Registry",
)
# Fields that are addresses in object storage.
ADDRESSES = (
    *("output_root", "data.path", "data.tfds_dir", "data.extra"),
    *("serving.base_directory", "batch_predict.images"),
    *("baseline.initial_weights", "candidate.initial_weights"),
)


def check(config: RunConfig) -> None:
    """Refuses names that Google Cloud would refuse.

    Raises:
        ConfigError: One sentence with field, value, rule and remedy.
    """
    if config.vertex.project is None:
        raise ConfigError(
            "vertex.project=None: must be the id of a Google Cloud project; give "
            "--project, or vertex.project"
        )
    check_forms(config)
    if config.serving.push != "directory":
        _match("serving.model_name", config.serving.model_name, _MODEL_ID)


def check_forms(config: RunConfig, section: str = "") -> None:
    """As `check`, of the forms of names alone; of all sections, or of one ("vertex.")."""
    for field, name in NAMES.items():
        if field.startswith(section):
            _match(field, value_of(config, field), name)


def _match(field: str, value: str | None, name: Name) -> None:
    if value is not None and not re.fullmatch(name.pattern, value):
        raise ConfigError(f"{field}={value}: must be {name.rule}")


def label(text: str) -> str:
    """The value of a label that stands for a text: what is too long keeps its digest.

    A label takes 63 characters, a run's id up to 127.
    """
    value = re.sub(r"[^a-z0-9_-]", "-", text.lower())
    if len(value) <= _LONGEST_LABEL:
        return value
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{value[: _LONGEST_LABEL - 17]}-{digest}"


_LONGEST_LABEL = 63
_LABEL = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
# Longer folders leave too little of the 1,024 bytes of an object's name.
_LONGEST_FOLDER = 400


def check_address(field: str, value: str) -> None:
    """Refuses what is no folder in Cloud Storage.

    Raises:
        ConfigError: One sentence with field, value, rule and remedy.
    """
    start = f"{field}={value}: "
    if not value.startswith("gs://"):
        raise ConfigError(
            f"{start}on Vertex AI must be an address in Cloud Storage, gs://bucket/folder; "
            "its machines see no disk of this one"
        )
    bucket, _, folder = value.removeprefix("gs://").partition("/")
    if (
        len(bucket) < 3
        or len(bucket) > (222 if "." in bucket else 63)
        or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", bucket)
        or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", bucket)
    ):
        raise ConfigError(
            f"{start}{bucket or 'nothing'} cannot be a bucket's name: 3 to 63 lower-case "
            "letters, digits, dashes and underscores that begin and end with a letter or "
            "digit"
        )
    if bucket.startswith("goog") or "google" in bucket:
        raise ConfigError(
            f"{start}{bucket} cannot be a bucket's name: Google keeps goog and google for "
            "itself"
        )
    parts = folder.split("/") if folder else []
    if len(folder) > _LONGEST_FOLDER or not all(
        re.fullmatch(r"[A-Za-z0-9_.=+@-]+", part) and part not in (".", "..")
        for part in parts
    ):
        raise ConfigError(
            f"{start}the folder must be names of letters, digits and any of _ . = + @ - "
            f"between single slashes, at most {_LONGEST_FOLDER} characters"
        )
