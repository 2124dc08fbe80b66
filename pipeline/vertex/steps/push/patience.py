"""Making something exist on Vertex AI, however often one has to try.

A task may be started again at any point, and the answer to a request may be lost. So
nothing is made before it was looked for, nothing is taken as made before it is found, and
what an earlier try has begun is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for Vertex AI."""

    deadline_seconds: float = 3600.0  # of one step; a deployment takes 10 to 20 minutes
    pause_seconds: float = 10.0  # between two tries


def read(method: Callable[..., T], **request: Any) -> T | None:
    """Calls a method that changes nothing; None if what it asks for does not exist."""
    from google.api_core import exceptions

    try:
        return method(request=request, retry=_repetition(), timeout=60.0)
    except exceptions.NotFound:
        return None


def _repetition() -> Any:
    """Of calls that change nothing, when the service has a bad moment or is busy."""
    from google.api_core import exceptions, retry

    passing = (
        *(exceptions.ServiceUnavailable, exceptions.DeadlineExceeded),
        *(exceptions.InternalServerError, exceptions.Unknown, exceptions.Aborted),
        exceptions.TooManyRequests,
    )
    return retry.Retry(
        predicate=retry.if_exception_type(*passing), initial=0.2, timeout=120.0
    )


def ensure(
    look: Callable[[], T | None], make: Callable[[], Any], patience: Patience
) -> T:
    """Returns what `look` finds, after `make` where it finds nothing.

    Args:
        look: Finds the thing; None if it is not there.
        make: Starts making it; may return a long-running operation.
        patience: How long all of it may take.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Vertex AI refuses it, or what may
            pass did not.
    """
    from google.api_core import exceptions

    passing = (
        exceptions.ServiceUnavailable,
        exceptions.Aborted,
        exceptions.AlreadyExists,  # somebody makes it just now
    )
    deadline = time.monotonic() + patience.deadline_seconds
    while True:
        found = look()
        if found is not None:
            return found
        try:
            operation = make()
            if operation is not None:
                _wait(operation, deadline, patience)
        except passing:
            if time.monotonic() + patience.pause_seconds > deadline:
                raise
            time.sleep(patience.pause_seconds)


def _wait(operation: Any, deadline: float, patience: Patience) -> None:
    while not operation.done(retry=_repetition()):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{operation.operation.name} was not done after "
                f"{patience.deadline_seconds:g} s"
            )
        time.sleep(patience.pause_seconds)
    operation.result()  # raises what went wrong


def settle(client: Any, name: str, patience: Patience) -> None:
    """Waits for operations on a resource that an earlier try may have left running."""
    deadline = time.monotonic() + patience.deadline_seconds
    while time.monotonic() < deadline:
        listing = read(client.list_operations, name=name)
        if listing is None or all(operation.done for operation in listing.operations):
            return
        time.sleep(patience.pause_seconds)
