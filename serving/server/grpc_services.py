"""The gRPC side: a table of methods over the handlers, on one server.

Methods are registered by name, without the generated servicers, so that a request which
is no protobuf is answered like any other mistake.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server import metrics
from serving.server.errors import ServingError
from serving.server.handlers import Call, Service

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
# Calls beyond the threads wait; beyond this many more they are refused, so that a flood
# does not fill the memory.
_MOST_WAITING = 1000

_log = logging.getLogger(__name__)

Handle = Callable[[Any, Call], Message]


def prediction_methods(service: Service) -> dict[str, tuple[type[Message], Handle]]:
    """Methods of PredictionService: request type and what answers it."""
    return {
        "Predict": (predict_pb2.PredictRequest, service.predict),
        "Classify": (classification_pb2.ClassificationRequest, service.classify),
        "Regress": (regression_pb2.RegressionRequest, service.regress),
        "MultiInference": (
            inference_pb2.MultiInferenceRequest,
            service.multi_inference,
        ),
        "GetModelMetadata": (
            get_model_metadata_pb2.GetModelMetadataRequest,
            service.get_model_metadata,
        ),
    }


def model_methods(service: Service) -> dict[str, tuple[type[Message], Handle]]:
    """Methods of ModelService."""
    return {
        "GetModelStatus": (
            get_model_status_pb2.GetModelStatusRequest,
            service.get_model_status,
        ),
        "HandleReloadConfigRequest": (
            model_management_pb2.ReloadConfigRequest,
            service.reload_config,
        ),
    }


def create(
    service: Service, *, threads: int, options: Mapping[str, Any]
) -> grpc.Server:
    """A server with both services; no port yet."""
    server = grpc.server(
        ThreadPoolExecutor(threads, "grpc"),
        options=list(options.items()),
        maximum_concurrent_rpcs=threads + _MOST_WAITING,
    )
    for name, methods, counted in (
        (PREDICTION_SERVICE, prediction_methods(service), True),
        (MODEL_SERVICE, model_methods(service), False),
    ):
        handlers = {
            method: _handler(method, kind, handle, counted=counted)
            for method, (kind, handle) in methods.items()
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, handlers),)
        )
    return server


def _handler(
    method: str, kind: type[Message], handle: Handle, *, counted: bool
) -> grpc.RpcMethodHandler:
    def answer(data: bytes, context: grpc.ServicerContext) -> Message:
        began = time.perf_counter()
        model, code = "", grpc.StatusCode.OK
        try:
            request = kind.FromString(data)
            del data  # a large request is not held twice
            model = _model_name(request)
            return handle(request, _call(context))
        except ServingError as error:
            code = error.code
            context.abort(code, error.message)
        except DecodeError:
            code = grpc.StatusCode.INVALID_ARGUMENT
            context.abort(code, f"The request is not a {kind.DESCRIPTOR.full_name}")
        except Exception:  # a mistake of ours; its text may hold a caller's data
            code = grpc.StatusCode.INTERNAL
            _log.exception("%s failed", method)
            context.abort(code, "Internal error; the server's log has more")
        finally:
            if counted:
                seconds = time.perf_counter() - began
                metrics.observe_request(model, method, "GRPC", code.name, seconds)
        raise AssertionError  # abort raises

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=None,
        response_serializer=lambda message: message.SerializeToString(),
    )


def _call(context: grpc.ServicerContext) -> Call:
    remaining = context.time_remaining()
    # A call without a deadline has some hundred years left.
    bounded = remaining is not None and remaining < 1e8
    deadline = time.monotonic() + remaining if bounded else None  # type: ignore[operator]
    return Call(deadline, lambda: not context.is_active(), "grpc")


def _model_name(request: Any) -> str:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    if isinstance(request, model_management_pb2.ReloadConfigRequest):
        return ""
    return request.model_spec.name
