"""How a model was trained: history.json of a training, run.json inside the model.

The Trainer writes the same record into both. The model's own travels with it wherever it
is published; another version of the project may have written it, with fewer fields. A leaf:
standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.typed_json import AnyFloat, Count, Record, Size

_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class ModelRun(Record):
    """A finished training; None and empty: nobody told."""

    network: str | None = None
    role: str | None = None
    parameters: Count | None = None  # trainable
    train: Mapping[str, Any] = field(default_factory=dict)  # TrainConfig
    initial_weights: str | None = None  # path of what it started from; None: random
    initial_weights_digest: str | None = None  # as of trainer.initial_weights
    train_examples: Count | None = None
    eval_examples: Count | None = None
    dataset: str | None = None  # its name
    class_names: tuple[str, ...] | None = None  # in label order
    # Height, width, channels of what it takes; of an earlier version's record unknown.
    image_shape: tuple[Count, Count, Count] | None = None
    # It was trained on files of pictures, of which it cuts such images out.
    encoded: bool | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    steps: Count | None = None
    seconds: Size | None = None  # in training steps, over all attempts of a resumed run
    images_per_second: Size | None = None
    replicas: Count | None = None
    # Points of the learning curves: "step", "epoch" and, while training, "loss",
    # "accuracy", "gradient_norm", "learning_rate" (means since the point before), after
    # passes "eval_loss" and "eval_accuracy".
    history: tuple[Mapping[str, AnyFloat], ...] = ()
    # Why there is no model: the training diverged, at step `steps`. None: there is one.
    problem: str | None = None

    def __post_init__(self) -> None:
        # It is said on screens, and kept.
        name = self.network or ""
        if len(name) > _LONGEST_NAME or (name and not name.isprintable()):
            raise ValueError(
                f"network must be printable, in {_LONGEST_NAME} characters at most"
            )
        for number, point in enumerate(self.history):
            if not {"step", "epoch"} <= point.keys():
                raise ValueError(f"history[{number}] must have a step and an epoch")
