"""Coroutines that wait for other threads, and go on there: no event loop, no waiting thread.

A request needs a thread to be read, another one runs its batch, and nothing in between:
handing its answer to yet another thread costs more than to write it. So a coroutine that
awaits a `Pending` is left, and the thread that settles the Pending carries it on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

R = TypeVar("R")

_log = logging.getLogger(__name__)


class Pending(Generic[R]):
    """A value, or an error, that some thread will have. Awaited once."""

    __slots__ = ("_callback", "_error", "_lock", "_settled", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled = False
        self._callback: Callable[[], object] | None = None

    def settle(self, value: R | None, error: BaseException | None = None) -> None:
        """Sets the outcome; the first one counts. Carries on who awaits it, here."""
        with self._lock:
            if self._settled:
                return
            self._settled = True
            self._value, self._error = value, error
            callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def then(self, callback: Callable[[], object]) -> None:
        """Calls when settled: by the thread that does so, or now."""
        with self._lock:
            if not self._settled:
                self._callback = callback
                return
        callback()

    def __await__(self) -> Generator[Pending[R], None, R]:
        yield self  # to `start` or `wait`, which go on when it is settled
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


def start(coroutine: Coroutine[Pending[Any], None, object]) -> None:
    """Begins a coroutine here; it ends on whatever thread settles what it awaits last.

    It has to deal with its exceptions itself: what it lets out is only logged.
    """

    def step() -> None:
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return
        except BaseException:  # the thread has other work to do
            _log.exception("a request was left without an answer")
            return
        awaited.then(step)

    step()


def wait(coroutine: Coroutine[Pending[Any], None, R]) -> R:
    """Runs a coroutine to its end, on this thread, and returns what it does."""
    while True:
        try:
            awaited = coroutine.send(None)
        except StopIteration as end:
            return end.value
        settled = threading.Event()
        awaited.then(settled.set)
        settled.wait()


class Workers:
    """A pool of threads whose results can be awaited."""

    def __init__(self, threads: int):
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "worker")

    def run(self, function: Callable[..., R], *arguments: Any) -> Pending[R]:
        """Calls a function when a thread is free."""
        pending: Pending[R] = Pending()
        self._pool.submit(_settle, pending, function, *arguments)
        return pending

    def start(self, coroutine: Coroutine[Pending[Any], None, object]) -> None:
        """See above; begins when a thread is free."""
        self._pool.submit(start, coroutine)

    def close(self) -> None:
        """Takes nothing more; what runs is not interrupted."""
        self._pool.shutdown(wait=False)


def in_thread(function: Callable[..., R], *arguments: Any) -> Pending[R]:
    """Calls a function that takes long, or waits, on a thread of its own."""
    pending: Pending[R] = Pending()
    threading.Thread(
        target=_settle, args=(pending, function, *arguments), daemon=True
    ).start()
    return pending


def _settle(pending: Pending[R], function: Callable[..., R], *arguments: Any) -> None:
    try:
        value = function(*arguments)
    except BaseException as error:  # raised again in the coroutine
        pending.settle(None, error)
    else:
        pending.settle(value)
