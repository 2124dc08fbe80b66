"""Runs a pipeline with every executor in a process of its own, and notes what each loads.

    python -m tests.e2e.own_processes FOLDER name=value ...

FOLDER/loaded/<node>/<pid> lists the modules that each process of a node has looked for, its
children's too, which may be killed at any time; FOLDER/executors.json says which executor each
node has.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tfx.orchestration.portable import (
    beam_executor_operator,
    data_types,
    python_executor_operator,
)
from tfx.proto.orchestration import execution_invocation_pb2, execution_result_pb2
from tfx.utils import import_utils

from tests.e2e import warm

PROJECT = Path(__file__).parents[2]
# They run the code of others, or none of ours: not worth ten seconds each.
TWINS = {
    "StatisticsGen", "DataInvariants", "CandidateTrainer", "CandidateAnswers",
    "InServiceAnswers",
}  # fmt: skip
# Python imports a module of this name in every process that a child starts.
NOTE = """
import os, sys
class Notes:
    names = open(os.path.join(os.environ["LOADED"], str(os.getpid())), "a", buffering=1)
    def find_spec(self, name, path, target=None):
        self.names.write(name + chr(10))
sys.meta_path.insert(0, Notes())
"""


class Silent:
    """A display that shows nothing."""

    def start(self, name: str) -> None: ...

    def end(self, state: str, note: str = "") -> None: ...


def parent(folder: Path, assignments: list[str]) -> None:
    """Runs the pipeline; executors are handed to children."""
    from components.beam import IN_PROCESS
    from pipeline.dag import create_pipeline
    from pipeline.local import rules
    from pipeline.local.engine import Local
    from pipeline.local.runner import LocalRunner
    from pipeline.resolve import resolve

    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(NOTE)
    executors: dict[str, str] = {}
    in_process: dict[type, Any] = {}

    def run_executor(
        operator: Any, info: data_types.ExecutionInfo
    ) -> execution_result_pb2.ExecutorOutput:
        node = info.pipeline_node.node_info.id
        kind = operator._executor_cls
        if node in TWINS:
            return in_process[type(operator)](operator, info)
        executors[node] = f"{kind.__module__}.{kind.__name__}"
        loaded = folder / "loaded" / node
        loaded.mkdir(parents=True)
        asked, answer = folder / f"{node}.asked", folder / f"{node}.answer"
        asked.write_bytes(info.to_proto().SerializeToString())
        environment = {
            "LOADED": str(loaded),
            "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{PROJECT}",
        }
        status = warm.call(
            child, executors[node], asked, answer, environment, *IN_PROCESS, timeout=300
        )
        assert status == 0, f"{node}: exit status {status}"
        return execution_result_pb2.ExecutorOutput.FromString(answer.read_bytes())

    for operator in (
        beam_executor_operator.BeamExecutorOperator,
        python_executor_operator.PythonExecutorOperator,
    ):
        in_process[operator] = operator.run_executor
        operator.run_executor = run_executor
    assignments = [*assignments, f"output_root={folder / 'output'}"]
    config = resolve(assignments, {}, "/", rules).config
    LocalRunner(Silent()).run(
        create_pipeline(config, rules.fingerprint(config), Local(config))
    )
    (folder / "executors.json").write_text(json.dumps(executors))


def child(
    kind: str, asked: Path, answer: Path, environment: dict[str, str], *beam: str
) -> None:
    """Runs one executor, as TFX's operators do."""
    os.environ.update(environment)
    exec(NOTE, {})
    from tfx.dsl.components.base import base_beam_executor, base_executor

    invocation = execution_invocation_pb2.ExecutionInvocation.FromString(
        asked.read_bytes()
    )
    info = data_types.ExecutionInfo.from_proto(invocation)
    executor = import_utils.import_class_by_path(kind)
    common: dict[str, Any] = {
        "tmp_dir": info.tmp_dir,
        "unique_id": str(info.execution_id),
        "executor_output_uri": info.execution_output_uri,
        "stateful_working_dir": info.stateful_working_dir,
        "pipeline_node": info.pipeline_node,
        "pipeline_info": info.pipeline_info,
        "pipeline_run_id": info.pipeline_run_id,
    }
    context: Any
    if issubclass(executor, base_beam_executor.BaseBeamExecutor):
        context = executor.Context(beam_pipeline_args=[*beam], **common)
    else:
        context = base_executor.BaseExecutor.Context(**common)
    result = python_executor_operator.run_with_executor(info, executor(context=context))
    answer.write_bytes(result.SerializeToString())


if __name__ == "__main__":
    parent(Path(sys.argv[1]), sys.argv[2:])
