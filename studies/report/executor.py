"""Work of StudyReport: all answers of a study in, report.html, report.md, study.json out."""

from __future__ import annotations

import os
from typing import Annotated, TypeVar

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.utils import io_utils

from components import artifacts, numbered
from components.declaration import Output, executor_of
from contract import features, provenance
from contract.answers import Answers, predictions_file
from contract.model_run import ModelRun
from contract.predictions import Predictions
from contract.records import ANSWERS_FILE, HISTORY_FILE, STUDY_FILES
from contract.typed_json import Record
from studies.report import markdown, page
from studies.report.measure import Answered, measure
from studies.study import Asked
from studies.tables import STUDIES

_R = TypeVar("_R", bound=Record)


def report(
    *,
    asked: str,
    study_report: Output[artifacts.StudyReport],
    **answers: Annotated[types.Artifact, numbered.inputs("answers", artifacts.Answers)],
) -> None:
    """Compares the rows of a study, seed by seed, and holds them against the paper.

    Args:
        asked: JSON of studies.plan.Asked.
        study_report: Gets the three files.
        **answers: One for each training of the study.

    Raises:
        ValueError: Answers are missing, or of different images.
        RecordError: Answers are damaged.
    """
    plan = Asked.from_json(asked, "asked")
    answered: dict[str, Answered] = {}
    first: Predictions | None = None
    for artifact in answers.values():
        record = _read(artifact.uri, ANSWERS_FILE, Answers)
        test = _predictions(artifact.uri, features.TEST, record)
        if first is None:
            first = test
        elif not test.are_of_the_images_of(first):
            raise ValueError(
                f"{artifact.uri}: answers to other images than the first; only answers to "
                "the same can be compared"
            )
        evaluation = _predictions(artifact.uri, features.EVAL, record)
        answered[record.contender] = Answered(
            run=_read(artifact.uri, HISTORY_FILE, ModelRun),
            wrong=_wrong(test, record),
            eval_error=_mean(_wrong(evaluation, record)),
            problem=record.problems.get(features.TEST),
        )
    if missing := plan.trainings.keys() - answered.keys():
        raise ValueError(f"no answers are given of {', '.join(sorted(missing))}")
    assert first is not None
    counts = np.bincount(first.labels)
    result = measure(
        STUDIES[plan.study],
        plan,
        answered,
        chance_error=1 - float(counts.max()) / len(first.labels),
        test_images=len(first.labels),
        machine=provenance.machine(),
    )
    texts = (
        page.render(result),
        markdown.render(result),
        result.to_json(indent=2) + "\n",
    )
    for name, text in zip(STUDY_FILES, texts, strict=True):
        io_utils.write_string_file(os.path.join(study_report.uri, name), text)


Executor = executor_of(report)


def _read(folder: str, name: str, kind: type[_R]) -> _R:
    path = os.path.join(folder, name)
    with tf.io.gfile.GFile(path, "rb") as file:
        return kind.read(file, path)


def _predictions(folder: str, split: str, record: Answers) -> Predictions:
    path = os.path.join(folder, predictions_file(split))
    with tf.io.gfile.GFile(path, "rb") as file:
        return Predictions.read(file, path, len(record.class_names))


def _wrong(found: Predictions, record: Answers) -> np.ndarray | None:
    probabilities = found.probabilities.get(record.contender)
    if probabilities is None:
        return None
    return probabilities.argmax(axis=1) != found.labels


def _mean(wrong: np.ndarray | None) -> float | None:
    return None if wrong is None else float(wrong.mean())
