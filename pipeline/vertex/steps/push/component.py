"""The node VertexPush."""

from components.declaration import Component
from pipeline.vertex.steps.push.executor import Executor


class VertexPush(Component, executor=Executor):
    """Follows a push with Model Registry and Endpoint; see `register`."""
