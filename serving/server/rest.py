"""The REST interface, metrics and page over HTTP: aiohttp in a thread of its own.

The event loop only moves bytes. A request is answered by one of a bounded number of
threads, with the help of a process if its body is large (serving/server/large_bodies.py);
when as many are being answered as the options allow, the next one is refused at once. A
request that takes longer than the timeout, or whose client hangs up, is given up: what has
not been run by then never will be.

Connections are bounded too. Each must send a whole request head in time; past the limit
the one that has waited longest for a request is closed. What is packed is unpacked when it
is here as a whole: a body that never ends, or that nobody wants any more, costs what was sent.

So is memory. The bodies that have not been answered share a limit: past it the largest of
those that are still being read is refused, so that half-sent ones do not keep small ones
out. An answer has to be taken at a least rate, and those that wait share a limit as well.

Source: tensorflow/serving, g3doc/api_rest.md, model_servers/http_rest_api_util.cc (paths,
status and metadata as JSON) and model_servers/http_server.cc (status codes).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import re
import resource
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from aiohttp import web
from aiohttp.http import HttpProcessingError
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server import json_arrays, metrics, page, tensors
from serving.server.errors import INTERNAL, ServingError, invalid
from serving.server.handlers import Call, Service
from serving.server.large_bodies import Reader, TooLarge, unpack

_log = logging.getLogger(__name__)

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
    r":(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_MODEL = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?",
    re.IGNORECASE | re.ASCII,
)

# Parsed JSON takes up to twenty times the memory of its text.
MOST_BODY_BYTES = 64 << 20

MOST_BODIES_BYTES = 256 << 20  # of all as they came, until they are answered
# Such bodies are parsed one at a time, by a process: a smaller one takes 5 ms at most.
_LARGE_BODY_BYTES = 1 << 18
_LARGE_THREADS = 2  # while a model runs for one, the process reads another one's
MOST_UNSENT_BYTES = 1 << 30  # of all answers that clients have not taken yet

MOST_CONNECTIONS = 10_000  # or half of the files that the process may open, if fewer
HEAD_SECONDS = 30.0  # from the opening to the end of the first request's head
IDLE_SECONDS = 620.0  # load balancers keep theirs for 600 and must be first to hang up
TAKE_SECONDS = 30.0  # a client that takes nothing of its answer is closed
_LEAST_TAKEN = 32 << 10  # bytes per second, over half of that time
_LINGER_SECONDS = 5.0  # for a client to read an answer while it still sends
# What the kernel holds of answers, per connection (it doubles this). Its own limit is
# megabytes: so much would be worked out for a client that asks on and reads nothing.
_KERNEL_BYTES = 64 << 10
_BACKLOG = 1024
_MOST_ACCEPTED = 16  # at a time, or a burst would use up all files before any is closed
_QUIET_SECONDS = 60.0  # between two warnings of a kind
_LONGEST_REASON = 200  # it may quote what was sent

_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# RFC 9112, 3.2.2: what stands before the path in a proxy's form of the request.
_ORIGIN = re.compile(r"https?://[^/?]*", re.IGNORECASE)

# What a form could send, or nothing at all.
_FORM_TYPES = {
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
}  # fmt: skip

HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
_TOO_LARGE = 413  # no gRPC code is it alone, and 429 would say to try again

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
# Not TensorFlow Serving's: its REST answers do not say which version gave them.
VERSION_HEADER = "X-Model-Version"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the HTTP side serves, and how much of it at once."""

    timeout_ms: int = 30_000
    metrics_path: str | None = None
    web_page: bool = False
    hosts: frozenset[str] | None = None  # that the Host header may name; None: any
    cors: bool = False
    threads: int = 16
    most_waiting: int = 1024  # requests beyond those that the threads work on
    most_body_bytes: int = MOST_BODY_BYTES
    most_bodies_bytes: int = MOST_BODIES_BYTES
    most_unsent_bytes: int = MOST_UNSENT_BYTES
    most_connections: int | None = None  # what MOST_CONNECTIONS says
    head_seconds: float = HEAD_SECONDS
    idle_seconds: float = IDLE_SECONDS
    take_seconds: float = TAKE_SECONDS


