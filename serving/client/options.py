"""Choices of a caller as values: address, timeouts, retries, encryption, metadata.

All are frozen, checked when they are made, and show no secret in their `repr`.
"""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urlsplit

from serving.client.errors import InvalidInput

MASK = "***"


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds.

    Timeouts()                       30 s for each request, its retries included
    Timeouts(request=2)              2 s for each request
    Timeouts(connect=1)              1 s to reach the server, over REST and gRPC
    """

    request: float = 30.0
    connect: float = 5.0

    def __post_init__(self) -> None:
        for name in ("request", "connect"):
            check_seconds(f"Timeouts.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When and how often a failed request is repeated.

    Repeated are UNAVAILABLE and RESOURCE_EXHAUSTED only, and only because prediction,
    status and metadata change nothing on the server. The wait before repetition k (from
    0) is drawn between half of and all of `first_wait * 2**k`, at most `longest_wait`.
    Nothing is repeated once the deadline would pass while waiting.
    """

    attempts: int = 5  # the first one included; 1: never repeat
    first_wait: float = 0.1  # seconds
    longest_wait: float = 2.0  # seconds

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or not 1 <= self.attempts <= 100:
            raise InvalidInput(f"Retry.attempts={self.attempts!r} must be 1 to 100")
        check_seconds("Retry.first_wait", self.first_wait)
        check_seconds("Retry.longest_wait", self.longest_wait)

    def wait(self, failures: int) -> float:
        """Seconds to wait after that many failures (at least 1), with jitter."""
        # 2**60 s is beyond any longest_wait; larger exponents would overflow a float.
        full = min(self.first_wait * 2.0 ** min(failures - 1, 60), self.longest_wait)
        return full * random.uniform(0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class TLS:
    """Encryption; `TLS()` trusts the system's authorities.

    Args:
        ca: PEM file with the authorities to trust instead.
        certificate: PEM file with the client's own certificate chain (mutual TLS).
        key: PEM file with its private key; only together with `certificate`.
        server_name: Name to expect in the server's certificate, if not the address's.
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("TLS: certificate and key are given together or not")

    def read(self, name: Literal["ca", "certificate", "key"]) -> bytes | None:
        """Content of one of the files, or None if it was not given.

        Raises:
            InvalidInput: It cannot be read; the message names option and file.
        """
        path = getattr(self, name)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise InvalidInput(f"TLS.{name}: {path}: {error.strerror}") from None
        if b"-----BEGIN" not in content:
            raise InvalidInput(f"TLS.{name}: {path} is not a PEM file")
        return content


@dataclass(frozen=True)
class Address:
    """Where a server is; `parse_address` makes it."""

    transport: Literal["grpc", "rest"]
    target: str  # gRPC's name syntax, or the URL without a slash at its end
    secure: bool
    text: str  # as a person wrote it


@dataclass(frozen=True)
class Config:
    """Everything a client needs to know; the keyword arguments of `Classifier`."""

    address: Address
    model: str
    version: int | None
    version_label: str | None
    timeouts: Timeouts
    retry: Retry
    tls: TLS | None
    metadata: tuple[tuple[str, str | bytes], ...] = field(repr=False)
    batch_size: int
    in_flight: int
    resize: bool

    def __post_init__(self) -> None:
        if (
            not isinstance(self.model, str)
            or not self.model.isprintable()
            or not 0 < len(self.model) <= 1024
        ):
            raise InvalidInput(f"model={self.model!r} is not a model's name")
        if self.version is not None and self.version_label is not None:
            raise InvalidInput("version and version_label exclude each other")
        if self.version is not None and not (
            isinstance(self.version, int) and 0 <= self.version < 2**63
        ):
            raise InvalidInput(
                f"version={self.version!r} must be an int from 0 to 2^63-1"
            )
        label = self.version_label
        if label is not None and not (isinstance(label, str) and label.isprintable()):
            raise InvalidInput(f"version_label={label!r} is no label")
        if label == "":
            raise InvalidInput("version_label is empty")
        for name, high in (("batch_size", 65_536), ("in_flight", 256)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidInput(f"{name}={value!r} must be an int")
            if not 1 <= value <= high:
                raise InvalidInput(f"{name}={value} must be 1 to {high:,}")


def check_seconds(name: str, value: float) -> None:
    """Refuses what is no positive, finite number of seconds."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InvalidInput(f"{name}={value!r} must be a number of seconds above 0")


def parse_address(text: str) -> Address:
    """Reads "host:8500", "grpcs://host:8500", "unix:/path" or "http://host:8501".

    `dns:///host:8500` asks for all of a name's addresses and takes them in turn.

    Raises:
        InvalidInput: With what is missing and an example.
    """
    example = "for instance localhost:8500, unix:/run/model.sock, http://localhost:8501"
    if isinstance(text, str) and text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.strip("/"):
            raise InvalidInput(f"{text}: the socket's path is missing; {example}")
        # gRPC reads a URI, in which some characters of a path stand for others.
        return Address("grpc", f"unix:{quote(path)}", secure=False, text=text)
    if not isinstance(text, str) or not text or not text.isprintable() or " " in text:
        raise InvalidInput(f"{text!r} is no address; {example}")
    if "@" in text:
        raise InvalidInput(
            "an address takes no user or password; give credentials as metadata"
        )
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("http", "https"):
        return _rest_address(text, scheme, example)
    if text.startswith("unix-abstract:"):
        return Address("grpc", text, secure=False, text=text)
    if scheme in ("grpc", "grpcs"):
        target = text[len(scheme) + 3 :]
    elif scheme in ("", "dns", "ipv4", "ipv6", "xds"):
        target = text
    else:
        raise InvalidInput(f"{text}: unknown scheme {scheme}://; {example}")
    if not scheme and text.startswith(("ipv4:", "ipv6:", "dns:")):
        return Address("grpc", target, secure=False, text=text)
    host, _, port = target.rpartition("/")[2].rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise InvalidInput(f"{text}: host:port is needed; {example}")
    if host.count(":") and not (host.startswith("[") and host.endswith("]")):
        raise InvalidInput(f"{text}: an IPv6 address is written [::1]:8500")
    return Address("grpc", target, secure=scheme == "grpcs", text=text)


def _rest_address(text: str, scheme: str, example: str) -> Address:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{text}: {error}; {example}") from None
    if not host:
        raise InvalidInput(f"{text}: the host is missing; {example}")
    if parts.query or parts.fragment:
        raise InvalidInput(f"{text}: an address takes no query; {example}")
    shown = f"[{host}]" if ":" in host else host
    location = shown if port is None else f"{shown}:{port}"
    url = f"{scheme}://{location}{parts.path.rstrip('/')}"
    return Address("rest", url, secure=scheme == "https", text=text)


_KEY = re.compile(r"[0-9a-z_.-]+")  # grpc/doc/PROTOCOL-HTTP2.md, Header-Name


def parse_metadata(
    metadata: Mapping[str, str | bytes] | None,
) -> tuple[tuple[str, str | bytes], ...]:
    """Checks what is sent along with each call; messages never repeat a value.

    Raises:
        InvalidInput: A key or value that no header may have.
    """
    found: list[tuple[str, str | bytes]] = []
    if not isinstance(metadata or {}, Mapping):
        raise InvalidInput(
            "metadata: a dictionary from header names to values is needed"
        )
    for key, value in (metadata or {}).items():
        lower = key.lower() if isinstance(key, str) else ""
        if not _KEY.fullmatch(lower) or lower.startswith("grpc-"):
            raise InvalidInput(f"metadata key {key!r} is no usable header name")
        if lower.endswith("-bin"):
            if not isinstance(value, bytes):
                raise InvalidInput(f"metadata {key}: keys in -bin take bytes")
        elif not isinstance(value, str) or not all(" " <= c <= "~" for c in value):
            raise InvalidInput(f"metadata {key}: the value must be printable ASCII")
        found.append((lower, value))
    return tuple(found)
