"""The node Answers, one for each model."""

from components.answers.executor import Executor
from components.declaration import Component


class Answers(Component, executor=Executor):
    """Asks one model about every image that judges it; see `answer`."""
