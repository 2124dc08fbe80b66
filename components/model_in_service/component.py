"""The node ModelInService."""

from components.declaration import Component
from components.model_in_service.executor import Executor


class ModelInService(Component, executor=Executor):
    """Finds the model to beat, on Vertex AI; see `find_in_service`."""
