"""`python -m pipeline.vertex.steps.on_dataflow ARGS`: a Beam step that leaves no job behind.

In place of TFX's container entry point, which it becomes, with the same arguments: in
front of it, a Dataflow job that an earlier attempt of this step has left is cancelled, and
its end awaited; Beam gets a name and labels for the job, by which `cancel` finds it; and if
the step is told to end, so is the job.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence

from absl import logging

from contract import signals
from contract.config.vertex import VertexConfig
from contract.records import run_of
from pipeline.vertex import place, remote
from pipeline.vertex.client import RequestFailed

TFX = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"

# So long a step that is told to end looks after its job; then it is killed anyway.
STOPPING_SECONDS = 20.0
_POLL_SECONDS = 2.0


def main(arguments: Sequence[str]) -> None:
    """Runs the step.

    Args:
        arguments: Of TFX's entry point, with Beam's for Dataflow.

    Raises:
        SystemExit: The step was told to end; its job has been told so, too.
        VertexError: Dataflow refuses to say what is left of an earlier attempt.
    """
    where = place.find(
        VertexConfig(
            project=_value(arguments, "--project"), region=_value(arguments, "--region")
        ),
        os.environ,
    )
    with taken_along(where, labels_of(arguments)) as own:
        sys.argv = [TFX, *arguments, *own]
        runpy.run_module(TFX, run_name="__main__", alter_sys=True)


@contextlib.contextmanager
def taken_along(where: place.Place, labels: Mapping[str, str]) -> Iterator[list[str]]:
    """While this lasts, Beam may start one job; what an earlier attempt left has ended.

    Args:
        where: Project and region.
        labels: Of the job: what it does, and for whom, see remote.of_node.

    Yields:
        Options of Beam that say whose job it is.

    Raises:
        VertexError: Dataflow refuses to say what is left of an earlier attempt.
    """
    with (
        remote.connect_dataflow(where, logging.info) as jobs,
        signals.handled(signals.stop),
    ):
        # No wait for latecomers: Dataflow starts no second job of the same name.
        remote.stop_all(
            [jobs], labels, lambda: True, remote.WallClock(), logging.info, 0.0
        )
        try:
            yield [
                f"--job_name={remote.dataflow_name(labels)}",
                *(f"--labels={key}={value}" for key, value in labels.items()),
            ]
        except BaseException as end:
            # absl ends a program that has succeeded with None or 0.
            if not isinstance(end, SystemExit) or end.code:
                abandon(jobs, labels, remote.WallClock())
            raise


def abandon(jobs: remote.Jobs, labels: Mapping[str, str], clock: remote.Clock) -> None:
    """Asks for the end of what this step has started, as long as it is let live."""
    until = clock.now() + STOPPING_SECONDS
    stopper = remote.Stopper(clock, logging.info)
    while True:
        with contextlib.suppress(RequestFailed):
            found = jobs.labelled(labels)
            if all([stopper.stop(jobs, job.name) for job in found]):
                return
        if clock.now() >= until:
            return
        clock.sleep(_POLL_SECONDS)


def labels_of(arguments: Sequence[str]) -> dict[str, str]:
    """The labels of the step's jobs, from what Vertex AI tells it of its outputs."""
    told = json.loads(_value(arguments, "--json_serialized_invocation_args"))
    # <root>/<project number>/<run>/<node>_<number>/executor_output.json
    output = told["outputs"]["outputFile"]
    node = output.split("/")[-2].rpartition("_")[0]
    return remote.of_node(str(run_of(output)), node)


def _value(arguments: Sequence[str], option: str) -> str:
    for position, argument in enumerate(arguments):
        if argument == option:
            return arguments[position + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    raise ValueError(f"{option} is missing: the job was compiled with another release")


if __name__ == "__main__":
    main(sys.argv[1:])
