"""Whether a port speaks TLS: asked only to explain why nothing came back from it."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from serving.client.options import Address

_SECONDS = 2.0  # for connecting, and for the handshake


def speaks_tls(address: Address) -> bool:
    """Tries a handshake, sends nothing, and trusts nobody.

    Args:
        address: A host and port; of a socket's path the answer is no.
    """
    text = address.target
    if address.transport == "grpc":
        text = f"//{text.rpartition('/')[2].removeprefix('ipv4:').removeprefix('dns:')}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        place = urlsplit(text)
        if not place.hostname or not place.port:
            return False
        with (
            socket.create_connection((place.hostname, place.port), _SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=place.hostname),
        ):
            return True
    except ssl.SSLError as error:  # an alert is TLS as well
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError):
        return False
