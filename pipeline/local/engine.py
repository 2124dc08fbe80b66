"""The engine of a local run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfx.components.trainer.component import Trainer
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.types import BaseChannel, Channel
from tfx.types.standard_artifacts import ExampleStatistics, PushedModel

from components import numbered
from components.batch_predict import plan
from components.beam import IN_PROCESS
from components.model_in_service.strategy import InServiceStrategy
from components.previous_statistics.strategy import PreviousStatistics
from contract.config.run import RunConfig
from pipeline.local import database


class Local:
    """Everything in this process; ML Metadata in SQLite remembers earlier runs."""

    trainer = Trainer

    def __init__(self, config: RunConfig, metadata: str | None = None) -> None:
        """Args: metadata: SQLite file to use in place of the output folder's."""
        self._config = config
        self._metadata = metadata or database.path(config.output_root)

    def training_settings(self, contender: str) -> dict[str, Any]:  # noqa: ARG002
        """None: it trains here."""
        return {}

    def run_configuration(self) -> None:
        """No node."""

    def records(self) -> None:
        """No folder."""

    def previous_statistics(
        self, *, examples: BaseChannel, invariants: BaseChannel
    ) -> BaseNode:
        """A look into ML Metadata."""
        return Resolver(
            strategy_class=PreviousStatistics,
            examples=examples,
            invariants=invariants,
            previous_statistics=Channel(type=ExampleStatistics),
        ).with_id("PreviousStatistics")

    def model_in_service(
        self, *, destination: str, models: Sequence[BaseChannel]
    ) -> BaseNode:
        """A look into ML Metadata: what was pushed last."""
        return Resolver(
            strategy_class=InServiceStrategy,
            config={"destination": destination},
            **numbered.given("model", models),
            pushed=Channel(type=PushedModel),
        ).with_id("ModelInService")

    def after_push(self, nodes: Mapping[str, BaseNode]) -> list[BaseNode]:  # noqa: ARG002
        """No node: the command line writes the report."""
        return []

    def fingerprint(self, images: str) -> str:
        """Of names, sizes and times."""
        return plan.find_files(images, plan.FIELD).digest

    def beam_arguments(self) -> list[str]:
        """In this process."""
        return [*IN_PROCESS]

    def metadata(self) -> Any:
        """The run's own SQLite file."""
        return sqlite_metadata_connection_config(self._metadata)
