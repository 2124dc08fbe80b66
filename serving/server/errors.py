"""What a request can fail with, whatever the transport."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError

# tensorflow/serving cuts error texts at this length (model_servers/grpc_status_util.cc);
# they travel in a header, and clients refuse long headers.
_LONGEST = 1024

INTERNAL = "Internal error; the server's log has more"  # which may hold callers' data


class ServingError(Exception):
    """A request's failure: the code and text that its caller gets."""

    def __init__(self, code: grpc.StatusCode, message: str):
        if len(message) > _LONGEST:
            message = message[:_LONGEST] + " ...TRUNCATED"
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ServingError:
    """The caller's mistake."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """No such model or version."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """Right in itself, but not for the models as they are."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def parse(kind: Any, data: bytes) -> Any:
    """A message of this class from its serialized form.

    Raises:
        ServingError: INVALID_ARGUMENT; it is no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise invalid(f"The request is not a {kind.DESCRIPTOR.name}") from None
