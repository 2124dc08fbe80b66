"""An output folder without runs, for every test of this room."""

import pytest

from tests.pipeline.history.recorded import Pipeline


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    return Pipeline(tmp_path / "output")
