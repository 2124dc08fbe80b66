"""Contract of the ExampleValidator: TFX's own, with an executor that stops the flow."""

from __future__ import annotations

from tfx.components.example_validator import component
from tfx.dsl.components.base import executor_spec

from components.example_validator import executor


class BlockingExampleValidator(component.ExampleValidator):
    """TFX's ExampleValidator that fails when it finds anomalies.

    Upstream's writes them down and lets the flow train on. Give it the id that people
    know: `.with_id("ExampleValidator")`.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
