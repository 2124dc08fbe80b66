"""grpc.health.v1.Health: whether the server takes requests, for load balancers.

The states and their watchers are grpcio-health-checking's; here is only what stands
between its servicer and the server.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from serving.server.errors import ServingError, parse


class Health:
    """Says SERVING for the server and each service, and NOT_SERVING when it stops."""

    def __init__(self, *services: str):
        self._servicer = health.HealthServicer()
        self._watching: set[tuple[Any, Callable[[Any], None]]] = set()
        for name in (health.OVERALL_HEALTH, *services):
            self._servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    def methods(self) -> dict[str, Any]:
        """Check and Watch, by their full names, as handlers of a gRPC server."""

        # A watcher holds no thread: the wrapped function's attributes say so to grpc.
        @functools.wraps(self._servicer.Watch)
        def watch(data: bytes, context: Any, send: Callable[[Any], None]) -> None:
            try:
                request = parse(health_pb2.HealthCheckRequest, data)
            except ServingError as error:
                context.set_code(error.code)
                context.set_details(error.message)
                send(None)
                return
            self._watching.add((context, send))
            context.add_callback(lambda: self._watching.discard((context, send)))
            self._servicer.Watch(request, context, send)

        return {
            f"/{health.SERVICE_NAME}/Check": self._check,
            f"/{health.SERVICE_NAME}/Watch": grpc.unary_stream_rpc_method_handler(
                watch, None, health_pb2.HealthCheckResponse.SerializeToString
            ),
        }

    def stop(self) -> None:
        """From now on NOT_SERVING; watchers are told, and not waited for."""
        self._servicer.enter_graceful_shutdown()
        for context, send in list(self._watching):
            context.set_code(grpc.StatusCode.UNAVAILABLE)
            context.set_details("The server is stopping")
            send(None)

    def _check(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = parse(health_pb2.HealthCheckRequest, data)
        response = self._servicer.Check(request, context)
        if context.code() is grpc.StatusCode.NOT_FOUND:
            context.set_details(f"unknown service {request.service}")
        return response.SerializeToString()
