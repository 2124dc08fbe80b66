"""An earlier version of an output folder on a disk, published and recorded once more.

In: a version that ML Metadata knows (metadata.py), and a whole copy of its SavedModel. Out:
one more version, with a Rollback execution and a PushedModel like those of a run, so that
the next run finds it in service. In object storage ledger.py does this.

Loads ML Metadata, and neither TensorFlow nor TFX.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from components.atomic_pusher import publish
from contract.pushed_model import DESTINATION, ROLLBACK_OF, VERSION
from contract.records import MODEL_FILE
from pipeline.history import metadata
from pipeline.history.metadata import PUSHED_MODEL, ROLLBACK
from pipeline.history.published import (
    HistoryError,
    Places,
    Published,
    find,
    refuse_in_service,
)
from pipeline.local import relocation
from pipeline.local.exclusive import exclusive


def rollback(where: Places, version: int) -> Published:
    """Publishes an earlier version again, as a new one, and records it.

    What is published is the copy that the metadata's artifact holds, or else the version's
    own folder; every byte of it is read before anything is published. Takes the output
    folder's lock, so that no run is going on meanwhile.

    Returns:
        The new version.

    Raises:
        HistoryError: There is no such version, it is in service already, or no readable
            copy of it is left.
        pipeline.local.exclusive.FolderInUse: A run is going on.
    """
    metadata.check(where)
    with exclusive(where.output_root):
        relocation.follow(where.output_root)
        store = metadata.Store(where, write=True)
        history = store.published()
        chosen = find(history, version, where)
        refuse_in_service(history, chosen)
        path = _publish(store, where, chosen)
        return next(each for each in metadata.read(where) if each.path == path)


def _publish(store: metadata.Store, where: Places, chosen: Published) -> str:
    """Publishes and records; returns the folder of the new version."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    client = store.client
    execution = mlmd.Execution(
        type_id=client.put_execution_type(mlmd.ExecutionType(name=ROLLBACK)),
        last_known_state=mlmd.Execution.RUNNING,
    )
    execution.custom_properties["version"].int_value = chosen.version
    (execution.id,) = client.put_executions([execution])
    earlier = store.artifacts[chosen.artifact_id]
    # Laid out as TFX does, so that the sweeper of killed runs finds it.
    uri = os.path.join(
        where.output_root, "artifacts", ROLLBACK, PUSHED_MODEL, str(execution.id)
    )
    try:
        _copy_readable([earlier.uri, chosen.path], uri, chosen.version)
        try:
            number = publish.publish(uri, chosen.folder)
        except publish.PublishError as error:
            raise HistoryError(str(error)) from error
    except BaseException:
        shutil.rmtree(uri, ignore_errors=True)
        execution.last_known_state = mlmd.Execution.FAILED
        client.put_executions([execution])
        raise
    execution.last_known_state = mlmd.Execution.COMPLETE
    pushed = mlmd.Artifact(
        type_id=earlier.type_id,
        uri=uri,
        state=mlmd.Artifact.LIVE,
        custom_properties=earlier.custom_properties,
    )
    path = os.path.join(chosen.folder, str(number))
    for name, text in {
        DESTINATION: path,
        VERSION: str(number),
        ROLLBACK_OF: str(chosen.original),
    }.items():
        pushed.custom_properties[name].string_value = text
    _record(client, where.pipeline_name, execution, earlier, pushed)
    return path


def _record(
    client: Any, pipeline: str, execution: Any, earlier: Any, pushed: Any
) -> None:
    """The new PushedModel, its lineage and its contexts, in one transaction."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    def event(kind: Any) -> Any:
        made = mlmd.Event(type=kind)
        made.path.steps.add().key = PUSHED_MODEL
        made.path.steps.add().index = 0
        return made

    client.put_execution(
        execution,
        [(earlier, event(mlmd.Event.INPUT)), (pushed, event(mlmd.Event.OUTPUT))],
        [
            _context(client, "pipeline", pipeline),
            _context(client, "node", f"{pipeline}.{ROLLBACK}"),
        ],
        reuse_context_if_already_exist=True,
    )


def _context(client: Any, kind: str, name: str) -> Any:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    found = client.get_context_by_type_and_name(kind, name)
    if found is not None:
        return found
    type_id = client.put_context_type(
        mlmd.ContextType(name=kind), can_add_fields=True, can_omit_fields=True
    )
    return mlmd.Context(type_id=type_id, name=name)


def _copy_readable(sources: Sequence[str], target: str, version: int) -> None:
    """Copies the first source that is a whole SavedModel, as far as can be told.

    Raises:
        HistoryError: None is; the message says what is wrong with each.
    """
    problems = []
    for source in sources:
        problem = _problem(source)
        if problem is None:
            try:
                shutil.copytree(source, target)
            except (OSError, shutil.Error) as error:
                shutil.rmtree(target, ignore_errors=True)
                problem = f"it cannot be read ({error})"
        if problem is None:
            return
        problems.append(f"{source}: {problem}")
    raise HistoryError(
        f"version {version} cannot be published again, no whole copy of it is left: "
        + "; ".join(problems)
    )


def _problem(folder: str) -> str | None:
    """What is wrong with a SavedModel, as far as its files tell without TensorFlow."""
    from google.protobuf import empty_pb2
    from google.protobuf.message import DecodeError

    if not os.path.isdir(folder):
        return "there is no such folder"
    try:
        with open(os.path.join(folder, MODEL_FILE), "rb") as file:
            content = file.read()
        # Any message parses as one without fields, unless it is cut off or no message.
        empty_pb2.Empty.FromString(content)
    except OSError as error:
        return f"{MODEL_FILE} cannot be read ({error.strerror})"
    except DecodeError:
        return f"{MODEL_FILE} is damaged"
    if not content:
        return f"{MODEL_FILE} is empty"
    variables = os.path.join(folder, "variables")
    if os.path.isdir(variables):
        names = os.listdir(variables)
        data = [name for name in names if name.startswith("variables.data-")]
        if "variables.index" not in names or not data:
            return "its variables are incomplete"
    return None
