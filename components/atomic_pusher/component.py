"""The node AtomicPusher."""

from components.atomic_pusher.executor import Executor
from components.declaration import Component


class AtomicPusher(Component, executor=Executor):
    """Publishes the chosen model; see `push`."""
