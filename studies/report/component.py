"""The node StudyReport."""

from components.declaration import Component
from studies.report.executor import Executor


class StudyReport(Component, executor=Executor):
    """Compares the rows of a study; see `report`."""
