"""Settings of all tests."""

import os
import platform
from pathlib import Path

import hypothesis
import pytest

# The same examples for everybody, so that a change fails for what it changed. To search
# for new ones: HYPOTHESIS_PROFILE=explore make test-fast
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# As pipeline.py has it: a person's own choice is no fault of what is tested.
os.environ["KERAS_BACKEND"] = "tensorflow"
# As a run loads TensorFlow (contract/onednn.py): what trains here and what trains in a
# process of its own have the same bits, whatever the processor.
if platform.machine() == "x86_64":
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with whole runs first, those of milliseconds last.

    Of several processes none then ends long before the others. (xdist's own order, by the
    number of tests, has the runs last: `make test` switches it off.)
    """
    begins: dict[Path, int] = {}
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        place = 0 if "e2e" in marks else 1 if "tf" in marks else 2
        begins[item.path] = min(place, begins.get(item.path, place))
    items.sort(key=lambda item: begins[item.path])
