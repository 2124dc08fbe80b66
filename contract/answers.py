"""What one model answered to the images that judge it: answers.json of an Answers.

The node Answers writes it, with the predictions of each split beside it
(contract.predictions); the Evaluator reads both. A leaf: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract import features
from contract.typed_json import Count, Record, Size

SPLITS = (features.EVAL, features.TEST)  # the first decides, the second only reports


def predictions_file(split: str) -> str:
    """Name of the file with a split's predictions; contract.predictions.Predictions."""
    return f"{split}.npz"


@dataclass(frozen=True, kw_only=True)
class Answers(Record):
    """Which model was asked, about which data, and how that went."""

    contender: str  # its name, or "in_service"
    there: bool = True  # False: no model is in service, and there are no predictions
    network: str | None = None  # None: the model does not say
    seed: Count | None = None  # of its training; None: the model does not say
    label_key: str  # feature that was to be told
    class_names: tuple[str, ...]  # of the data set, in label order
    # Split -> why nothing can be concluded from it, as a sentence; its file then holds no
    # probabilities.
    problems: Mapping[str, str] = field(default_factory=dict)
    artifact_id: Count | None = None  # of the Model or PushedModel
    uri: str | None = None  # of the same
    images_per_second: Size | None = None  # in batches
    load_seconds: Size | None = None
