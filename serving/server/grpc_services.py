"""The gRPC side: a table of methods over the handlers, and the server that has them.

Methods are registered by name, without the generated servicers, so that a request which
is no protobuf is answered like any other mistake. Each call has a thread; calls beyond
them are refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import Message
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
from serving.server.errors import INTERNAL, ServingError, parse
from serving.server.handlers import Call, Service

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_log = logging.getLogger(__name__)

Handle = Callable[[Any, Call], Message]
# Takes and returns serialised messages; what it raises is answered.
Method = Callable[[bytes, grpc.ServicerContext], bytes]
_NO_DEADLINE = 1e8  # seconds: such a call has some hundred years left


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


def methods(service: Service) -> dict[str, Method]:
    """Both services, by the methods' full names."""
    return {
        f"/{name}/{method}": _method(method, kind, handle, service if counted else None)
        for name, table, counted in (
            (PREDICTION_SERVICE, prediction_methods(service), True),
            (MODEL_SERVICE, model_methods(service), False),
        )
        for method, (kind, handle) in table.items()
    }


def _method(
    method: str, kind: type[Message], handle: Handle, counted_by: Service | None
) -> Method:
    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        began = time.perf_counter()
        model, code = "", grpc.StatusCode.INTERNAL
        try:
            request = parse(kind, data)
            model = _model_name(request)
            answered = handle(request, _call(context)).SerializeToString()
            code = grpc.StatusCode.OK
            return answered
        except ServingError as error:
            code = error.code
            raise
        finally:
            if counted_by:  # before the answer: who has one finds it counted
                label, seconds = counted_by.label(model), time.perf_counter() - began
                metrics.observe_request(label, method, "GRPC", code.name, seconds)

    return answer


def _call(context: grpc.ServicerContext) -> Call:
    seconds = context.time_remaining()
    if seconds is not None and seconds < _NO_DEADLINE:
        deadline = time.monotonic() + seconds
    else:
        deadline = None
    return Call(deadline, lambda: not context.is_active())


class _Table(grpc.GenericRpcHandler):
    def __init__(self, methods: Mapping[str, Any]):
        self._methods = methods

    def service(self, handler_call_details: Any) -> Any:
        return self._methods.get(handler_call_details.method)


def server(
    methods: Mapping[str, Any], most_calls: int, options: Mapping[str, Any]
) -> grpc.Server:
    """A gRPC server, not started yet.

    Args:
        methods: By full name, "/package.Service/Method": a Method, or a handler of grpc's.
        most_calls: At the same time; further ones get RESOURCE_EXHAUSTED.
        options: Channel arguments.
    """
    table = {
        name: method
        if isinstance(method, grpc.RpcMethodHandler)
        else grpc.unary_unary_rpc_method_handler(_answered(name, method))
        for name, method in methods.items()
    }
    return grpc.server(
        ThreadPoolExecutor(most_calls, "grpc"),
        handlers=[_Table(table)],
        options=tuple(options.items()),
        maximum_concurrent_rpcs=most_calls,
    )


def _answered(name: str, method: Method) -> Method:
    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return method(data, context)
        except ServingError as error:
            code, text = error.code, error.message
        except Exception:  # a mistake of ours
            code, text = grpc.StatusCode.INTERNAL, INTERNAL
            _log.exception("%s failed", name)
        context.abort(code, text)

    return answer


def _model_name(request: Any) -> str:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    if isinstance(request, model_management_pb2.ReloadConfigRequest):
        return ""
    return request.model_spec.name
