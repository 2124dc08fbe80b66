"""The node BlockingExampleValidator."""

from components.declaration import Component
from components.example_validator.executor import Executor


class BlockingExampleValidator(Component, executor=Executor):
    """TFX's ExampleValidator that stops the flow and compares; see `validate`.

    Give it the id that people know: `.with_id("ExampleValidator")`.
    """
