"""The REST interface, metrics and page over HTTP: aiohttp in a thread of its own.

The event loop only moves bytes. Decoding and encoding run in a bounded pool of threads;
when as many requests are being answered as the options allow, the next one is refused at
once. A request that takes longer than the timeout, or whose client hangs up, is given up:
what has not been run by then never will be.

Source: tensorflow/serving, g3doc/api_rest.md, model_servers/http_rest_api_util.cc (paths,
status and metadata as JSON) and model_servers/http_server.cc (status codes).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from aiohttp import web
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server import json_arrays, metrics, page
from serving.server.errors import INTERNAL, ServingError, invalid
from serving.server.handlers import Call, Service
from serving.server.pending import Pending, Workers

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
    cors: bool = False
    threads: int = 16
    most_waiting: int = 1024  # requests beyond those that the threads work on
    most_body_bytes: int = MOST_BODY_BYTES


@dataclass(frozen=True)
class _Answer:
    body: bytes
    status: grpc.StatusCode = grpc.StatusCode.OK
    version: int | None = None


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


class _Rest:
    def __init__(self, service: Service, options: Options):
        self._service = service
        self._options = options
        self._workers = Workers(options.threads)
        self._pending = 0  # being answered; only the event loop's thread touches it

    async def listen(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        application = web.Application(client_max_size=self._options.most_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            application,
            handler_cancellation=True,  # of requests whose client hangs up
            access_log=None,
            auto_decompress=True,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host.strip("[]"), port, backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            raise
        return runner, runner.addresses[0][1]

    async def close(self, runner: web.AppRunner, grace_seconds: float) -> None:
        for site in list(runner.sites):
            await site.stop()  # no new connections
        end = time.monotonic() + grace_seconds
        while self._pending and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await runner.cleanup()
        self._workers.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if not path.lower().startswith("/v1/"):
            return await self._handle_extra(request, path)
        try:
            answer = await self._answer(request, path)
        except ServingError as error:
            answer = _Answer(json_arrays.dump({"error": error.message}), error.code)
        headers = dict(_CORS) if self._options.cors else {}
        if answer.version is not None:
            headers[VERSION_HEADER] = str(answer.version)
        return web.Response(
            body=answer.body,
            status=HTTP_STATUS[answer.status],
            content_type="application/json",
            headers=headers,
        )

    async def _answer(self, request: web.Request, path: str) -> _Answer:
        started = time.monotonic()
        if request.method == "POST" and (match := _PREDICTION.fullmatch(path)):
            status = grpc.StatusCode.CANCELLED  # stays so if the client hangs up
            try:
                body = await self._read(request, started)
                answer = await self._run(started, self._infer, match, body)
                status = answer.status
                return answer
            except ServingError as error:
                status = error.code
                raise
            finally:
                metrics.observe_request(
                    _unquote(match[1]),
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

    async def _read(self, request: web.Request, started: float) -> bytes:
        try:
            async with asyncio.timeout(self._seconds_left(started)):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"The body has more than {self._options.most_body_bytes} bytes",
            ) from None
        except TimeoutError:
            raise self._late() from None
        except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
            raise invalid(f"The body cannot be read: {error}") from None

    async def _run(
        self,
        started: float,
        function: Callable[..., Coroutine[Pending[Any], None, _Answer]],
        *arguments: Any,
    ) -> _Answer:
        """Answers on other threads, for as long as somebody waits for it."""
        if self._pending >= self._workers.threads + self._options.most_waiting:
            raise ServingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests are waiting"
            )
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Answer] = loop.create_future()
        deadline = started + self._options.timeout_ms / 1000
        call = Call(deadline, cancelled=answered.done)

        async def work() -> None:
            answer, error = None, None
            try:
                call.check()
                answer = await function(*arguments, call)
            except ServingError as raised:
                error = raised
            except Exception:
                _log.exception("a REST request failed")
                error = ServingError(grpc.StatusCode.INTERNAL, INTERNAL)
            with contextlib.suppress(RuntimeError):  # the loop is closed: we stop
                loop.call_soon_threadsafe(self._done, answered, answer, error)

        self._pending += 1
        self._workers.start(work())
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
    ) -> None:
        self._pending -= 1
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

    async def _infer(self, match: re.Match[str], body: bytes, call: Call) -> _Answer:
        spec = _model_spec(match)
        document = json_arrays.parse(body)
        spec.signature_name = json_arrays.signature_name(document)
        api = match[4].lower()
        if api == "predict":
            return await self._predict(spec, document, call)
        if api == "classify":
            request = classification_pb2.ClassificationRequest(model_spec=spec)
            json_arrays.fill_input(document, request.input)
            response = await self._service.classify(request, call)
            results = [
                [
                    [c.label, json_arrays.decimal(np.float32(c.score))]
                    for c in row.classes
                ]
                for row in response.result.classifications
            ]
            kind = "ClassificationResults"
        else:
            request = regression_pb2.RegressionRequest(model_spec=spec)
            json_arrays.fill_input(document, request.input)
            response = await self._service.regress(request, call)
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

    async def _predict(
        self, spec: Any, document: dict[str, Any], call: Call
    ) -> _Answer:
        rows = True

        def make_feeds(signature: Any) -> dict[str, np.ndarray]:
            nonlocal rows
            types = {
                name: _type_name(info.dtype) for name, info in signature.inputs.items()
            }
            feeds, rows = json_arrays.decode(document, types)
            return feeds

        result = await self._service.run(spec, make_feeds, call)
        # Not on the thread of the batch, which has others to run.
        body = await self._workers.run(
            functools.partial(json_arrays.encode, result.outputs, rows=rows)
        )
        return _Answer(body, version=result.spec.version.value)

    async def _describe(self, match: re.Match[str], call: Call) -> _Answer:
        if not match[1]:
            raise invalid("Missing model name in request.")
        spec = _model_spec(match)
        if not match[4]:
            request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            status = await self._service.get_model_status(request, call)
            return _Answer(_message_json(status))
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = await self._service.get_model_metadata(request, call)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        metadata = b'{"signature_def":%s}' % _message_json(signatures)
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


def _type_name(number: int) -> str:
    """TensorFlow's name of a DataType: "float", "uint8", ..."""
    return types_pb2.DataType.Name(number).removeprefix("DT_").lower()


def _message_json(message: Any) -> bytes:
    return json_format.MessageToJson(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
    ).encode()
