"""A gRPC server of unary calls on gRPC's C core, without `grpc.server`'s threads.

`grpc.server` wakes one thread for a call and again for its message, `grpc.aio` an event
loop through a socket. That costs 0.3 and 0.25 ms of processor time per call, a third of
what a small network takes for an image; read directly, the core's completion queue costs
0.12 ms (benchmarks/transport.py, 2 cores). So the thread that takes a call's message from
the queue handles it, and the answer is sent by whoever has it.

`grpc._cython.cygrpc` is what both of grpcio's servers are written on, but is no public
interface: the lock file pins grpcio, and the tests of this folder have to pass before it
changes.

Sources: grpc/grpc, include/grpc/grpc.h (completion queues, batches of operations),
src/python/grpcio/grpc/_server.py (texts and codes of refusals).
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc._cython import cygrpc

from serving.server.errors import INTERNAL, ServingError

# One at least always reads the queue; the others may be lent to run a model. More of
# them than that change places for nothing.
_THREADS = 3
_FLAGS = 0
_REQUEST, _SHUTDOWN = "request", "shutdown"  # tags; all others are functions
_SECONDS_TO_CANCEL = 5.0

_log = logging.getLogger(__name__)


class Call:
    """A client's call. Any thread may answer it, and what comes too late is dropped."""

    __slots__ = (
        "_call", "_ended", "_finished", "_lock", "_on_end", "_queue", "_sending",
        "_started", "deadline", "spare",
    )  # fmt: skip

    def __init__(self, call: Any, deadline: float | None, spare: Callable[[], bool]):
        self.deadline = deadline  # in seconds of time.monotonic()
        # Whether this thread, if it is the one that called the method, may be kept busy.
        self.spare = spare
        self._call = call
        self._lock = threading.Lock()
        self._queue: deque[tuple[Any, ...]] = deque()  # batches of operations to send
        self._sending = False
        self._started = False  # headers are sent, or queued
        self._finished = False  # the status is
        self._ended = False
        self._on_end: list[Callable[[], object]] = []

    def ended(self) -> bool:
        """Whether it is answered, cancelled, or its deadline has passed."""
        return self._ended

    def by_socket(self) -> bool:
        """Whether it came by a unix socket."""
        return self._call.peer().startswith(b"unix:")

    def on_end(self, callback: Callable[[], object]) -> None:
        """Calls when it has ended, or now."""
        with self._lock:
            if not self._ended:
                self._on_end.append(callback)
                return
        callback()

    def send(self, message: bytes) -> None:
        """One of several messages."""
        self._push(cygrpc.SendMessageOperation(message, _FLAGS))

    def finish(
        self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = ""
    ) -> None:
        """The end, without a message."""
        self._push(_status(code, details), last=True)

    def reply(self, message: bytes) -> None:
        """The only message, and the end."""
        self._push(
            cygrpc.SendMessageOperation(message, _FLAGS),
            _status(grpc.StatusCode.OK, ""),
            last=True,
        )

    def _push(self, *operations: Any, last: bool = False) -> None:
        with self._lock:
            if self._ended or self._finished:
                return
            self._finished = last
            if not self._started:
                self._started = True
                headers = cygrpc.SendInitialMetadataOperation(None, _FLAGS)
                operations = (headers, *operations)
            if self._sending:
                self._queue.append(operations)
                return
            self._sending = True
        self._call.start_server_batch(operations, self._sent)

    def _sent(self, event: Any) -> None:
        del event
        with self._lock:
            if self._ended or not self._queue:
                self._sending = False
                return
            operations = self._queue.popleft()
        self._call.start_server_batch(operations, self._sent)

    def end(self) -> None:
        """For the server: no more can be sent."""
        with self._lock:
            self._ended = True
            callbacks, self._on_end = self._on_end, []
        for callback in callbacks:
            callback()


Method = Callable[[bytes, Call], object]


