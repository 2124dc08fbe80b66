"""The node PreviousStatistics."""

from components.declaration import Component
from components.previous_statistics.executor import Executor


class PreviousStatistics(Component, executor=Executor):
    """Finds what this run's data are compared with, on Vertex AI; see `find_previous`."""
