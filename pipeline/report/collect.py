"""Which artifacts belong to a run, as ML Metadata tells; the report is built from them.

In: the metadata store of a local run. Out: the dictionary of build.py. On Vertex AI there
is no such store: pipeline/vertex/steps/report is given the artifacts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from contract.run_facts import PROPERTY, RunFacts
from pipeline.report import build

RESOLVER = "tfx.dsl.components.common.resolver.Resolver"
_STATES = metadata_store_pb2.Execution.State
_OUTPUTS = (
    metadata_store_pb2.Event.OUTPUT,
    # A Resolver's outputs were made by others.
    metadata_store_pb2.Event.INTERNAL_OUTPUT,
)
_PLAIN = ("string_value", "int_value", "double_value")


def record_run(database: str, run_id: str, facts: RunFacts) -> None:
    """Keeps what only the runner knows (configuration, start, commit) with the run.

    Args:
        database: Path of the SQLite file.
        run_id: Pipeline run id.
        facts: Of the run.
    """
    store = _open(database)
    context = _run_context(store, run_id)
    context.custom_properties[PROPERTY].string_value = facts.to_json()
    store.put_contexts([context])


def latest_run(database: str) -> str | None:
    """The id of the newest run that came to its end, or None."""
    if not os.path.exists(database):
        return None
    runs = [
        context
        for context in _open(database).get_contexts_by_type("pipeline_run")
        if PROPERTY in context.custom_properties
    ]
    if not runs:
        return None
    return max(runs, key=lambda context: context.create_time_since_epoch).name


def recorded_facts(database: str, run_id: str) -> RunFacts:
    """What `record_run` kept of a run."""
    return _facts(_run_context(_open(database), run_id), database)


def collect(
    database: str, run_id: str, *, in_service: Mapping[str, Any] | None
) -> build.Report:
    """Builds the report of a finished run.

    Args:
        database: Path of the SQLite metadata file.
        run_id: Pipeline run id in it.
        in_service: What is in service now where the run published to
            (pipeline/history/stores.py); None: nothing is.
    """
    return build.build(find(database, run_id, in_service=in_service))


def find(
    database: str, run_id: str, *, in_service: Mapping[str, Any] | None
) -> build.Run:
    """What belongs to a finished run; nothing but the metadata is read."""
    store = _open(database)
    context = _run_context(store, run_id)
    kinds = {kind.id: kind.name for kind in store.get_execution_types()}
    components, artifacts = [], []
    executions = store.get_executions_by_context(context.id)
    for execution in sorted(executions, key=lambda execution: execution.id):
        node = next(
            context.name.split(".", 1)[1]
            for context in store.get_contexts_by_execution(execution.id)
            if context.type == "node"
        )
        components.append(_row(node, execution, kinds[execution.type_id]))
        artifacts += _outputs(store, node, execution.id)
    return build.Run(
        id=run_id,
        facts=_facts(context, database),
        components=components,
        artifacts=artifacts,
        in_service=in_service,
    )


def _facts(context: Any, database: str) -> RunFacts:
    told = context.custom_properties[PROPERTY].string_value
    return RunFacts.from_json(told, f"{database}, {PROPERTY} of {context.name}")


def _open(database: str) -> metadata_store.MetadataStore:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = database
    return metadata_store.MetadataStore(config)


def _run_context(store: metadata_store.MetadataStore, run_id: str) -> Any:
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        raise ValueError(f"run {run_id} is not recorded in the metadata")
    return context


def seconds_of(execution: Any) -> float:
    """How long an execution took."""
    milliseconds = (
        execution.last_update_time_since_epoch - execution.create_time_since_epoch
    )
    return milliseconds / 1000


def _row(node: str, execution: Any, kind: str) -> dict[str, Any]:
    """An execution as a row of report.json's "components".

    `work` is what it did: "done", "cached", or "looked_up" of a Resolver, which makes
    nothing anew in any run; such a row has always been `cached` as well.
    """
    cached = execution.last_known_state == _STATES.Value("CACHED")
    resolver = kind == RESOLVER
    return {
        "id": node,
        "state": _STATES.Name(execution.last_known_state).lower(),
        "seconds": seconds_of(execution),
        "cached": cached or resolver,
        "work": "looked_up" if resolver else "cached" if cached else "done",
    }


def _outputs(
    store: metadata_store.MetadataStore, node: str, execution: int
) -> list[build.Artifact]:
    events = [
        event
        for event in store.get_events_by_execution_ids([execution])
        if event.type in _OUTPUTS
    ]
    by_id = {
        artifact.id: artifact
        for artifact in store.get_artifacts_by_id(
            [event.artifact_id for event in events]
        )
    }
    return [
        build.Artifact(
            node=node,
            key=event.path.steps[0].key,
            id=event.artifact_id,
            type=by_id[event.artifact_id].type,
            uri=by_id[event.artifact_id].uri,
            properties={
                name: getattr(value, field)
                for name, value in by_id[event.artifact_id].custom_properties.items()
                if (field := value.WhichOneof("value")) in _PLAIN
            },
        )
        for event in events
    ]
