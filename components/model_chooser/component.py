"""The node ModelChooser."""

from components.declaration import Component
from components.model_chooser.executor import Executor


class ModelChooser(Component, executor=Executor):
    """Decides which contender is pushed; see `choose`."""
