"""The engine of Vertex AI: each node in a container, records in the bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import BaseChannel, Channel

from components import numbered
from components.artifacts import RunConfiguration
from components.batch_predict import plan
from components.model_in_service.component import ModelInService
from components.previous_statistics.component import PreviousStatistics
from contract.config.run import RunConfig
from contract.fields import ConfigError
from pipeline import nodes as table
from pipeline.vertex import jobs
from pipeline.vertex.steps.push import settings
from pipeline.vertex.steps.push.component import VertexPush
from pipeline.vertex.steps.report import experiment
from pipeline.vertex.steps.report.component import Report
from pipeline.vertex.steps.train.component import Trainer
from pipeline.vertex.steps.train.executor import TRAINING_JOB


class Vertex:
    """Trainers are CustomJobs; a first step settles what the run does."""

    trainer = Trainer

    def __init__(
        self,
        config: RunConfig,
        training_jobs: Mapping[str, Any],
        first: BaseNode | None = None,
    ) -> None:
        """Keeps what the nodes are made of.

        Args:
            config: Complete and checked.
            training_jobs: Contender's name -> CustomJob; what the specification was
                compiled with.
            first: The node RunConfiguration; None: the flow as that node itself makes it
                again, to tell the others their parameters.
        """
        self._config = config
        self._jobs = training_jobs
        self._first = first

    def training_settings(self, contender: str) -> dict[str, Any]:
        """The job in which run_fn runs, for pipeline/vertex/steps/train/."""
        vertex = self._config.vertex
        job = {
            "project": vertex.project,
            "region": vertex.region,
            "job": self._jobs[contender],
        }
        return {TRAINING_JOB: job}

    def run_configuration(self) -> BaseNode | None:
        """The first step: reads the pipeline's parameter `overrides`."""
        return self._first

    def records(self) -> str:
        """In the bucket."""
        return f"{self._config.output_root}/accepted_statistics"

    def previous_statistics(
        self, *, examples: BaseChannel, invariants: BaseChannel
    ) -> BaseNode:
        """A look at the records in the bucket."""
        return PreviousStatistics(
            records=self.records(), examples=examples, invariants=invariants
        )

    def model_in_service(
        self, *, destination: str, models: Sequence[BaseChannel]
    ) -> BaseNode:
        """A look at the ledger of the published versions."""
        return ModelInService(
            destination=destination, **numbered.given("model", models)
        )

    def after_push(self, nodes: Mapping[str, BaseNode]) -> list[BaseNode]:
        """Model Registry and Endpoint, if configured; and the report."""
        nodes = dict(nodes)
        followers: list[BaseNode] = []
        if self._config.serving.push != "directory":
            followers.append(
                VertexPush(
                    pushed_model=nodes["AtomicPusher"].outputs["pushed_model"],
                    evaluation=nodes["Evaluator"].outputs["evaluation"],
                    test_evaluation=nodes["Evaluator"].outputs["test_evaluation"],
                    settings=settings.encode(self._config),
                )
            )
        nodes |= {node.id: node for node in followers}
        there = [
            part
            for part in table.parts(
                [each.name for each in self._config.all_contenders]
            ).values()
            if part.node in nodes
        ]
        # One is the configuration; beyond what a task takes, the lineage tells less.
        if len(there) + 1 > numbered.MOST:
            there = [part for part in there if part.output.needed]
        if (excess := len(there) + 1 - numbered.MOST) > 0:
            count = len(self._config.all_contenders)
            raise ConfigError(
                f"contenders: {count} networks; on Vertex AI at most {count - excess} can "
                f"take part, because a task takes {numbered.MOST} artifacts and the report "
                "needs others besides"
            )
        parts = {
            part.input: nodes[part.node].outputs[part.output.key] for part in there
        }
        settled = Channel(type=RunConfiguration)
        if self._first is not None:
            settled = self._first.outputs["configuration"]
        report = Report(
            run_configuration=settled,
            directory=f"{self._config.output_root}/report",
            experiment=experiment.encode(self._config),
            **parts,
        )
        return [*followers, report]

    def fingerprint(self, images: str) -> str:
        """The first step looks, before anything is trained; who compiles does not."""
        if self._first is not None:
            return ""
        return plan.find_files(images, plan.FIELD).digest

    def beam_arguments(self) -> list[str]:
        """As configured: in the step, or on a cluster."""
        return jobs.beam_arguments(self._config)

    def metadata(self) -> None:
        """Vertex AI has its own."""
