"""The local runner: every component in this process, one after the other.

In: a pipeline of `pipeline.dag`. It is TFX's LocalDagRunner with three additions: a
display is told what happens, what a killed run left behind is swept away, and a model
that was removed from the serving folder, or a file of predictions, is made again instead of
being answered from the cache.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from contract import pushed_model
from pipeline.failures import root_message, stop_behind

_States = metadata_store_pb2.Execution
# As components/example_gen/executor.py names its files.
_SHARD = re.compile(r"data_tfrecord-(\d+)-of-(\d+)(\.gz)?")


class Display(Protocol):
    """Who is told of each component."""

    def start(self, name: str) -> None:
        """Component `name` begins."""

    def end(self, state: str, note: str = "") -> None:
        """It ended: done, cached or failed."""


class ComponentFailed(Exception):
    """A component stopped the run; the message is one line for a person."""

    def __init__(self, component: str, cause: BaseException) -> None:
        super().__init__(f"{component}: {root_message(cause)}")
        self.component = component


class LocalRunner(local_dag_runner.LocalDagRunner):
    """Runs the DAG in topological order and reports to a display.

    Attributes:
        run_id: Pipeline run id in ML Metadata, set when a run begins; None before, and
            when TFX's command line only looks at the pipeline.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.run_id: str | None = None

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: Any = None
    ) -> None:
        """Runs the compiled pipeline.

        Raises:
            ComponentFailed: A component raised; later ones do not run.
            ValueError: Partial runs are asked for.
        """
        if run_options:
            raise ValueError(
                "partial runs are not offered: the cache skips what is done"
            )
        self.run_id = begin(pipeline)
        connection = connection_of(pipeline)
        root = pipeline.runtime_spec.pipeline_root.field_value.string_value
        with metadata.Metadata(connection) as handle:
            _sweep_interrupted(handle.store, root)
            for artifact, _ in no_longer_valid(handle.store):
                # TFX reuses an execution only while its outputs exist on disk.
                shutil.rmtree(artifact.uri, ignore_errors=True)
        for entry in pipeline.nodes:
            name = entry.pipeline_node.node_info.id
            self._display.start(name)
            try:
                info = launch(pipeline, entry.pipeline_node, connection)
            except BaseException as error:
                if (stop := stop_behind(error)) is None:
                    self._display.end("failed")
                    raise ComponentFailed(name, error) from error
                self._display.end("failed", "stopped")
                with metadata.Metadata(connection) as handle:
                    _sweep_interrupted(handle.store, root)
                raise stop from None
            cached = False
            if info is not None and info.execution_id is not None:
                with metadata.Metadata(connection) as handle:
                    (execution,) = handle.store.get_executions_by_id(
                        [info.execution_id]
                    )
                cached = execution.last_known_state == _States.CACHED
            self._display.end("cached" if cached else "done")


def begin(pipeline: pipeline_pb2.Pipeline) -> str:
    """Gives a compiled pipeline the id of a new run, and returns it."""
    run_id = datetime.datetime.now().isoformat(timespec="microseconds")
    runtime_parameter_utils.substitute_runtime_parameter(
        pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    return run_id


def connection_of(pipeline: pipeline_pb2.Pipeline) -> Any:
    """A compiled pipeline's connection to ML Metadata."""
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    which = deployment.metadata_connection_config.WhichOneof("connection_config")
    return getattr(deployment.metadata_connection_config, which)


def launch(
    pipeline: pipeline_pb2.Pipeline,
    node: pipeline_pb2.PipelineNode,
    connection: Any,
    operators: Mapping[Any, Any] | None = None,
) -> Any:
    """Lets TFX's launcher resolve a node's inputs, ask the cache, and run it if needed.

    Args:
        pipeline: Compiled, with the id of its run.
        node: Of it.
        connection: To ML Metadata.
        operators: What carries out executors, by kind of their specification; TFX's own
            by default.

    Returns:
        TFX's ExecutionInfo, or None.
    """
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    name = node.node_info.id
    return launcher.Launcher(
        pipeline_node=node,
        mlmd_connection=metadata.Metadata(connection),
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, name),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
        custom_executor_operators=dict(operators or {}),
    ).launch()


