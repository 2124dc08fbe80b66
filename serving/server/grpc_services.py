"""The gRPC side: a table of methods over the handlers, for one server.

Methods are registered by name, without the generated servicers, so that a request which
is no protobuf is answered like any other mistake.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
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

from serving.server import grpc_core, metrics, pending
from serving.server.errors import INTERNAL, ServingError, parse
from serving.server.handlers import Call, Service

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_log = logging.getLogger(__name__)

Handle = Callable[[Any, Call], Coroutine[pending.Pending[Any], None, Message]]


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


def methods(service: Service) -> dict[str, grpc_core.Method]:
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
) -> grpc_core.Method:
    async def answer(data: bytes, call: grpc_core.Call) -> None:
        began = time.perf_counter()
        model, code, text, message = "", grpc.StatusCode.OK, "", b""
        try:
            request = parse(kind, data)
            del data  # a large request is not held twice
            model = _model_name(request)
            response = await handle(
                request, Call(call.deadline, call.ended, call.spare)
            )
            message = response.SerializeToString()
        except ServingError as error:
            code, text = error.code, error.message
        except Exception:  # a mistake of ours
            code, text = grpc.StatusCode.INTERNAL, INTERNAL
            _log.exception("%s failed", method)
        if counted_by:  # before the answer: who has one finds it counted
            label, seconds = counted_by.label(model), time.perf_counter() - began
            metrics.observe_request(label, method, "GRPC", code.name, seconds)
        if code is grpc.StatusCode.OK:
            call.reply(message)
        else:
            call.finish(code, text)

    return lambda data, call: pending.start(answer(data, call))


def _model_name(request: Any) -> str:
    if isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.tasks[0].model_spec.name if request.tasks else ""
    if isinstance(request, model_management_pb2.ReloadConfigRequest):
        return ""
    return request.model_spec.name
