"""A gRPC server made of tensorflow_serving's own stubs and TensorFlow's own tensors.

Nothing of serving.client or serving.server is used in it, so that it is an independent
judge of what the client sends. The model: `label` is the sum of an image's pixels
modulo 10.
"""

from __future__ import annotations

import io
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = [f"class {index}" for index in range(10)]


@dataclass
class Backend:
    """What the server does and has seen; tests change and read it."""

    address: str = ""
    socket: str = ""
    version: int = 7
    labels: dict[str, int] = field(default_factory=lambda: {"stable": 7})
    failures: list[tuple[Any, str]] = field(default_factory=list)  # answered first
    delay_seconds: float = 0.0
    image_shape: Any = (32, 32, 3)  # None: the signature says nothing of it
    as_content: bool = True  # tensor_content, or one field per value
    statuses: list[tuple[int, int, int, str]] = field(default_factory=list)
    calls: int = 0
    busy: int = 0
    most_busy: int = 0
    signatures: list[str] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        end = time.monotonic() + 10
        while self.busy and time.monotonic() < end:  # with an earlier test's request
            time.sleep(0.005)
        fresh = Backend(address=self.address, socket=self.socket)
        for name, value in vars(fresh).items():
            if name != "guard":
                setattr(self, name, value)


def expected_label(image: np.ndarray) -> int:
    return int(image.sum(dtype=np.int64) % 10)


def expected_probabilities(images: np.ndarray) -> np.ndarray:
    labels = images.sum(axis=(1, 2, 3), dtype=np.int64) % 10
    return (np.eye(10) * 0.9 + 0.01)[labels].astype(np.float32)


def random_images(count: int, seed: int = 0) -> np.ndarray:
    shape = (count, 32, 32, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_png(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def damaged(content: bytes) -> bytes:
    """A PNG of random pixels with whole chunks: only its decoder sees what is wrong."""
    return content[:300] + bytes(100) + content[400:]


def start_server(socket: Path, credentials: Any = None) -> tuple[Any, Backend]:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    backend = Backend()

    def resolve(spec: Any, context: Any) -> int:
        if spec.name != "cifar":
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Latest({spec.name})",
            )
        which = spec.WhichOneof("version_choice")
        if which == "version_label":
            if spec.version_label not in backend.labels:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
            return backend.labels[spec.version_label]
        if which == "version" and spec.version.value != backend.version:
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific(cifar, {spec.version.value})",
            )
        return backend.version

    def decode(files: np.ndarray, context: Any) -> np.ndarray:
        images = []
        for content in files:
            try:
                image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            except Exception:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Invalid PNG data")
            images.append(image)
        return np.stack(images)

    def tensor(value: Any, dtype: Any) -> Any:
        array = np.asarray(value)
        if backend.as_content or dtype == tf.string:
            return tf.make_tensor_proto(array, dtype)
        proto = tf.make_tensor_proto(np.zeros([0], dtype.as_numpy_dtype), dtype)
        proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
        target = proto.float_val if dtype == tf.float32 else proto.int64_val
        target.extend(array.ravel().tolist())
        return proto

    class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            with backend.guard:
                backend.calls += 1
                backend.busy += 1
                backend.most_busy = max(backend.busy, backend.most_busy)
                backend.metadata.append(dict(context.invocation_metadata()))
                failure = backend.failures.pop(0) if backend.failures else None
            try:
                if failure:
                    context.abort(*failure)
                end = time.monotonic() + backend.delay_seconds
                while context.is_active() and (left := end - time.monotonic()) > 0:
                    time.sleep(min(left, 0.01))
                return self.answer(request, context)
            finally:
                with backend.guard:
                    backend.busy -= 1

        def answer(self, request, context):
            version = resolve(request.model_spec, context)
            signature = request.model_spec.signature_name
            if signature == "serving_default":
                images = tf.make_ndarray(request.inputs["images"])
                if images.dtype != np.uint8 or images.shape[1:] != tuple(
                    backend.image_shape
                ):
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong images")
            elif signature == "encoded_images":
                images = decode(tf.make_ndarray(request.inputs["encoded"]), context)
            elif signature == "echo":
                images = None
            else:
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f'Serving signature name: "{signature}" not found in signature def',
                )
            with backend.guard:
                backend.signatures.append(signature)
                backend.batch_sizes.append(0 if images is None else len(images))
            response = predict_pb2.PredictResponse()
            response.model_spec.name = "cifar"
            response.model_spec.version.value = version
            response.model_spec.signature_name = signature
            if images is None:
                outputs = {
                    name: tf.make_tensor_proto(
                        tf.make_ndarray(value), tf.as_dtype(value.dtype)
                    )
                    for name, value in request.inputs.items()
                }
            else:
                labels = images.sum(axis=(1, 2, 3), dtype=np.int64) % 10
                outputs = {
                    "probabilities": tensor(expected_probabilities(images), tf.float32),
                    "label": tensor(labels, tf.int64),
                    "class_name": tensor(
                        [CLASSES[label].encode() for label in labels], tf.string
                    ),
                }
            for name, value in outputs.items():
                if not request.output_filter or name in request.output_filter:
                    response.outputs[name].CopyFrom(value)
            return response

        def GetModelMetadata(self, request, context):  # noqa: N802
            version = resolve(request.model_spec, context)
            assert list(request.metadata_field) == ["signature_def"]
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = "cifar"
            response.model_spec.version.value = version
            signatures = get_model_metadata_pb2.SignatureDefMap()
            signature = signatures.signature_def["serving_default"]
            signature.method_name = "tensorflow/serving/predict"
            signature.inputs["images"].dtype = tf.uint8.as_datatype_enum
            signature.inputs["images"].name = "serving_default_images:0"
            shape = backend.image_shape
            signature.inputs["images"].tensor_shape.CopyFrom(
                tf.TensorShape(shape and [None, *shape]).as_proto()
            )
            signature.outputs["label"].dtype = tf.int64.as_datatype_enum
            signature.outputs["label"].tensor_shape.unknown_rank = True
            response.metadata["signature_def"].Pack(signatures)
            return response

    class Models(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            # Labels are ignored: model_servers/get_model_status_impl.cc at 49ac8ac.
            request.model_spec.ClearField("version_label")
            resolve(request.model_spec, context)
            response = get_model_status_pb2.GetModelStatusResponse()
            statuses = backend.statuses or [(backend.version, 30, 0, "")]
            for version, state, code, message in statuses:
                entry = response.model_version_status.add(version=version, state=state)
                entry.status.error_code = code
                entry.status.error_message = message
            return response

    server = grpc.server(futures.ThreadPoolExecutor(16))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Prediction(), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
        server.add_insecure_port(f"unix:{socket}")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    backend.address = f"127.0.0.1:{port}"
    backend.socket = f"unix:{socket}"
    return server, backend