def _sweep_interrupted(store: Any, pipeline_root: str) -> None:
    """Ends executions that a killed process left running, and removes what they wrote."""
    running = interrupted(store)
    for execution in running:
        # <root>/<node>/<output key>/<execution id> is where TFX lets a component write.
        for node in _folders(pipeline_root):
            for key in _folders(node):
                shutil.rmtree(os.path.join(key, str(execution.id)), ignore_errors=True)
            system = os.path.join(node, ".system", "executor_execution")
            shutil.rmtree(os.path.join(system, str(execution.id)), ignore_errors=True)
    end(store, running)


def interrupted(store: Any) -> list[Any]:
    """The executions that a killed process left running."""
    return [e for e in store.get_executions() if e.last_known_state == _States.RUNNING]


def end(store: Any, executions: Sequence[Any]) -> None:
    """Records that executions came to no end."""
    for execution in executions:
        execution.last_known_state = _States.CANCELED
    if executions:
        store.put_executions(executions)


def no_longer_valid(store: Any) -> list[tuple[Any, str]]:
    """The recorded artifacts that the cache must forget, each with the reason."""
    return [
        *_missing_pushes(store),
        *_missing_predictions(store),
        *_refusals(store),
        *_incomplete_examples(store),
    ]


def _of_type(store: Any, name: str) -> list[Any]:
    try:
        return store.get_artifacts_by_type(name)
    except Exception:  # noqa: BLE001 - the type is unknown until the first one is made
        return []


def _missing_pushes(store: Any) -> Iterator[tuple[Any, str]]:
    """Pushes whose version folder is no longer there."""
    for artifact in _of_type(store, pushed_model.TYPE_NAME):
        pushed = artifact.custom_properties[pushed_model.DESTINATION].string_value
        if pushed and "://" not in pushed and not os.path.isdir(pushed):
            yield artifact, f"{pushed} is gone"


def _missing_predictions(store: Any) -> Iterator[tuple[Any, str]]:
    """Batch predictions whose file is no longer there."""
    for artifact in _of_type(store, "components.BatchPrediction"):
        output = pushed_model.text(artifact, "output")
        if output and not os.path.isfile(output):
            yield artifact, f"{output} is gone"


def _refusals(store: Any) -> Iterator[tuple[Any, str]]:
    """What the canary refused: a busy machine is a passing reason.

    The sentences stay in the metadata. Where nobody won there was nothing to refuse.
    """
    for artifact in _of_type(store, "InfraBlessing"):
        reasons = artifact.custom_properties["reasons"].string_value
        if reasons and not reasons.startswith("no contender was blessed"):
            yield artifact, "what it refused is tried again"


def _incomplete_examples(store: Any) -> Iterator[tuple[Any, str]]:
    """Examples of which files are gone, else a part would train.

    TFX asks whether the folder exists; programs that clean up leave folders.
    """
    for artifact in _of_type(store, "Examples"):
        splits = json.loads(artifact.properties["split_names"].string_value or "[]")
        for split in splits:
            folder = os.path.join(artifact.uri, f"Split-{split}")
            if not _is_whole(folder):
                yield artifact, f"files are gone from {folder}"
                break


def _is_whole(split: str) -> bool:
    """Whether all files are there that the names of those that are there count."""
    names = [_SHARD.fullmatch(entry.name) for entry in _entries(split)]
    shards = {(int(name[1]), int(name[2])) for name in names if name}
    return bool(shards) and {number for number, _ in shards} == set(
        range(max(count for _, count in shards))
    )


def _entries(path: str) -> list[os.DirEntry[str]]:
    return list(os.scandir(path)) if os.path.isdir(path) else []


def _folders(path: str) -> list[str]:
    return [entry.path for entry in _entries(path) if entry.is_dir()]
