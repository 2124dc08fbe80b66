"""The node CifarExampleGen."""

from components.declaration import Component
from components.example_gen.executor import Executor


class CifarExampleGen(Component, executor=Executor):
    """Examples of the data set; see `ingest`."""
