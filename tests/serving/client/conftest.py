"""Fixtures: the server of official stubs, one for all tests, and certificates."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.serving.client.official import Backend, start_server


@pytest.fixture(scope="session")
def running_backend(tmp_path_factory) -> Iterator[Backend]:
    server, backend = start_server(tmp_path_factory.mktemp("socket") / "s")
    yield backend
    server.stop(None)


@pytest.fixture
def backend(running_backend: Backend) -> Backend:
    running_backend.reset()
    return running_backend


@dataclass(frozen=True)
class Certificates:
    """PEM files of an authority and of a certificate for model.test and 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key, issuer: str, issuer_key, extension) -> bytes:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(extension, critical=False)
            .sign(issuer_key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.BasicConstraints(ca=True, path_length=None)
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("model.test"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )
    found = Certificates(folder / "ca.pem", folder / "own.pem", folder / "key.pem")
    found.ca.write_bytes(
        certificate("authority", ca_key, "authority", ca_key, authority)
    )
    found.certificate.write_bytes(certificate("own", key, "authority", ca_key, names))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found
