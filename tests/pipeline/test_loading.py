"""What the command line loads before a run begins."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tf

ROOT = Path(__file__).parents[2]
# All are installed; each costs some tenths of a second, and the SDK of Vertex AI two.
NEEDLESS = {
    "jax", "matplotlib", "sklearn", "torch",
    "google.cloud.aiplatform", "google.cloud.aiplatform_v1", "kfp",
}  # fmt: skip


def test_a_run_loads_nothing_that_it_does_not_use():
    code = f"""
import sys
from pipeline import loading
with loading.tfx():
    import pipeline.dag, pipeline.local.engine, pipeline.local.runner, trainer.run
    import pipeline.local.rehearsal
needless = {NEEDLESS} & sys.modules.keys()
assert not needless, needless
# Both pass over what they cannot import, and lack it.
import tensorflow_model_analysis as tfma
import tfx.components
assert tfma.default_evaluators and tfma.EvalResult
assert None not in vars(tfx.components).values()
import matplotlib.figure, sklearn.datasets
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error importing" not in done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere nothing is set")
@pytest.mark.parametrize("given", [None, "0"])
def test_a_run_has_onednn_unless_told_otherwise(given):
    """TensorFlow says so itself. The variable stays as it was, for child processes."""
    code = """
import os
from pipeline import loading
with loading.tfx():
    import tensorflow
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
"""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    environment.pop("TF_ENABLE_ONEDNN_OPTS")  # tests/conftest.py has set it
    if given:
        environment["TF_ENABLE_ONEDNN_OPTS"] = given
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        timeout=200, check=True, env=environment,
    )  # fmt: skip
    assert ("oneDNN custom operations are on" in done.stderr) == (given is None)
    assert done.stdout.split() == [str(given)]
