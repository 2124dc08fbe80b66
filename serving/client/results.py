"""What calls return: small frozen values.

`Prediction` per image; `VersionStatus` and `ModelMetadata` describe a model on a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one image.

    Compares equal to another one with the same label, name, version and bits.
    """

    label: int
    class_name: str
    probabilities: np.ndarray = field(repr=False)  # float32 [classes], sums to 1
    model_version: int  # which answered

    @property
    def probability(self) -> float:
        """Of the predicted class."""
        return float(self.probabilities[self.label])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int, str, int, bytes]:
        bits = self.probabilities.tobytes()
        return self.label, self.class_name, self.model_version, bits


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model."""

    version: int
    state: str  # START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN
    error_code: str  # gRPC's name; OK: no error
    error_message: str


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature."""

    dtype: str  # TensorFlow's name: UINT8, FLOAT, STRING, ...
    shape: tuple[int | None, ...] | None  # None inside: any size; None: any rank
    name: str  # in the graph


@dataclass(frozen=True)
class Signature:
    """One way to call a model."""

    method: str  # for instance tensorflow/serving/predict
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class ModelMetadata:
    """What a version of a model takes and gives."""

    model: str
    version: int
    signatures: dict[str, Signature]


# tensorflow_serving/apis/get_model_status.proto
STATES = {
    0: "UNKNOWN",
    10: "START",
    20: "LOADING",
    30: "AVAILABLE",
    40: "UNLOADING",
    50: "END",
}

# google/rpc/code.proto, as tensorflow.error.Code
CODES = {
    0: "OK",
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
