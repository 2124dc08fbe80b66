"""The node Report."""

from components.declaration import Component
from pipeline.vertex.steps.report.executor import Executor


class Report(Component, executor=Executor):
    """The report, on Vertex AI; see `write_report`."""
