"""A light client for TensorFlow Serving: no TensorFlow, only grpcio, protobuf, numpy.

    from serving.client import Classifier

    with Classifier("localhost:8500") as classifier:
        for prediction in classifier.classify(["cat.png", "dog.jpg"]):
            print(prediction.class_name, prediction.probability)

`AsyncClassifier` is the same for asyncio; `Classifier("http://localhost:8501")` speaks REST.
Command line: `python -m serving.client --help`.
"""

from serving.client.async_classifier import AsyncClassifier
from serving.client.classifier import Classifier
from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    InvalidResponse,
    NotFound,
    Overloaded,
    PermissionRefused,
    ServerFault,
    ServingError,
    Unavailable,
    Unsupported,
)
from serving.client.options import TLS, Retry, Timeouts
from serving.client.results import (
    ModelMetadata,
    Prediction,
    Signature,
    Tensor,
    VersionStatus,
)

__all__ = [
    "TLS",
    "AsyncClassifier",
    "Cancelled",
    "Classifier",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InvalidInput",
    "InvalidResponse",
    "ModelMetadata",
    "NotFound",
    "Overloaded",
    "PermissionRefused",
    "Prediction",
    "Retry",
    "ServerFault",
    "ServingError",
    "Signature",
    "Tensor",
    "Timeouts",
    "Unavailable",
    "Unsupported",
    "VersionStatus",
]
__version__ = "0.1.0"
