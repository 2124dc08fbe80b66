"""Work of ModelInService: the ledger in, the version in service out."""

from __future__ import annotations

from typing import Annotated

from absl import logging
from tfx import types
from tfx.types.standard_artifacts import Model, PushedModel

from components import numbered
from components.atomic_pusher import ledger
from components.declaration import Output, executor_of
from contract import pushed_model as properties
from contract.contenders import MOST_CONTENDERS


def find_in_service(
    *,
    destination: str,
    pushed: Output[PushedModel],
    **models: Annotated[
        types.Artifact, numbered.inputs("model", Model, MOST_CONTENDERS)
    ],
) -> None:
    """Finds the model that a run's contenders have to beat, in the ledger of the pushes.

    The same as InServiceStrategy finds in ML Metadata, where that cannot be asked (on
    Vertex AI). It reads what other runs wrote, so that it must never be taken from a
    cache.

    Args:
        destination: gs:// folder `<base>/<model name>` of the pushes.
        pushed: Becomes the version in service, folder and all, with the custom
            properties of contract/pushed_model.py; `pushed` is 0 when there is none.
        **models: That this run trained: none is compared with itself.

    Raises:
        PublishError: The ledger cannot be read.
    """
    own = [model.uri for model in models.values()]
    folder = ledger.open_folder(destination)
    with ledger.errors(f"{folder.uri} cannot be read"):
        _, history = ledger.published(folder)
        there = ledger.are_there(folder, history)
    entry = ledger.entry_to_beat(history, there, own)
    if entry is None:
        logging.info("Nothing is in service at %s yet", folder.uri)
        pushed.set_int_custom_property(properties.PUSHED, 0)
        return
    path = folder.version_uri(entry.version)
    # Of an earlier version somebody may have removed the folder, but not the copy.
    exists = there[history.index(entry)]
    pushed.uri = path if exists else entry.origin.artifact_uri or path
    logging.info("In service: version %d, %s", entry.version, pushed.uri)
    pushed.set_int_custom_property(properties.PUSHED, 1)
    for name, value in {
        properties.DESTINATION: path,
        properties.VERSION: str(entry.version),
        properties.NETWORK: entry.origin.network,
        properties.ROLE: entry.origin.role,
        properties.MODEL_URI: entry.origin.model_uri,
        properties.ROLLBACK_OF: entry.rollback_of and str(entry.rollback_of),
    }.items():
        if value:
            pushed.set_string_custom_property(name, value)


Executor = executor_of(find_in_service)
