"""What the outputs of a run do not say, and what follows from it.

All images of the generated files are named here; each may have its digest behind the tag.
Sources of the defaults' tags: tensorflow/serving's issue 4129 names 2.20.0 as the newest
release; of 2.20.0 no image for GPUs is named anywhere, of 2.19.1 one is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from serving.deploy.configuration import Versions
from serving.deploy.outputs import DeployError

IMAGE = "tensorflow/serving:2.20.0"
GPU_IMAGE = "tensorflow/serving:2.19.1-gpu"
SYNC_IMAGE = "rclone/rclone:1.75.1"  # github.com/rclone/rclone, tag v1.75.1
PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"
GRAFANA_IMAGE = "grafana/grafana:12.2.0"

_PART = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*"  # between two slashes of an image's name
_TAG, _DIGEST = r":\w[\w.-]{0,127}", "@sha256:[0-9a-f]{64}"
_IMAGE = re.compile(
    # registry:port/name:tag@digest
    rf"([A-Za-z0-9.-]+(:\d+)?/)?{_PART}(/{_PART})*({_TAG}({_DIGEST})?|{_DIGEST})",
    re.ASCII,
)
_FOR_GPUS = re.compile(r"(?<![a-z])gpu(?![a-z])", re.IGNORECASE)
_OFFICIAL = re.compile(r"((docker\.io|index\.docker\.io)/)?tensorflow/serving:")
_STORAGE = re.compile(r"([a-z0-9]+)://([\w.-]+)((?:/[\w.-]+)*)/*", re.ASCII)
# Names of rclone's backends.
_BUCKETS: dict[str, Literal["gcs", "s3"]] = {"gs": "gcs", "s3": "s3"}


class Bucket(NamedTuple):
    """Where the sidecar copies from."""

    type: Literal["gcs", "s3"]
    folder: str  # BUCKET or BUCKET/PATH; below it are the models' folders


class Claim(NamedTuple):
    """The volume that is mounted."""

    name: str  # of a PersistentVolumeClaim
    path: str  # in it, without a slash at its ends; below it are the models' folders


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the outputs of a run do not say."""

    versions: Versions = "latest"
    image: str = ""  # "": the official one, for GPUs if any are asked for
    storage: str = "pvc://models"  # URI of the models' folders
    cpus: int = 2  # of a replica
    gpus: int | None = None  # of a replica; None: one if the image is made for them
    memory: str | None = None  # of a replica; None: by the models
    min_replicas: int = 2
    max_replicas: int = 10

    def __post_init__(self) -> None:
        if self.gpus is not None and not 0 <= self.gpus <= 64:
            raise DeployError(f"--gpus={self.gpus} must be 0 to 64")
        image = self.image or (GPU_IMAGE if self.gpus else IMAGE)
        if not _IMAGE.fullmatch(image):
            raise DeployError(
                f"--image={image}: an image's name with a tag or a digest is needed, "
                f"such as {IMAGE}"
            )
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "gpus", _gpus(image, self.gpus))
        if not _STORAGE.fullmatch(self.storage):
            raise DeployError(
                f"--storage={self.storage}: a URI is needed, such as pvc://models or "
                "gs://bucket/models"
            )
        if self.bucket and self.versions == "pinned":
            raise DeployError(
                f"--versions=pinned: models.config in {self.storage} says which versions "
                "are served; leave it out, or take a volume claim"
            )
        if self.memory is not None and not re.fullmatch(
            r"[1-9][0-9]*(Mi|Gi)", self.memory
        ):
            raise DeployError(f"--memory={self.memory}: write it as 512Mi or 2Gi")
        if not 1 <= self.cpus <= 1024:
            raise DeployError(f"--cpus={self.cpus} must be 1 to 1024")
        if not 1 <= self.min_replicas <= self.max_replicas <= 10_000:
            raise DeployError(
                f"--min_replicas={self.min_replicas} and --max_replicas="
                f"{self.max_replicas} must be 1 to 10,000, the first not above the second"
            )

    @property
    def bucket(self) -> Bucket | None:
        """What `storage` names, if it is a bucket that the sidecar can read."""
        scheme, host, path = self._storage()
        return Bucket(_BUCKETS[scheme], host + path) if scheme in _BUCKETS else None

    @property
    def claim(self) -> Claim:
        """What `storage` names, or `models` where only KServe knows the scheme."""
        scheme, host, path = self._storage()
        return Claim(host, path.strip("/")) if scheme == "pvc" else Claim("models", "")

    def _storage(self) -> tuple[str, str, str]:
        found = _STORAGE.fullmatch(self.storage)
        assert found, "checked before"
        return found[1], found[2], found[3]


def _gpus(image: str, asked: int | None) -> int:
    """GPUs of a replica; an image of one kind and a number of the other are refused."""
    made_for_gpus = bool(_FOR_GPUS.search(image.rpartition("/")[2]))
    if made_for_gpus and asked == 0:
        raise DeployError(
            f"--gpus=0: {image} is made for GPUs; leave --gpus out, or take an image such "
            f"as {IMAGE}"
        )
    if asked and not made_for_gpus and _OFFICIAL.match(image):
        raise DeployError(
            f"--gpus={asked}: {image} cannot use a GPU; take an image such as {GPU_IMAGE}"
        )
    return int(made_for_gpus) if asked is None else asked
