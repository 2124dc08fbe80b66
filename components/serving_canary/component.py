"""The node ServingCanary."""

from components.declaration import Component
from components.serving_canary.executor import Executor


class ServingCanary(Component, executor=Executor):
    """Tries the chosen model in a server; see `try_model`."""
