"""The node Evaluator."""

from components.declaration import Component
from components.evaluator.executor import Executor


class Evaluator(Component, executor=Executor):
    """Compares the contenders on one split; see `evaluate`."""
