"""The node Evaluator."""

from components.declaration import Component
from components.evaluator.executor import Executor


class Evaluator(Component, executor=Executor):
    """Compares everyone's answers; see `evaluate`."""
