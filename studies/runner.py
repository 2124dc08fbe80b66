"""A study on this machine: row by row, and what is done is told and tidied.

TFX's order would train all rows before it asks any; here each row is asked as soon as it is
trained, so that a study that is stopped has lost one row at most, and one model at a time
takes space.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

from tfx.orchestration import metadata
from tfx.proto.orchestration import pipeline_pb2

from components.artifacts import StudyReport
from components.example_gen.sources import expected
from contract.contenders import title
from pipeline.console import clock
from pipeline.local.runner import Display, LocalRunner, connection_of
from pipeline.resolve import train_images
from studies import kept
from studies.plan import Plan, Training
from trainer import recipe
from trainer.program import count_multiply_adds

_TRAINER, _ANSWERS = "Trainer", "Answers"


class StudyRunner(LocalRunner):
    """Runs the nodes of `studies.dag`.

    Attributes:
        report: Folder of the StudyReport, once the run has ended.
    """

    def __init__(self, plan: Plan, display: Display, *, keep_models: bool) -> None:
        self.progress = Progress(plan, display)
        super().__init__(self.progress)
        self._keep_models = keep_models
        self.report = ""

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: Any = None
    ) -> None:
        """Runs the compiled pipeline; errors as of LocalRunner."""
        _row_by_row(pipeline)
        connection = connection_of(pipeline)
        with metadata.Metadata(connection) as handle:
            kept.forget_unanswered(handle.store)
        if not self._keep_models:

            def tidy() -> None:
                with metadata.Metadata(connection) as handle:
                    kept.prune(handle.store)

            self.progress.after_answers = tidy
        super().run_with_ir(pipeline, run_options)
        with metadata.Metadata(connection) as handle:
            self.report = _report_of(handle.store, str(self.run_id))


def _report_of(store: Any, run_id: str) -> str:
    """The folder of a run's StudyReport."""
    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    type_id = store.get_artifact_type(StudyReport.TYPE_NAME).id
    executions = [each.id for each in store.get_executions_by_context(run.id)]
    given = [
        event.artifact_id
        for event in store.get_events_by_execution_ids(executions)
        if event.type == event.OUTPUT
    ]
    (found,) = (a for a in store.get_artifacts_by_id(given) if a.type_id == type_id)
    return found.uri


def _row_by_row(pipeline: pipeline_pb2.Pipeline) -> None:
    """Puts each node as early as what it needs allows, rows one after the other."""
    nodes = {each.pipeline_node.node_info.id: each for each in pipeline.nodes}
    ordered: dict[str, Any] = {}

    def place(name: str) -> None:
        if name in ordered:
            return
        for above in nodes[name].pipeline_node.upstream_nodes:
            place(above)
        ordered[name] = nodes[name]

    for name in nodes:
        if name.endswith(_TRAINER):
            place(name)
            place(name.removesuffix(_TRAINER) + _ANSWERS)
    for name in nodes:
        place(name)
    copies = [copy.deepcopy(each) for each in ordered.values()]
    del pipeline.nodes[:]
    pipeline.nodes.extend(copies)


class Progress:
    """Tells a display which row is under way, how many are done, and the time left.

    Time left is that of the work left, by the speed so far: work is images trained on times
    multiply-adds of an image.
    """

    def __init__(self, plan: Plan, display: Display) -> None:
        self._display = display
        self._total = len(plan.trainings)
        self._work: Mapping[str, float] = {
            title(each.contender.name): _work(plan, each) for each in plan.trainings
        }
        self._told = {
            title(each.contender.name): f"{each.row.title}, seed {each.contender.seed}"
            for each in plan.trainings
        }
        self._done: set[str] = set()
        self._name = ""
        self._began = 0.0
        self._seconds = self._measured = (
            0.0  # of rows that were trained now; their work
        )
        self.after_answers = lambda: None

    def start(self, name: str) -> None:
        """A node begins."""
        row = name.removesuffix(_TRAINER)
        if name.endswith(_TRAINER):
            self._began = time.monotonic()
            count = len(self._done) + 1
            name = f"{name}  {count} of {self._total}: {self._told[row]}"
        self._name = name
        self._display.start(name)

    def end(self, state: str, note: str = "") -> None:
        """It ended."""
        if self._name.endswith(_ANSWERS) and state != "failed":
            row = self._name.removesuffix(_ANSWERS)
            self._done.add(row)
            if state == "done":
                self._seconds += time.monotonic() - self._began
                self._measured += self._work[row]
            self.after_answers()
            note = self._left()
        self._display.end(state, note)

    def _left(self) -> str:
        left = sum(work for row, work in self._work.items() if row not in self._done)
        said = f"{len(self._done)} of {self._total} done"
        if left and self._measured:
            said += f", about {clock(self._seconds * left / self._measured)} left"
        return said


def _work(plan: Plan, each: Training) -> float:
    data = expected(plan.config.data)
    per_image = count_multiply_adds(each.row.spec, len(data.class_names), data.pixels)
    steps = recipe.total_steps(each.train, train_images(plan.config))
    return float(per_image) * steps * each.train.global_batch_size
