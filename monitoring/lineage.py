"""The baseline of a version that was published without one: made now, of what its run left.

In: a run's output folder and the number of a version. `pipeline.py models show` knows the
run that published it, also behind a rollback, which publishes the same model as a new
version. Out: what the push writes today (contract/baseline.py), of the images of that very
training and the answers that this very model gave the eval images.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.drift import baseline
from contract.baseline import Baseline
from contract.comparison import Comparison
from contract.contenders import title
from contract.datasets import Dataset
from contract.predictions import Predictions
from contract.records import COMPARISON_FILE, PREDICTIONS_FILE
from contract.typed_json import RecordError
from monitoring import NothingToCompare

_PIPELINE = Path(__file__).parents[1] / "pipeline.py"
_MOST_SECONDS = 60.0  # it takes one


def recorded(output: str, model: str, version: int) -> Baseline:
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
    shown = _shown(output, model, version)
    try:
        examples, evaluation, name = _inputs(shown, output)
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
    dataset = _dataset(examples, name)
    names, predictions = _answers(evaluation)
    try:
        return baseline.baseline(
            str(examples), dataset, names, predictions, shown["role"]
        )
    except Exception as problem:  # TensorFlow's, protobuf's, or a missing feature's
        raise NothingToCompare(
            f"{model}, version {version}, cannot be compared with its training in "
            f"{examples} and {evaluation}: {problem}"
        ) from problem


def _dataset(examples: Path, name: str) -> Dataset:
    from trainer.examples import dataset_of  # loads TensorFlow

    try:
        return dataset_of(str(examples), name)
    except (FileNotFoundError, RecordError) as problem:
        raise NothingToCompare(
            f"{examples} cannot be read as training examples: {problem}"
        ) from problem


def _shown(output: str, model: str, version: int) -> dict[str, Any]:
    """What `models show` prints: asked as a person asks, this room knows no pipeline."""
    command = [
        *(sys.executable, str(_PIPELINE), "models", "show", str(version)),
        f"output_root={os.path.abspath(output)}",
        f"serving.model_name={model}",
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        problem = f"`models show` gave no answer within {_MOST_SECONDS:g} s"
    else:
        if done.returncode == 0:
            return json.loads(done.stdout)
        said = done.stderr.strip() or f"`models show` ended with {done.returncode}"
        problem = said.splitlines()[-1].removeprefix("error: ")
    raise NothingToCompare(
        f"What {model}, version {version}, was trained on is not known: {problem}."
    )


def _inputs(shown: dict[str, Any], output: str) -> tuple[Path, Path, str]:
    """Folders of the Examples and of the Evaluator's result; the data set's name."""
    executions = shown["executions"]
    (chooser,) = (each for each in executions if each["node"] == "ModelChooser")
    trained = _trained(shown["role"], chooser["inputs"], executions)
    (evaluation,) = chooser["inputs"]["evaluation"]
    (training,) = (each for each in executions if [trained] in each["outputs"].values())
    (examples,) = training["inputs"]["examples"]
    found = {each["id"]: each for each in shown["artifacts"]}
    return (
        _here(found[examples]["uri"], output),
        _here(found[evaluation]["uri"], output),
        found[examples]["properties"].get("name", ""),
    )


def _trained(
    contender: str,
    inputs: Mapping[str, list[int]],
    executions: Sequence[Mapping[str, Any]],
) -> int:
    """The Model that a contender's Trainer made, of those that the ModelChooser was given."""
    if contender in inputs:  # as runs of earlier versions have it
        (trained,) = inputs[contender]
        return trained
    given = {each for ids in inputs.values() for each in ids}
    (trained,) = (
        made
        for each in executions
        if each["node"] == f"{title(contender)}Trainer"
        for made in each["outputs"].get("model", ())
        if made in given
    )
    return trained


def _here(uri: str, output: str) -> Path:
    """An artifact's folder, in an output folder that may have been moved or copied."""
    _, found, below = uri.rpartition("/artifacts/")
    return Path(output, "artifacts", below) if found else Path(uri)


def _answers(evaluation: Path) -> tuple[Sequence[str], Predictions]:
    """Names of the classes, and the answers to the eval images of all that was compared."""
    try:
        with (evaluation / COMPARISON_FILE).open("rb") as file:
            names = Comparison.read(file, COMPARISON_FILE).class_names
        with (evaluation / PREDICTIONS_FILE).open("rb") as file:
            return names, Predictions.read(file, PREDICTIONS_FILE, len(names))
    except (OSError, RecordError) as problem:
        raise NothingToCompare(
            f"{evaluation} cannot be read as an evaluation: {problem}"
        ) from problem
