"""The node DatasetSchema."""

from components.dataset_schema.executor import Executor
from components.declaration import Component


class DatasetSchema(Component, executor=Executor):
    """What examples must look like, or must not become; see `write_schema`."""