class Server:
    """Serves methods that take one message.

    Args:
        methods: By full name, "/package.Service/Method": takes a serialised message and
            answers the call, now or later, on this thread or another, or raises a
            ServingError. It must not wait or work for long, unless `call.spare()`.
        most_calls: At the same time; further ones get RESOURCE_EXHAUSTED.
        options: The core's channel arguments.
    """

    def __init__(
        self, methods: Mapping[str, Method], most_calls: int, options: Mapping[str, Any]
    ):
        self._methods = {name.encode(): method for name, method in methods.items()}
        self._most_calls = most_calls
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options.items()), False)
        self._server.register_completion_queue(self._queue)
        self._lock = threading.Lock()
        self._calls = 0
        self._busy = 0  # threads that call a method
        self._stopping = False
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name=f"grpc-{number}", daemon=True)
            for number in range(_THREADS)
        ]

    def add_port(
        self, address: str, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Binds "host:port" or "unix:path", before `start`.

        Returns:
            The port, or 0: it cannot be bound.
        """
        if credentials is None:
            return self._server.add_http2_port(address.encode())
        return self._server.add_http2_port(address.encode(), credentials._credentials)

    def start(self) -> None:
        """Answers from now on."""
        self._server.start()
        self._request()
        for thread in self._threads:
            thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Takes no more calls, and cancels those that take longer than so."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._server.shutdown(self._queue, _SHUTDOWN)
        if not self._stopped.wait(grace_seconds):
            self._server.cancel_all_calls()
            self._stopped.wait(_SECONDS_TO_CANCEL)
        self._queue.shutdown()
        end = time.monotonic() + _SECONDS_TO_CANCEL
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._server.destroy()

    def _request(self) -> None:
        """Asks the core for the next call."""
        with self._lock:
            if not self._stopping:
                self._server.request_call(self._queue, self._queue, _REQUEST)

    def _spare(self) -> bool:
        return self._busy < _THREADS and threading.current_thread() in self._threads

    def _serve(self) -> None:
        while True:
            event = self._queue.poll(None)
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            try:
                if event.tag is _REQUEST:
                    self._begin(event)
                elif event.tag is _SHUTDOWN:
                    self._stopped.set()
                else:
                    event.tag(event)
            except Exception:  # one call's; the thread serves all
                _log.exception("a call could not be served")
            # It keeps its call, which must not live until the next one comes.
            event = None

    def _begin(self, event: Any) -> None:
        if not event.success:
            return  # the server stops
        self._request()
        method = self._methods.get(event.call_details.method)
        if method is None:
            _refuse(event.call, grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        with self._lock:
            refused = self._calls >= self._most_calls
            self._calls += not refused
        if refused:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            _refuse(event.call, code, "Concurrent RPC limit exceeded!")
            return
        call = Call(event.call, _deadline(event.call_details.deadline), self._spare)
        name = event.call_details.method

        def closed(_: Any) -> None:
            with self._lock:
                self._calls -= 1
            call.end()

        def received(event: Any) -> None:
            message = event.batch_operations[0].message()
            if message is None:
                details = f'"{name.decode()}" requires exactly one request message.'
                call.finish(grpc.StatusCode.UNIMPLEMENTED, details)
                return
            with self._lock:
                self._busy += 1
            try:
                method(message, call)
            except ServingError as error:
                call.finish(error.code, error.message)
            except Exception:
                _log.exception("%s failed", name.decode())
                call.finish(grpc.StatusCode.INTERNAL, INTERNAL)
            finally:
                with self._lock:
                    self._busy -= 1

        event.call.start_server_batch(
            (cygrpc.ReceiveCloseOnServerOperation(_FLAGS),), closed
        )
        event.call.start_server_batch(
            (cygrpc.ReceiveMessageOperation(_FLAGS),), received
        )


def _refuse(call: Any, code: grpc.StatusCode, details: str) -> None:
    operations = (
        cygrpc.SendInitialMetadataOperation(None, _FLAGS),
        cygrpc.ReceiveCloseOnServerOperation(_FLAGS),
        _status(code, details),
    )
    call.start_server_batch(operations, lambda _: None)


def _status(code: grpc.StatusCode, details: str) -> Any:
    return cygrpc.SendStatusFromServerOperation(
        None, code.value[0], details.encode(), _FLAGS
    )


def _deadline(at: float) -> float | None:
    """From time.time()'s seconds to time.monotonic()'s."""
    remaining = at - time.time()
    # A call without a deadline has some hundred years left, or for ever.
    return time.monotonic() + remaining if remaining < 1e8 else None
