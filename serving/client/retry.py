"""Deadlines and repetitions, for calls that block and for calls that are awaited.

Only calls that change nothing on the server come here. Time is measured with
`time.monotonic`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.client.options import Retry, check_seconds

T = TypeVar("T")

_LONGEST = 1e6  # seconds; sockets and gRPC count in integers that more would overflow


class Attempts:
    """The attempts of one call: how long the next may take, whether there is one."""

    def __init__(self, retry: Retry, seconds: float, until: float | None) -> None:
        """Begins a call.

        Args:
            retry: How often.
            seconds: For this call, all its attempts together.
            until: Time by which an enclosing call ends, or None.
        """
        now = time.monotonic()
        self._retry = retry
        self._end = now + seconds if until is None else min(now + seconds, until)
        self._failures = 0

    def seconds_left(self, last: ServingError | None = None) -> float:
        """For the next attempt.

        Raises:
            DeadlineExceeded: Nothing is left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            why = f"; the last attempt failed: {last}" if last else ""
            raise DeadlineExceeded(f"no time was left for the request{why}")
        return min(left, _LONGEST)

    def wait_after(self, error: ServingError) -> float:
        """Seconds to wait before the next attempt; raises `error` if there is none."""
        self._failures += 1
        if not isinstance(error, (Unavailable, Overloaded)):
            raise error
        wait = self._retry.wait(self._failures)
        if self._failures >= self._retry.attempts or (
            time.monotonic() + wait >= self._end
        ):
            if self._failures > 1:
                error.add_note(f"given up after {self._failures} attempts")
            raise error
        return wait


def run(
    attempt: Callable[[float], T], attempts: Attempts, closed: threading.Event
) -> T:
    """Calls `attempt(seconds)` until it succeeds or must not be repeated.

    Args:
        attempt: One request; gets the seconds it may take.
        attempts: Of this call.
        closed: Set when the client is closed: waiting ends at once.
    """
    error: ServingError | None = None
    while True:
        if closed.is_set():
            raise Cancelled("the client is closed")
        seconds = attempts.seconds_left(error)
        try:
            return attempt(seconds)
        except ServingError as failure:
            error = failure
            wait = attempts.wait_after(failure)
        closed.wait(wait)


async def run_async(attempt: Callable[[float], Awaitable[T]], attempts: Attempts) -> T:
    """The same for coroutines; cancelling the task ends it at any point."""
    error: ServingError | None = None
    while True:
        seconds = attempts.seconds_left(error)
        try:
            return await attempt(seconds)
        except ServingError as failure:
            error = failure
            wait = attempts.wait_after(failure)
        await asyncio.sleep(wait)


def ended_by_close(closed: bool) -> bool:
    """Whether an asyncio.CancelledError comes of close(), not of a cancelled task."""
    task = asyncio.current_task()
    return closed and not (task and task.cancelling())


def end_of(deadline_seconds: float | None) -> float | None:
    """The monotonic time at which a call with this deadline ends."""
    if deadline_seconds is None:
        return None
    check_seconds("deadline_seconds", deadline_seconds)
    return time.monotonic() + deadline_seconds
