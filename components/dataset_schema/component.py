"""The node DatasetSchema."""

from components.dataset_schema.executor import Executor
from components.declaration import Component


class DatasetSchema(Component, executor=Executor):
    """A schema, written down, as an artifact; see `write_schema`."""