@dataclass(frozen=True)
class _Answer:
    body: bytes
    status: grpc.StatusCode = grpc.StatusCode.OK
    version: int | None = None
    http_status: int | None = None  # where it is not the one of `status`


@dataclass(eq=False)
class _Body:
    """Of a request; `limit` is that of reading it."""

    limit: asyncio.Timeout
    packed: bool  # by gzip
    size: int = 0
    data: bytearray = field(default_factory=bytearray)
    read: bool = False  # as a whole
    refused: bool = False
    large: bool = False


class _Bodies:
    """Those that have not been answered; only the event loop's thread touches them."""

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._bytes = 0
        self._reading: set[_Body] = set()

    def begin(self, body: _Body) -> None:
        self._reading.add(body)

    def grow(self, body: _Body, chunk: bytes) -> None:
        body.data += chunk
        body.size += len(chunk)
        self._bytes += len(chunk)
        while self._bytes > self._most_bytes and self._reading:
            largest = max(self._reading, key=lambda reading: reading.size)
            self.end(largest)
            largest.data.clear()
            largest.refused = True
            with contextlib.suppress(RuntimeError):  # it is about to time out anyway
                largest.limit.reschedule(asyncio.get_running_loop().time())

    def finish(self, body: _Body) -> None:
        """It is here as a whole.

        Raises:
            TimeoutError: It has just been refused.
        """
        if body.refused:
            raise TimeoutError
        self._reading.discard(body)
        body.read = True

    def set_data(self, body: _Body, data: bytearray) -> None:
        """What it is when it is unpacked."""
        self._bytes += len(data) - body.size
        body.data, body.size = data, len(data)

    def end(self, body: _Body) -> None:
        """It is answered, or nobody wants it any more."""
        self._reading.discard(body)
        self._bytes -= body.size
        body.size = 0


class Server:
    """A running HTTP server."""

    def __init__(self, port: int, stop: Callable[[float], None]):
        self.port = port
        self.stop = stop  # argument: seconds that requests in flight are given


def start(service: Service, host: str, port: int, options: Options) -> Server:
    """Listens, and returns when it does.

    Args:
        service: serving.server.handlers.Service.
        host: Interface to listen on.
        port: 0 for one that the operating system chooses.
        options: See there.

    Raises:
        OSError: The port is taken or not allowed.
    """
    loop = asyncio.new_event_loop()
    rest = _Rest(service, options)
    thread = threading.Thread(target=loop.run_forever, name="rest", daemon=True)
    thread.start()
    try:
        runner, bound = asyncio.run_coroutine_threadsafe(
            rest.listen(host, port), loop
        ).result()
    except BaseException:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        raise

    def stop(grace_seconds: float) -> None:
        closing = asyncio.run_coroutine_threadsafe(
            rest.close(runner, grace_seconds), loop
        )
        closing.result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    return Server(bound, stop)


