"""What tests of trainings share."""

import subprocess

import pytest


@pytest.fixture
def started():
    """Processes that end with the test, whatever becomes of it."""
    processes: list[subprocess.Popen] = []
    yield processes
    for each in processes:
        if each.poll() is None:
            each.kill()
        each.communicate()
