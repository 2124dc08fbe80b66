"""What the blocking and the asynchronous client have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from serving.client import retry as retries
from serving.client.errors import DeadlineExceeded, ServingError
from serving.client.options import (
    MASK,
    TLS,
    Config,
    Retry,
    Timeouts,
    parse_address,
    parse_metadata,
)
from serving.client.results import VersionStatus

# An array uint8 [height, width, channels], a Pillow image, a path, or a file's bytes.
Image = Any
# An Image, an array [n, height, width, channels], or an iterable of Images.
Images = Any

DEFAULT_ADDRESS = "localhost:8500"
DEFAULT_MODEL = "cifar"
DEFAULT_SIGNATURE = "serving_default"
_FIRST_POLL, _LONGEST_POLL = 0.05, 1.0  # seconds between questions for readiness


class Configured:
    """What both clients are made of."""

    def __init__(  # noqa: PLR0913 - one keyword for each choice
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        version_label: str | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        tls: TLS | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        batch_size: int = 128,
        in_flight: int = 4,
        resize: bool = False,
    ) -> None:
        """Checks the choices; nothing is sent before the first call.

        Args:
            address: "host:8500", "grpcs://host:8500", "unix:/path", "dns:///name:8500" for
                gRPC, "http://host:8501" or "https://..." for REST.
            model: Name on the server.
            version: Ask this version only (default: the newest).
            version_label: Ask the version with this label.
            timeouts: See `Timeouts`.
            retry: See `Retry`.
            tls: See `TLS`; needed for grpcs:// and https:// only to change its defaults.
            metadata: Sent along with each call, e.g. {"authorization": "Bearer ..."}.
            batch_size: Most images in one request.
            in_flight: Most requests at a time.
            resize: Bring pictures of other sizes to the model's: the shorter side is
                scaled, the middle square cut (see `serving.client.pictures`); needs Pillow.

        Raises:
            InvalidInput: A choice that cannot be meant.
        """
        self._config = Config(
            address=parse_address(address),
            model=model,
            version=version,
            version_label=version_label,
            timeouts=timeouts or Timeouts(),
            retry=retry or Retry(),
            tls=tls,
            metadata=parse_metadata(metadata),
            batch_size=batch_size,
            in_flight=in_flight,
            resize=resize,
        )

    def __repr__(self) -> str:
        config = self._config
        parts = [repr(config.address.text), f"model={config.model!r}"]
        if config.version is not None:
            parts.append(f"version={config.version}")
        if config.version_label is not None:
            parts.append(f"version_label={config.version_label!r}")
        if config.metadata:
            masked = {key: MASK for key, _ in config.metadata}
            parts.append(f"metadata={masked}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _attempts(self, until: float | None) -> retries.Attempts:
        return retries.Attempts(
            self._config.retry, self._config.timeouts.request, until
        )


class Patience:
    """What `wait_until_ready` knows while it asks again and again."""

    def __init__(self, config: Config, deadline_seconds: float) -> None:
        self._end = retries.end_of(deadline_seconds)
        self._config = config
        self._deadline_seconds = deadline_seconds
        self._reason = ""
        self._cut = False  # whether a question ends with us, before its own time
        self._pause = _FIRST_POLL
        self._over: DeadlineExceeded | None = None

    def seconds_left(self) -> float:
        """For the next question."""
        assert self._end is not None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._given_up()
        self._cut = left < self._config.timeouts.request
        return min(left, self._config.timeouts.request)

    def ready(self, versions: list[VersionStatus]) -> VersionStatus | None:
        """The version that can answer, if there is one."""
        available = [entry for entry in versions if entry.state == "AVAILABLE"]
        if available:
            return available[0]
        self._reason = "; ".join(
            f"version {entry.version} is {entry.state} {entry.error_message}".strip()
            for entry in versions
        )
        return None

    def failed(self, error: ServingError) -> None:
        """Notes why there was no answer; raises when there is no time for another."""
        if error is self._over:  # our own end, not that of one question
            raise error
        if self._cut and self._reason and isinstance(error, DeadlineExceeded):
            return  # our end is no fault of the server: what it said before is the reason
        self._reason = str(error)

    def wait(self) -> float:
        """Seconds until the next question."""
        assert self._end is not None
        left = self._end - time.monotonic()
        if left <= self._pause:
            raise self._given_up()
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_POLL)
        return pause

    def _given_up(self) -> DeadlineExceeded:
        address = self._config.address.text
        self._over = DeadlineExceeded(
            f"{self._config.model} on {address} was not ready within "
            f"{self._deadline_seconds:g} s: {self._reason or 'nothing was tried'}",
            address=address,
        )
        return self._over