class _Connections:
    """The open ones, and which of them wait for a request, longest first."""

    def __init__(self, most: int, most_unsent_bytes: int):
        self._most = most
        self._most_unsent_bytes = most_unsent_bytes
        self._slow: set[_Connection] = set()  # have not taken all of their answer
        self.warn_of_slow = _seldom()
        self._open: set[_Connection] = set()
        self._waiting: dict[_Connection, None] = {}
        self._warn = _seldom()
        self.warn_of_malformed = _seldom()

    def add(self, connection: _Connection) -> None:
        self._open.add(connection)
        self._waiting[connection] = None
        if len(self._open) > self._most:
            longest = next(iter(self._waiting))  # the new one, if all others are busy
            self.remove(longest)
            longest.force_close()
            self._warn(f"more than {self._most} REST connections: closing idle ones")

    def remove(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._slow.discard(connection)

    def set_slow(self, connection: _Connection) -> None:
        self._slow.add(connection)
        unsent = sum(slow.unsent_bytes() for slow in self._slow)
        if unsent > self._most_unsent_bytes and len(self._slow) > 1:
            max(self._slow, key=lambda slow: slow.unsent_bytes()).abort()

    def set_taken(self, connection: _Connection) -> None:
        self._slow.discard(connection)

    def set_busy(self, connection: _Connection) -> None:
        self._waiting.pop(connection, None)

    def set_waiting(self, connection: _Connection) -> None:
        if connection in self._open:
            self._waiting[connection] = None


class _Connection(web.RequestHandler):
    """One client's: closed unless it sends a request's head in time."""

    def __init__(self, server: web.Server, connections: _Connections, options: Options):
        settings: dict[str, Any] = {"access_log": None}
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=options.idle_seconds,
            lingering_time=0,  # `end_early` has its own
            auto_decompress=False,
            **settings,
        )
        self._connections = connections
        self._head_seconds = options.head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._half_take_seconds = options.take_seconds / 2
        self._take_timer: asyncio.TimerHandle | None = None
        self._deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport
        # So `pause_writing` is called whenever something has to wait for the client.
        transport.set_write_buffer_limits(high=0)
        self._head_timer = asyncio.get_running_loop().call_later(
            self._head_seconds, self.force_close
        )
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self._stop_take_timer()
        self._connections.remove(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client has not taken all of its answer yet."""
        super().pause_writing()
        self._check_taking_later(None)
        self._connections.set_slow(self)

    def resume_writing(self) -> None:
        """It has."""
        self._stop_take_timer()
        self._connections.set_taken(self)
        super().resume_writing()

    def _check_taking_later(self, unsent: int | None) -> None:
        self._take_timer = asyncio.get_running_loop().call_later(
            self._half_take_seconds, self._check_taking, unsent
        )

    def _check_taking(self, before: int | None) -> None:
        unsent = self.unsent_bytes()
        least = _LEAST_TAKEN * self._half_take_seconds
        if before is not None and before - unsent < least:
            self.abort()
        else:
            self._check_taking_later(unsent)

    def unsent_bytes(self) -> int:
        """Of the answer."""
        return self._socket.get_write_buffer_size()

    def abort(self) -> None:
        """Throws away what the client does not take."""
        self._connections.warn_of_slow("a REST client does not take its answer")
        self._connections.set_taken(self)
        self._socket.abort()

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            super().data_received(data)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """One line, now and then, where a client does not speak HTTP."""
        error = kw.get("exc_info")
        if isinstance(error, HttpProcessingError):
            reason = error.message.strip().partition("\n")[0][:_LONGEST_REASON]
            self._connections.warn_of_malformed(f"malformed HTTP request: {reason}")
        else:
            super().log_exception(*args, **kw)

    def begin(self) -> None:
        """A request's head is here."""
        self._stop_timer()
        self._connections.set_busy(self)

    def end(self) -> None:
        """The request is answered."""
        self._connections.set_waiting(self)

    async def end_early(
        self, request: web.Request, response: web.StreamResponse
    ) -> None:
        """Answers in the midst of a body, whose rest is thrown away as it comes.

        To close at once would reset the connection, and the client might lose the
        answer.
        """
        self._deaf = True
        response.force_close()
        with contextlib.suppress(ConnectionError):  # the client has hung up
            await response.prepare(request)
            await response.write_eof()
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            with contextlib.suppress(OSError):  # so it has, meanwhile
                transport.write_eof()
            transport.resume_reading()
            await asyncio.sleep(_LINGER_SECONDS)  # ends when the client hangs up

    def _stop_take_timer(self) -> None:
        if self._take_timer:
            self._take_timer.cancel()

    def _stop_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()


def _most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, files // 2)


def _seldom() -> Callable[[str], None]:
    """A function that logs a warning, unless it has just done so."""
    silent_until = 0.0

    def warn(text: str) -> None:
        nonlocal silent_until
        if time.monotonic() >= silent_until:
            silent_until = time.monotonic() + _QUIET_SECONDS
            _log.warning("%s", text)

    return warn


class _Rest:
    def __init__(self, service: Service, options: Options):
        self._service = service
        self._options = options
        self._workers = ThreadPoolExecutor(options.threads, "rest")
        self._large_bodies = ThreadPoolExecutor(_LARGE_THREADS, "rest-large")
        self._reader = Reader(options.most_body_bytes)
        self._bodies = _Bodies(options.most_bodies_bytes)
        self._pending = 0  # being answered; only the event loop's thread touches it
        self._listening: asyncio.Server | None = None
        self._warn_of_accept = _seldom()

    async def listen(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        # handler_cancellation: of requests whose client hangs up.
        runner = web.AppRunner(application, handler_cancellation=True)
        await runner.setup()
        server, options = runner.server, self._options
        assert server is not None
        most = options.most_connections
        connections = _Connections(
            _most_connections() if most is None else most, options.most_unsent_bytes
        )
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        host = host.strip("[]")
        # asyncio's "::" is IPv6 alone, gRPC's is both.
        hosts = ["0.0.0.0", "::"] if host == "::" else [host]

        async def create(port: int) -> asyncio.Server:
            return await loop.create_server(
                lambda: _Connection(server, connections, options),
                hosts,
                port,
                backlog=_MOST_ACCEPTED,
            )

        try:
            self._listening = await create(port)
            ports = {found.getsockname()[1] for found in self._listening.sockets}
            if len(ports) > 1:  # a free one of its own for each address of the host
                self._listening.close()
                self._listening = await create(min(ports))
        except BaseException:
            await runner.cleanup()
            raise
        for listening in self._listening.sockets:
            # Inherited by those that are accepted.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
            # asyncio accepts as many at a time as it lets wait; here more may wait.
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(_BACKLOG)
        return runner, self._listening.sockets[0].getsockname()[1]

    async def close(self, runner: web.AppRunner, grace_seconds: float) -> None:
        if self._listening:
            self._listening.close()  # no new connections
        end = time.monotonic() + grace_seconds
        while self._pending and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await runner.cleanup()
        self._workers.shutdown(wait=False)
        self._large_bodies.shutdown(wait=False)
        self._reader.close()

    def _on_loop_error(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_RESOURCES:
            # asyncio tries again each second, several times.
            self._warn_of_accept(f"cannot accept REST connections: {error}")
        else:
            loop.default_exception_handler(context)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.begin()
        try:
            response = await self._respond(request)
            if not request.content.is_eof():
                await connection.end_early(request, response)
            return response
        finally:
            # Later, for the answer has yet to be written.
            asyncio.get_running_loop().call_soon(connection.end)

    async def _respond(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if origin := _ORIGIN.match(path):
            path = path[origin.end() :] or "/"
        try:
            self._check_browser(request)
            # The one of the metrics goes first: evhttp_server.cc of util/net_http/server/
            # internal asks its handlers of whole paths before those of patterns.
            if path == self._options.metrics_path or not path.lower().startswith(
                "/v1/"
            ):
                return await self._handle_extra(request, path)
            answer = await self._answer(request, path)
        except ServingError as error:
            answer = _Answer(
                json_arrays.dump({"error": error.message}),
                error.code,
                http_status=_TOO_LARGE if isinstance(error, TooLarge) else None,
            )
        headers = dict(_CORS) if self._options.cors else {}
        if answer.version is not None:
            headers[VERSION_HEADER] = str(answer.version)
        return web.Response(
            body=answer.body,
            status=answer.http_status or HTTP_STATUS[answer.status],
            content_type="application/json",
            headers=headers,
        )

    def _check_browser(self, request: web.Request) -> None:
        """Other sites' pages, in a browser that reaches this server, get nothing.

        A page whose name is made to mean this machine (DNS rebinding) is of the same
        origin as the server to a browser, but shows in the Host header. Of others a
        browser sends without asking only what a form could (Fetch Standard, "CORS-
        safelisted request-header"), with their Origin.

        Raises:
            ServingError: PERMISSION_DENIED.
        """
        options, host = self._options, request.headers.get("Host", "").lower()
        name = re.sub(r":\d*$", "", host).strip("[]")
        # No browser leaves it out, HTTP/1.0 does.
        if host and options.hosts is not None and name not in options.hosts:
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                "The Host header names another host than this machine; start the server "
                "with --rest_allowed_hosts to allow more",
            )
        origin = request.headers.get("Origin")
        if (
            request.method == "POST"
            and origin is not None
            and not options.cors
            and origin.lower().rpartition("://")[2] != host
            and request.headers.get("Content-Type", "")
            .partition(";")[0]
            .strip()
            .lower()
            in _FORM_TYPES
        ):
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                "A page of another site may not ask; send application/json, or start the "
                "server with --rest_api_enable_cors_support",
            )

    async def _answer(self, request: web.Request, path: str) -> _Answer:
        started = time.monotonic()
        if request.method == "POST" and (match := _PREDICTION.fullmatch(path)):
            status = grpc.StatusCode.CANCELLED  # stays so if the client hangs up
            try:
                body = await self._read(request, started)
                answer = await self._run(started, self._infer, match, body, body=body)
                status = answer.status
                return answer
            except ServingError as error:
                status = error.code
                raise
            finally:
                metrics.observe_request(
                    self._service.label(_unquote(match[1])),
                    match[4].lower(),
                    "REST",
                    status.name,
                    time.monotonic() - started,
                )
        if request.method == "GET" and (match := _MODEL.fullmatch(path)):
            return await self._run(started, self._describe, match)
        if request.method == "OPTIONS" and self._options.cors:
            return _Answer(b"")
        raise invalid(f"Malformed request: {request.method} {path}")

    async def _handle_extra(self, request: web.Request, path: str) -> web.Response:
        if request.method in ("GET", "HEAD"):
            if path == self._options.metrics_path:
                return web.Response(
                    body=metrics.render(),
                    headers={"Content-Type": metrics.CONTENT_TYPE},
                )
            if self._options.web_page and path == page.PATH:
                return web.Response(
                    body=page.html(self._service.model_names()),
                    headers=page.HEADERS,
                )
        return web.Response(status=404, text="Not Found")

    async def _read(self, request: web.Request, started: float) -> _Body:
        most = self._options.most_body_bytes
        if (request.content_length or 0) > most:
            raise TooLarge(most)
        packed = request.headers.get("Content-Encoding", "").strip().lower() == "gzip"
        body = _Body(asyncio.timeout(self._seconds_left(started)), packed)
        try:
            async with body.limit:
                self._bodies.begin(body)
                while chunk := await request.content.readany():
                    self._bodies.grow(body, chunk)
                    if body.size > most:
                        raise TooLarge(most)
                self._bodies.finish(body)
        except TimeoutError:
            if not body.refused:
                raise self._late() from None
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "The bodies of all requests together have more than "
                f"{self._options.most_bodies_bytes} bytes; try again",
            ) from None
        except (web.RequestPayloadError, ValueError) as error:
            raise invalid(f"The body cannot be read: {error}") from None
        finally:
            if not body.read:
                self._bodies.end(body)
        try:
            self._unpack_small(body)
        except ServingError:
            self._bodies.end(body)
            raise
        return body

    def _unpack_small(self, body: _Body) -> None:
        """Here and now; it takes less than a millisecond."""
        body.large = body.size >= _LARGE_BODY_BYTES
        if body.large or not body.packed:
            return
        most = self._options.most_body_bytes
        try:
            data = unpack(body.data, min(_LARGE_BODY_BYTES, most))
        except TooLarge:
            if most <= _LARGE_BODY_BYTES:
                raise
            body.large = True
        else:
            self._bodies.set_data(body, data)
            body.packed = False

    async def _run(
        self,
        started: float,
        function: Callable[..., _Answer],
        *arguments: Any,
        body: _Body | None = None,
    ) -> _Answer:
        """Answers on other threads, for as long as somebody waits for it."""
        if self._pending >= self._options.threads + self._options.most_waiting:
            if body:
                self._bodies.end(body)
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests are waiting"
            )
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Answer] = loop.create_future()
        deadline = started + self._options.timeout_ms / 1000
        call = Call(deadline, cancelled=answered.done)

        def work() -> None:
            answer, error = None, None
            try:
                call.check()
                answer = function(*arguments, call)
            except ServingError as raised:
                error = raised
            except Exception:
                _log.exception("a REST request failed")
                error = ServingError(grpc.StatusCode.INTERNAL, INTERNAL)
            with contextlib.suppress(RuntimeError):  # the loop is closed: we stop
                loop.call_soon_threadsafe(self._done, answered, answer, error, body)

        self._pending += 1
        large = body is not None and body.large
        (self._large_bodies if large else self._workers).submit(work)
        try:
            async with asyncio.timeout(self._seconds_left(started)):
                return await answered
        except TimeoutError:
            raise self._late() from None

    def _done(
        self,
        answered: asyncio.Future[_Answer],
        answer: _Answer | None,
        error: ServingError | None,
        body: _Body | None,
    ) -> None:
        self._pending -= 1
        if body:
            self._bodies.end(body)
        if answered.done():  # cancelled: nobody waits any more
            return
        if answer is not None:
            answered.set_result(answer)
        elif error is not None:
            answered.set_exception(error)

    def _seconds_left(self, started: float) -> float:
        return max(0.0, started + self._options.timeout_ms / 1000 - time.monotonic())

    def _late(self) -> ServingError:
        return ServingError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"Timed out after {self._options.timeout_ms} ms (--rest_api_timeout_in_ms)",
        )

    # From here on the workers' threads.

    def _infer(self, match: re.Match[str], body: _Body, call: Call) -> _Answer:
        data, body.data = body.data, bytearray()  # it is not held while the model runs
        if not body.large:
            document = json_arrays.parse(data)
            del data
            return self._answer_document(match, json_arrays, document, call)
        reader = self._reader
        with reader.parse(data, packed=body.packed, check=call.check) as document:
            del data
            call.check()
            return self._answer_document(match, reader, document, call)

    def _answer_document(
        self, match: re.Match[str], source: Any, document: Any, call: Call
    ) -> _Answer:
        """With the functions of json_arrays, here or in the process."""
        spec = _model_spec(match)
        spec.signature_name = source.signature_name(document)
        api = match[4].lower()
        if api == "predict":
            decode = functools.partial(source.decode, document)
            return self._predict(spec, decode, call)
        examples = input_pb2.Input.FromString(source.examples(document))
        if api == "classify":
            request = classification_pb2.ClassificationRequest(
                model_spec=spec, input=examples
            )
            response = self._service.classify(request, call)
            results = [
                [
                    [c.label, json_arrays.decimal(np.float32(c.score))]
                    for c in row.classes
                ]
                for row in response.result.classifications
            ]
            kind = "ClassificationResults"
        else:
            request = regression_pb2.RegressionRequest(model_spec=spec, input=examples)
            response = self._service.regress(request, call)
            results = [
                json_arrays.decimal(np.float32(row.value))
                for row in response.result.regressions
            ]
            kind = "RegressionResults"
        if not results:
            raise invalid(f"Cannot convert empty {kind} to JSON")
        return _Answer(
            json_arrays.dump({"results": results}),
            version=response.model_spec.version.value,
        )

    def _predict(self, spec: Any, decode: Callable[..., Any], call: Call) -> _Answer:
        rows = True

        def make_feeds(signature: Any) -> dict[str, np.ndarray]:
            nonlocal rows
            types = {
                name: tensors.type_name(info.dtype)
                for name, info in signature.inputs.items()
            }
            feeds, rows = decode(types)
            return feeds

        result = self._service.run(spec, make_feeds, call)
        body = json_arrays.encode(result.outputs, rows=rows)
        return _Answer(body, version=result.spec.version.value)

    def _describe(self, match: re.Match[str], call: Call) -> _Answer:
        if not match[1]:
            raise invalid("Missing model name in request.")
        spec = _model_spec(match)
        if not match[4]:
            request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            status = self._service.get_model_status(request, call)
            return _Answer(_message_json(status))
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = self._service.get_model_metadata(request, call)
        metadata = _signatures_json(response.metadata["signature_def"].value)
        specification = _message_json(response.model_spec)
        return _Answer(
            b'{"model_spec":%s,"metadata":%s}' % (specification, metadata),
            version=response.model_spec.version.value,
        )


def _model_spec(match: re.Match[str]) -> Any:
    spec = model_pb2.ModelSpec(name=_unquote(match[1]))
    if match[2]:
        version = int(match[2])
        if version >= 2**63:
            raise invalid(f"Failed to convert version: {match[2]} to numeric.")
        spec.version.value = version
    if match[3]:
        spec.version_label = _unquote(match[3])
    return spec


def _unquote(text: str) -> str:
    return urllib.parse.unquote(text, errors="replace")


@functools.lru_cache(
    maxsize=32
)  # of models: to write it takes most of such an answer's time
def _signatures_json(serialized: bytes) -> bytes:
    signatures = get_model_metadata_pb2.SignatureDefMap.FromString(serialized)
    return b'{"signature_def":%s}' % _message_json(signatures)


def _message_json(message: Any) -> bytes:
    return json_format.MessageToJson(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
    ).encode()
