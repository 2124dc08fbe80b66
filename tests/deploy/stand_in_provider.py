"""A provider for Terraform that knows the schemas of Google's, and can do nothing.

Terraform's registry cannot be reached from a test. Terraform itself checks every name,
type and reference against what a provider says of itself, though, and `terraform test`
plans and applies with `mock_provider`, which needs no more than that. This one says what
google_provider.json holds, by Terraform's plugin protocol, version 6 (gRPC); Terraform
is told of it by TF_REATTACH_PROVIDERS, and then asks no registry.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc

SCHEMA = Path(__file__).parent / "google_provider.json"
ADDRESS = "registry.terraform.io/hashicorp/google"

_NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}


@contextlib.contextmanager
def serving() -> Iterator[dict[str, str]]:
    """Serves; yields what Terraform's environment needs to find it."""
    server = grpc.server(
        futures.ThreadPoolExecutor(4),
        handlers=[_Provider(_schemas(json.loads(SCHEMA.read_text())))],
        options=[("grpc.max_send_message_length", 64 << 20)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    reattach = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,  # Terraform must not end this process
        "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"},
    }
    try:
        yield {"TF_REATTACH_PROVIDERS": json.dumps({ADDRESS: reattach})}
    finally:
        server.stop(None)


class _Provider(grpc.GenericRpcHandler):
    def __init__(self, schemas: bytes) -> None:
        self._schemas = schemas

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        if not method.startswith("/tfplugin6.Provider/"):
            return (
                None  # streams for a plugin's output, which would block a thread each
            )
        # An empty message is: valid, no diagnostics, done.
        reply = self._schemas if method.endswith("/GetProviderSchema") else b""
        return grpc.unary_unary_rpc_method_handler(lambda *_: reply)


def _schemas(schema: dict) -> bytes:
    """GetProviderSchema.Response."""
    return b"".join(
        [
            _field(1, _schema(schema["provider"])),
            *(
                _field(number, _field(1, name.encode()) + _field(2, _schema(block)))
                for number, kind in ((2, "resources"), (3, "data"))
                for name, block in schema[kind].items()
            ),
        ]
    )


def _schema(block: dict) -> bytes:
    return _field(2, _block(block))


def _block(block: dict) -> bytes:
    attributes = [
        _field(1, name.encode())
        + _field(2, json.dumps(value["type"]).encode())
        + b"".join(
            _number(number, 1)
            for number, key in ((4, "required"), (5, "optional"), (6, "computed"))
            if value.get(key)
        )
        for name, value in sorted(block["attributes"].items())
    ]
    blocks = [
        _field(1, name.encode())
        + _field(2, _block(value))
        + _number(3, _NESTING[value["nesting"]])
        # A single block has no counts of its own.
        + (_number(4, value["min"]) if value["nesting"] != "single" else b"")
        + (_number(5, value["max"]) if value["nesting"] != "single" else b"")
        for name, value in sorted(block["blocks"].items())
    ]
    return b"".join(
        [_field(2, item) for item in attributes] + [_field(3, item) for item in blocks]
    )


def _field(number: int, value: bytes) -> bytes:
    """A protobuf field with text, bytes or a message."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
