"""Three nodes that take milliseconds: one makes a text or fails, two copy what is there."""

from __future__ import annotations

import os
import signal

from tfx import v1 as tfx
from tfx.types.standard_artifacts import Schema

from components.beam import IN_PROCESS
from components.declaration import Component, Output, executor_of
from contract import signals


def work(*, text: str | None, schema: Schema | None, made: Output[Schema]) -> None:
    """Makes something of a text or of another artifact."""
    if text == "wrong":
        raise ValueError("a wrong text")
    if text == "stopped":  # as a person stops a node that reads with Beam
        import apache_beam as beam

        stopping = beam.Map(lambda _: signal.raise_signal(signal.SIGTERM))
        with signals.handled(signals.stop), beam.Pipeline(argv=[*IN_PROCESS]) as run:
            _ = run | beam.Create([0]) | stopping
    os.makedirs(made.uri, exist_ok=True)


Executor = executor_of(work)


class Node(Component, executor=Executor):
    """With a parameter or an input."""


def flow(root: str, text: str, *, cache: bool = True, database: str | None = None):
    """The pipeline, connected to its own metadata or to a copy."""
    maker = Node(text=text).with_id("Make")
    first = Node(schema=maker.outputs["made"]).with_id("Copy")
    second = Node(schema=first.outputs["made"]).with_id("Second")
    database = database or os.path.join(root, "metadata.sqlite")
    return tfx.dsl.Pipeline(
        pipeline_name="small",
        pipeline_root=os.path.join(root, "artifacts"),
        components=[maker, first, second],
        enable_cache=cache,
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(database)
        ),
    )
