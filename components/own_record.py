"""What a SavedModel says of itself: the run.json inside it, wherever it lies."""

from __future__ import annotations

import os

from absl import logging
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import PushedModel

from contract import pushed_model
from contract.model_run import ModelRun
from contract.records import MODEL_RUN_FILE
from contract.typed_json import RecordError


def read(folder: str) -> ModelRun:
    """How a model was trained; empty where it does not say.

    Another version of the project may not have written it, and a person may have damaged
    it: what is not known of a model stops nothing.

    Args:
        folder: Of the SavedModel; local or gs://.
    """
    path = os.path.join(folder, MODEL_RUN_FILE)
    if not fileio.exists(path):
        return ModelRun()
    try:
        with fileio.open(path, "rb") as file:
            return ModelRun.read(file, path)
    except RecordError as problem:
        logging.warning("What the model says of itself is not used: %s", problem)
        return ModelRun()


def is_in_service(pushed: PushedModel | None) -> bool:
    """Whether an artifact is a model in service.

    Where every output must have an artifact, one that was not pushed says that nothing is
    in service yet.
    """
    return pushed is not None and (
        not pushed.has_custom_property(pushed_model.PUSHED)
        or bool(pushed.get_int_custom_property(pushed_model.PUSHED))
    )
