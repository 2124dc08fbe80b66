"""The node RunConfiguration."""

from components.declaration import Component
from pipeline.vertex.steps.first_step.executor import Executor


# It hands out the digests of the code in its image, and knows none when it is compiled.
class RunConfiguration(Component, executor=Executor, source=False):
    """Settles what a run does, on Vertex AI; see `settle`."""
