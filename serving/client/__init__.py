"""A light client for TensorFlow Serving: no TensorFlow, only grpcio, protobuf, numpy.

    from serving.client import Classifier

    with Classifier("localhost:8500") as classifier:
        for prediction in classifier.classify(["cat.png", "dog.jpg"]):
            print(prediction.class_name, prediction.probability)

`AsyncClassifier` is the same for asyncio; `Classifier("http://localhost:8501")` speaks REST.
Command line: `python -m serving.client --help`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Modules are loaded when a name of theirs is asked for. Who takes the rule for pictures alone
# (serving.client.pictures), as ingestion does, takes nothing of the protocols with it.
_HOMES = {
    "TLS": "options",
    "AsyncClassifier": "async_classifier",
    "Classifier": "classifier",
    "ModelMetadata": "results",
    "Prediction": "results",
    "Retry": "options",
    "Signature": "results",
    "Tensor": "results",
    "Timeouts": "options",
    "VersionStatus": "results",
}


def __getattr__(name: str) -> Any:
    """A name of `__all__`, from its module; all others are errors."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}")
    return getattr(home, name)
