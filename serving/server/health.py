"""grpc.health.v1.Health: whether the server takes requests, for load balancers.

The states and their watchers are grpcio-health-checking's; here is only what stands
between its servicer and the server.
"""

# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from serving.server import grpc_core
from serving.server.errors import parse


class Health:
    """Says SERVING for the server and each service, and NOT_SERVING when it stops."""

    def __init__(self, *services: str):
        self._servicer = health.HealthServicer()
        self._watching: set[grpc_core.Call] = set()
        for name in (health.OVERALL_HEALTH, *services):
            self._servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    def methods(self) -> dict[str, grpc_core.Method]:
        """Check and Watch, by their full names."""
        return {
            f"/{health.SERVICE_NAME}/Check": self._check,
            f"/{health.SERVICE_NAME}/Watch": self._watch,
        }

    def stop(self) -> None:
        """From now on NOT_SERVING; watchers are told, and not waited for."""
        self._servicer.enter_graceful_shutdown()
        for call in list(self._watching):
            call.finish(grpc.StatusCode.UNAVAILABLE, "The server is stopping")

    def _check(self, data: bytes, call: grpc_core.Call) -> None:
        request = parse(health_pb2.HealthCheckRequest, data)
        context = _Context(call)
        response = self._servicer.Check(request, context)
        if context.code is None:
            call.reply(response.SerializeToString())
        else:
            call.finish(context.code, f"unknown service {request.service}")

    def _watch(self, data: bytes, call: grpc_core.Call) -> None:
        request = parse(health_pb2.HealthCheckRequest, data)

        def send(response: Any) -> None:
            if response is None:
                call.finish()
            else:
                call.send(response.SerializeToString())

        self._watching.add(call)
        call.on_end(lambda: self._watching.discard(call))
        self._servicer.Watch(request, _Context(call), send)


class _Context:
    """What the servicer uses of a grpc.ServicerContext."""

    def __init__(self, call: grpc_core.Call):
        self.add_callback = call.on_end
        self.code: grpc.StatusCode | None = None

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code
