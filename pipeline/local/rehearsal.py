"""What the next run would do: TFX's own launcher, on a copy of the metadata.

In: a pipeline of `pipeline.dag`, connected to a copy of the metadata in its output folder.
Every node is launched as in a run, so that TFX resolves its inputs and asks its cache; only
the executors do nothing, and what they would write has a place in a temporary folder.
Out: per node what would happen, why, and how long it took last.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.local import local_dag_runner
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import base_executor_operator, data_types
from tfx.proto.orchestration import (
    executable_spec_pb2,
    execution_result_pb2,
    pipeline_pb2,
)

from contract.config.run import RunConfig
from pipeline.local import reasons, runner
from pipeline.report.collect import RESOLVER, seconds_of

_States = metadata_store_pb2.Execution
_Event = metadata_store_pb2.Event
_DONE = (_States.COMPLETE, _States.CACHED)
_INPUTS = (_Event.INPUT, _Event.DECLARED_INPUT)
_OUTPUTS = (_Event.OUTPUT, _Event.DECLARED_OUTPUT)
_KINDS = (
    executable_spec_pb2.PythonClassExecutableSpec,
    executable_spec_pb2.BeamExecutableSpec,
)


@dataclass(frozen=True)
class Step:
    """What would happen to a node."""

    node: str
    state: Literal["runs", "cached", "looks"]  # "looks": up, in every run
    reasons: tuple[str, ...]  # why it runs; of others what there is to say
    seconds: float | None  # its newest execution that was not cached; None: never


def rehearse(pipeline: Pipeline, folder: str) -> list[Step]:
    """Finds out what a run would do.

    Args:
        pipeline: As a run would be given, but connected to a copy of the metadata, which
            is written to; made if absent.
        folder: A temporary one for what nodes would write.
    """
    sections = {node.id: _sections(node) for node in pipeline.components}
    rehearsal = _Rehearsal(folder, sections, pipeline.enable_cache)
    rehearsal.run(pipeline)
    return rehearsal.steps


class _DoNothing(base_executor_operator.BaseExecutorOperator):
    """Carries out no executor."""

    SUPPORTED_EXECUTOR_SPEC_TYPE = [*_KINDS]
    SUPPORTED_PLATFORM_CONFIG_TYPE = []

    def run_executor(
        self,
        execution_info: data_types.ExecutionInfo,  # noqa: ARG002
    ) -> execution_result_pb2.ExecutorOutput:
        """As if it had succeeded."""
        return execution_result_pb2.ExecutorOutput()


class _Rehearsal(local_dag_runner.LocalDagRunner):
    def __init__(
        self,
        folder: str,
        sections: Mapping[str, Mapping[str, str]],
        cache: bool,
    ) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._folder = folder
        self._sections = sections
        self._cache = cache
        self._anew: set[int] = set()  # artifacts that a run would make
        self._invalid: dict[int, str] = {}  # artifact -> why the cache forgets it

    def run_with_ir(
        self,
        pipeline: pipeline_pb2.Pipeline,
        run_options: Any = None,  # noqa: ARG002 - TFX's signature
    ) -> None:
        """Rehearses the compiled pipeline."""
        runner.begin(pipeline)
        connection = runner.connection_of(pipeline)
        root = os.path.join(self._folder, "artifacts")
        pipeline.runtime_spec.pipeline_root.field_value.string_value = root
        with metadata.Metadata(connection) as handle:
            store = handle.store
            runner.end(store, runner.interrupted(store))
            forgotten = runner.no_longer_valid(store)
            for artifact, reason in forgotten:
                self._invalid[artifact.id] = reason
                # TFX reuses live ones only; a run deletes their folders.
                artifact.state = metadata_store_pb2.Artifact.DELETED
            if forgotten:
                store.put_artifacts([artifact for artifact, _ in forgotten])
        name = pipeline.pipeline_info.id
        for entry in pipeline.nodes:
            node = entry.pipeline_node
            operators = dict.fromkeys(_KINDS, _DoNothing)
            info = runner.launch(pipeline, node, connection, operators)
            number = info.execution_id if info is not None else None
            with metadata.Metadata(connection) as handle:
                self.steps.append(
                    self._step(handle.store, name, node.node_info, number)
                )

    def _step(self, store: Any, pipeline: str, info: Any, number: int | None) -> Step:
        context = store.get_context_by_type_and_name("node", f"{pipeline}.{info.id}")
        known = sorted(
            store.get_executions_by_context(context.id) if context else [],
            key=lambda execution: execution.id,
        )
        now = next((each for each in known if each.id == number), None)
        earlier = [each for each in known if each.id != number]
        done = [each for each in earlier if each.last_known_state in _DONE]
        seconds = next((seconds_of(e) for e in reversed(done) if _ran(e)), None)
        if info.type.name == RESOLVER:
            return Step(info.id, "looks", ("in every run",), seconds)
        if now is None or now.last_known_state not in _DONE:
            return Step(info.id, "runs", ("its inputs are not known yet",), seconds)
        if now.last_known_state == _States.CACHED:
            same = done and _artifacts(store, now, _OUTPUTS) == _artifacts(
                store, done[-1], _OUTPUTS
            )
            told = () if same else ("made by a run before the last",)
            return Step(info.id, "cached", told, seconds)
        for ids in _artifacts(store, now, _OUTPUTS).values():
            self._anew.update(ids)
        why = self._why(store, info.id, now, earlier, done[-1] if done else None)
        return Step(info.id, "runs", tuple(why), seconds)

    def _why(
        self, store: Any, node: str, now: Any, earlier: list[Any], last: Any
    ) -> list[str]:
        if last is None:
            if not earlier:
                return ["never ran here"]
            state = earlier[-1].last_known_state
            word = "failed" if state == _States.FAILED else "was stopped"
            return [f"never ended here: its last try {word}"]
        found = reasons.of_parameters(
            _parameters(last), _parameters(now), self._sections.get(node, {})
        )
        if not self._cache:
            return ["enable_cache=false", *found]
        old, new = _artifacts(store, last, _INPUTS), _artifacts(store, now, _INPUTS)
        found += reasons.of_inputs(old, new, self._anew)
        return (
            found
            or self._missing(store, last)
            or ["TFX, or what it is to make, is another one"]
        )

    def _missing(self, store: Any, last: Any) -> list[str]:
        """What the cache would answer with, and cannot."""
        ids = [i for each in _artifacts(store, last, _OUTPUTS).values() for i in each]
        told = []
        for artifact in store.get_artifacts_by_id(ids):
            if artifact.id in self._invalid:
                told.append(self._invalid[artifact.id])
            elif "://" not in artifact.uri and not os.path.exists(artifact.uri):
                told.append(f"{artifact.uri} is gone")
        return told


def _sections(node: Any) -> dict[str, str]:
    """Parameters of a node that are sections, by a person's name for them."""
    names: dict[Any, list[str]] = {}
    hints = typing.get_type_hints(RunConfig)
    for item in dataclasses.fields(RunConfig):
        names.setdefault(hints[item.name], []).append(item.name)
    executor = getattr(getattr(node, "executor_spec", None), "executor_class", None)
    contract = getattr(executor, "CONTRACT", None)
    found = {"custom_config": ""}
    for name, parameter in contract.parameters.items() if contract else ():
        if len(same := names.get(parameter.kind, [])) == 1:
            found[name] = same[0]
    return found


def _ran(execution: Any) -> bool:
    return execution.last_known_state == _States.COMPLETE


def _parameters(execution: Any) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in execution.custom_properties.items()
        if value.WhichOneof("value") is not None
    }


def _artifacts(
    store: Any, execution: Any, kinds: tuple[Any, ...]
) -> dict[str, list[int]]:
    """Ids by key, sorted by index."""
    found: dict[str, list[tuple[int, int]]] = {}
    for event in store.get_events_by_execution_ids([execution.id]):
        if event.type in kinds and event.path.steps:
            index = event.path.steps[1].index if len(event.path.steps) > 1 else 0
            key = event.path.steps[0].key
            found.setdefault(key, []).append((index, event.artifact_id))
    return {key: [number for _, number in sorted(each)] for key, each in found.items()}
