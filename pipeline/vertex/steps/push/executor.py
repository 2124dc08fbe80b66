"""Work of VertexPush: registers, deploys, and writes down where the model is."""

from __future__ import annotations

import os

from absl import logging
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import ModelEvaluation, PushedModel

from components.atomic_pusher import ledger
from components.declaration import Output, executor_of
from contract import pushed_model as properties
from contract.comparison import Comparison
from contract.records import COMPARISON_FILE
from pipeline.vertex.steps.push import follow
from pipeline.vertex.steps.push.patience import Patience
from pipeline.vertex.steps.push.settings import decode

_COPIED = (
    properties.DESTINATION,
    properties.VERSION,
    properties.NETWORK,
    properties.ROLE,
    properties.MODEL_URI,
)


def register(
    *,
    pushed_model: PushedModel,
    evaluation: ModelEvaluation,
    test_evaluation: ModelEvaluation,
    settings: str,
    registered: Output[PushedModel],
) -> None:
    """Registers a pushed version in Model Registry, and deploys it to an Endpoint.

    The folder in object storage stays what decides; this follows it. A task that is
    repeated finds what an earlier try has made. What Vertex AI has is no artifact, so
    that this must never be taken from a cache.

    Args:
        pushed_model: Of the AtomicPusher, at gs://.
        evaluation: Of the Evaluator, on the eval split.
        test_evaluation: The same on the test split. Both are imported beside the version.
        settings: JSON of pipeline/vertex/steps/push/settings.py.
        registered: Gets the custom properties of contract/pushed_model.py, also those of
            Model Registry and Endpoint; `pushed` is 0 when nothing was pushed.

    Where Vertex AI refuses, what was pushed to the folder stays, and the sentence is a
    property: a step that failed would leave the run without a report. The Report fails
    with it, once it is written.
    """
    if not pushed_model.get_int_custom_property(properties.PUSHED):
        logging.warning("Nothing was pushed, so nothing is registered")
        registered.set_int_custom_property(properties.PUSHED, 0)
        return
    uri, _, version = pushed_model.get_string_custom_property(
        properties.DESTINATION
    ).rpartition("/")
    outcome: dict[str, str | int] = {}
    try:
        where = (decode(settings), ledger.open_folder(uri), int(version))
        outcome |= follow.follow(*where, Patience())
        follow.import_evaluations(
            *where,
            str(outcome[properties.REGISTERED_MODEL]),
            [_comparison(each) for each in (evaluation, test_evaluation)],
            Patience(),
        )
    except Exception as error:
        logging.exception("%s/%s was published, and is not registered", uri, version)
        sentence = " ".join(str(error).split()) or type(error).__name__
        outcome[properties.REGISTRATION_PROBLEM] = sentence
    for name in _COPIED:
        value = pushed_model.get_string_custom_property(name)
        if value:
            registered.set_string_custom_property(name, value)
    registered.set_int_custom_property(properties.PUSHED, 1)
    for name, value in outcome.items():
        if isinstance(value, int):
            registered.set_int_custom_property(name, value)
        else:
            registered.set_string_custom_property(name, value)


Executor = executor_of(register)


def _comparison(evaluation: ModelEvaluation) -> Comparison:
    path = os.path.join(evaluation.uri, COMPARISON_FILE)
    with fileio.open(path, "rb") as file:
        return Comparison.read(file, path)
