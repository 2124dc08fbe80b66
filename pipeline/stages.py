"""What `pipeline.dag` asks of the engine that carries out a run.

The same nodes are built for every engine, but for the few that depend on it: where a
Trainer trains, where earlier runs are remembered, what carries out Beam. pipeline/local
and pipeline/vertex answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tfx.components.trainer.component import Trainer
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import BaseChannel


class Engine(Protocol):
    """Answers what `pipeline.dag` asks, for one run."""

    @property
    def trainer(self) -> type[Trainer]:
        """The component that calls run_fn."""
        ...

    def training_settings(self, contender: str) -> dict[str, Any]:
        """What a Trainer's custom_config holds besides what run_fn reads."""
        ...

    def run_configuration(self) -> BaseNode | None:
        """The node that settles what the run does; None: a command line has done so."""
        ...

    def records(self) -> str | None:
        """Folder of the ExampleValidator's records; None: ML Metadata has them."""
        ...

    def previous_statistics(
        self, *, examples: BaseChannel, invariants: BaseChannel
    ) -> BaseNode:
        """The node that finds what the data are compared with."""
        ...

    def model_in_service(
        self, *, destination: str, models: Sequence[BaseChannel]
    ) -> BaseNode:
        """The node that finds the model in service; `models`: of the contenders."""
        ...

    def after_push(self, nodes: Mapping[str, BaseNode]) -> list[BaseNode]:
        """What follows the push. `nodes`: all earlier ones by id."""
        ...

    def fingerprint(self, images: str) -> str:
        """Of a folder's files, for the cache; "" where only a run can look at them.

        Raises:
            contract.fields.ConfigError: There are no images.
        """
        ...

    def beam_arguments(self) -> list[str]:
        """Beam's command-line options."""
        ...

    def metadata(self) -> Any:
        """Connection to ML Metadata; None: the engine has its own."""
        ...
