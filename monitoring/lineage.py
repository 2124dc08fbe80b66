"""What a version that answers live requests was trained on, and what it answered then.

In: a run's output folder and the number of a version. ML Metadata there knows the run
that published it (pipeline/history), also behind a rollback, which publishes the same model
as a new version. Out: the Examples of that very training, and the classes that this very
model gave the eval images, as the Evaluator stored them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from contract import arrays, stored
from contract.fields import ConfigError
from contract.records import COMPARISON_FILE, PREDICTIONS_FILE
from pipeline.history import published, stores

_MOST_COMPARISON, _MOST_PREDICTIONS = 16 << 20, 1 << 30  # bytes


class NothingToCompare(Exception):
    """One side is missing; the message says which, and what to do."""


class Origin(NamedTuple):
    """Where one version came from."""

    examples: Path  # folder of the Examples that it was trained on
    answers: np.ndarray  # object (str) [eval images], the class it gave each of them


def origin(output: str, model: str, version: int) -> Origin:
    """Follows a version to its training and evaluation.

    Args:
        output: A run's output folder on this machine.
        model: Its name, for the case that two have a version of one number.
        version: Of the model.

    Raises:
        NothingToCompare: The version, or something that it came from, is not there.
    """
    if "://" in output:
        raise NothingToCompare(
            f"{output}: --pipeline_output must be a folder on this machine; copy that of "
            "the run here."
        )
    overrides = [
        f"output_root={os.path.abspath(output)}",
        f"serving.model_name={model}",
    ]
    try:
        shown = stores.lineage(published.places(overrides, os.getcwd()), version)
    except (published.HistoryError, ConfigError) as problem:
        raise NothingToCompare(
            f"What {model}, version {version}, was trained on is not known: {problem}."
        ) from None
    try:
        examples, evaluation = _inputs(shown, output)
    except (KeyError, ValueError):
        raise NothingToCompare(
            f"What {model}, version {version}, was trained on is not recorded in "
            f"{output}."
        ) from None
    for what, folder in (
        ("The images that {} was trained on", examples),
        ("The answers of {} to the eval images", evaluation),
    ):
        if not folder.is_dir():
            named = what.format(f"{model}, version {version},")
            raise NothingToCompare(f"{named} are gone: there is no {folder}.")
    return Origin(examples, _answers(evaluation, shown["role"]))


def _inputs(shown: dict[str, Any], output: str) -> tuple[Path, Path]:
    """Folders of the Examples and of the Evaluator's result."""
    executions = shown["executions"]
    (chooser,) = (each for each in executions if each["node"] == "ModelChooser")
    (trained,) = chooser["inputs"][shown["role"]]
    (evaluation,) = chooser["inputs"]["evaluation"]
    (training,) = (each for each in executions if [trained] in each["outputs"].values())
    (examples,) = training["inputs"]["examples"]
    folders = {each["id"]: each["uri"] for each in shown["artifacts"]}
    return _here(folders[examples], output), _here(folders[evaluation], output)


def _here(uri: str, output: str) -> Path:
    """An artifact's folder, in an output folder that may have been moved or copied."""
    _, found, below = uri.rpartition("/artifacts/")
    return Path(output, "artifacts", below) if found else Path(uri)


def _answers(evaluation: Path, role: str) -> np.ndarray:
    """The class that one contender gave each eval image."""
    try:
        with (evaluation / COMPARISON_FILE).open("rb") as file:
            names = stored.json_object(file, _MOST_COMPARISON)["class_names"]
        with (evaluation / PREDICTIONS_FILE).open("rb") as file:
            found = arrays.read(file, _MOST_PREDICTIONS)
        labels = found[f"probabilities/{role}"].argmax(axis=1)
        return np.array(names, object)[labels]
    except Exception as problem:  # a file that is gone, cut, or of another form
        raise NothingToCompare(
            f"{evaluation} cannot be read as an evaluation: {problem}"
        ) from problem
