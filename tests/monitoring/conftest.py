"""Runs to compare traffic with, and the command."""

from types import SimpleNamespace

import numpy as np
import pytest

from monitoring.__main__ import main
from pipeline.history import stores


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Three runs and a rollback: `output`, and the versions by what they were trained on.

    The model of "bright" was trained on brighter images and answers "cat" only, the
    others all classes alike. "again" is the first one, published once more.
    """
    from tests.monitoring import logs
    from tests.pipeline.history.recorded import Pipeline

    made = Pipeline(tmp_path_factory.mktemp("output"))
    alike = np.arange(300) % 3
    found = SimpleNamespace(output=made.root)
    for number, (name, brightness, answers) in enumerate(
        [("first", 128, alike), ("bright", 200, alike * 0), ("second", 128, alike)], 1
    ):
        artifacts = made.root / "artifacts"
        setattr(found, name, made.run())
        logs.write_examples(
            artifacts / f"CifarExampleGen/examples/{number}",
            logs.images(600, 10 * number, brightness),
        )
        logs.write_evaluation(
            artifacts / f"Evaluator/evaluation/{number}", answers, alike * 0 + 2
        )
    found.again = stores.rollback(made.places, found.first).version
    return found


@pytest.fixture
def run(capsys):
    """`python -m monitoring once`; returns the exit status and what was printed."""

    def run(folder, output, *options):
        places = [f"--requests={folder}", f"--pipeline_output={output}"]
        return main(["once", *places, "--fewest=100", *options]), capsys.readouterr()

    return run
