"""What can go wrong, as a small tree that callers can catch by kind.

    ServingError
    ├── InvalidInput       the input cannot be used; the same request will fail again
    ├── NotFound           no such model, version or label
    ├── FailedPrecondition the model exists, but does not offer what was asked
    ├── PermissionRefused  no or insufficient credentials
    ├── DeadlineExceeded   no answer in time (also a TimeoutError)
    ├── Overloaded         the server refuses more work for now
    ├── Unavailable        no server answers (also a ConnectionError)
    ├── Cancelled          the call was given up, for instance by close()
    ├── Unsupported        the server does not know this method
    ├── InvalidResponse    the answer is not what the protocol promises
    └── ServerFault        the server failed on its side

Every error has `code`, gRPC's name of the status (also over REST), `address`, the
server that was asked (empty for errors found before asking), and `details`, the whole
text of the server or the transport.
"""

from __future__ import annotations

import re


class ServingError(Exception):
    """Any failure of a call; `str()` is one sentence for a person."""

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        address: str = "",
        details: str = "",
    ):
        """Makes an error.

        Args:
            message: For a person.
            code: gRPC's name of the status.
            address: Who was asked.
            details: What the server or the transport said, as it came.
        """
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.address = address
        self.details = details


class InvalidInput(ServingError):
    """The input cannot be used: wrong shape, dtype, name, file, option."""

    code = "INVALID_ARGUMENT"


class NotFound(ServingError):
    """The server has no such model, version or label."""

    code = "NOT_FOUND"


class FailedPrecondition(ServingError):
    """The model is there, but not in a state or kind that can answer."""

    code = "FAILED_PRECONDITION"


class PermissionRefused(ServingError):
    """Credentials are missing or do not suffice."""

    code = "PERMISSION_DENIED"


class DeadlineExceeded(ServingError, TimeoutError):
    """There was no answer in time."""

    code = "DEADLINE_EXCEEDED"


class Overloaded(ServingError):
    """The server has too much to do; later it may answer."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(ServingError, ConnectionError):
    """No server answers at this address, or it is going away."""

    code = "UNAVAILABLE"


class Cancelled(ServingError):
    """The call was given up before its answer came."""

    code = "CANCELLED"


class Unsupported(ServingError):
    """The server does not know this method."""

    code = "UNIMPLEMENTED"


class InvalidResponse(ServingError):
    """What came back is no answer in TensorFlow Serving's protocol."""

    code = "DATA_LOSS"

    def __init__(self, message: str, **more: str):
        """Makes an error.

        Args:
            message: For a person; with names that the server chose, so kept short.
            more: As for `ServingError`.
        """
        super().__init__(_short(message), **more)


class ServerFault(ServingError):
    """The server failed on its side."""

    code = "INTERNAL"


# grpc/doc/statuscodes.md, completely; OK is no error.
BY_CODE: dict[str, type[ServingError]] = {
    "CANCELLED": Cancelled,
    "UNKNOWN": ServerFault,
    "INVALID_ARGUMENT": InvalidInput,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": ServerFault,
    "PERMISSION_DENIED": PermissionRefused,
    "RESOURCE_EXHAUSTED": Overloaded,
    "FAILED_PRECONDITION": FailedPrecondition,
    "ABORTED": ServerFault,
    "OUT_OF_RANGE": InvalidInput,
    "UNIMPLEMENTED": Unsupported,
    "INTERNAL": ServerFault,
    "UNAVAILABLE": Unavailable,
    "DATA_LOSS": ServerFault,
    "UNAUTHENTICATED": PermissionRefused,
}

# TensorFlow Serving's REST codes (tensorflow_serving/util/net_http, HTTPStatusCode), and
# those that proxies in front of it answer.
CODE_BY_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_LONGEST = 600  # characters of a server's text that are worth showing
_READ = 10_000  # characters of it in which they are looked for

# What TensorFlow adds to an error's text for those who know the graph.
_GRAPH = re.compile(
    r"\{\{(function_)?node [^}]*\}\}"  # names of functions and nodes
    r"|\[\[(\{\{.*?|[A-Za-z_][\w/.-]*)\]\]|\[Op:\w+\]"  # where the error passed
    r"|^Graph execution error:"
    r"|^\d+ root error\(s\) found\.\s*\(0\) [A-Z_]+:|\s\(1\) [A-Z_]+:.*"  # all the same
    r"|(Detected at node|Errors may have originated from|Stack trace for op) .*",
    re.DOTALL,
)
_ASSERTION = re.compile(r"assertion failed: \[(.*?)\]( \[.*)?", re.DOTALL)


def from_status(code: str, details: str, address: str) -> ServingError:
    """The error for a status that a server or the transport reported.

    Args:
        code: gRPC's name of the status; an unknown name becomes a ServerFault.
        details: Its text; the message has the part for people, in one line.
        address: The server that was asked.
    """
    start = details[:_READ]
    text = _one_line(_GRAPH.sub(" ", start)) or _one_line(start)
    if assertion := _ASSERTION.fullmatch(text):
        text = assertion[1]
    text = _short(text)
    if "larger than max" in text and code == "RESOURCE_EXHAUSTED":
        # gRPC's own limit on one message, not a busy server: waiting does not help.
        return InvalidInput(
            f"a message is too large ({text}); choose a smaller batch_size",
            code=code,
            address=address,
            details=details,
        )
    if code == "UNAVAILABLE":
        text = f"no answer from {address} ({_reason(text)})"
    elif code == "DEADLINE_EXCEEDED":
        text = f"no answer from {address} in time"
    return BY_CODE.get(code, ServerFault)(
        text or f"{address} answered {code}",
        code=code,
        address=address,
        details=details,
    )


def _short(text: str) -> str:
    """One line of a text that a server had a part in."""
    line = _one_line(text[:_READ])
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def _one_line(text: str) -> str:
    """Without control characters, and with single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# gRPC's and OpenSSL's texts are long chains; these parts of them say what is wrong.
_REASONS = {
    "Connection refused": "Connection refused",
    "No such file": "No such file",
    "DNS resolution failed": "there is no such host",
    "Domain name not found": "there is no such host",
    "Name or service not known": "there is no such host",
    "Failed parsing HTTP/2": "it does not speak gRPC; a REST port is written http://...",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "erification check failed": "its certificate is not for this name",
    "ostname mismatch": "its certificate is not for this name",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted, or not for this name",
    "timed out before receiving": "it takes connections and says nothing",
    "Socket closed": "it ends the connection",
    "Connection reset": "it ends the connection",
}


def _reason(text: str) -> str:
    """The part of a transport's text that helps a person."""
    for part, reason in _REASONS.items():
        if part in text:
            return reason
    return text.rpartition("last error: ")[2] or "connection lost"
