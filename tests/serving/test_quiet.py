"""What TensorFlow says while it is loaded stays off the screen; all else does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# As TensorFlow 2.21 prints them on a machine without a GPU.
NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795942847.810704   21181 port.cc:153] oneDNN custom operations are on.
I0000 00:00:1795942847.811322   21181 cudart_stub.cc:31] Could not find cuda drivers
W0000 00:00:1795942847.811322   21181 factory.cc:1] Unable to register
"""
NO_GPU = (
    "E0000 00:00:1795942852.058679   21281 cuda_platform.cc:52] failed call to cuInit: "
    "INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)\n"
)
ERRORS = """\
E0000 00:00:1795942852.058679   21281 loader.cc:52] the disk is on fire
Traceback (most recent call last):
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    text = f"import os\nfrom serving import quiet\n{code}"
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def printing(text: str) -> str:
    return f"""
with quiet.loading_tensorflow():
    os.write(2, {text.encode()!r})
os.write(2, os.environ["TF_CPP_MIN_LOG_LEVEL"].encode())
"""


def test_noise_is_dropped_and_errors_are_not():
    assert run(printing(NOISE + ERRORS)).stderr == ERRORS + "2"


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
def test_that_there_is_no_gpu_is_no_error():
    assert run(printing(NO_GPU)).stderr == "2"


@pytest.mark.parametrize("level", ["0", "1"])
def test_who_asks_for_it_sees_everything(level):
    done = run(printing(NOISE + NO_GPU + ERRORS), TF_CPP_MIN_LOG_LEVEL=level)
    assert done.stderr == NOISE + NO_GPU + ERRORS + level


@pytest.mark.parametrize("level", ["2", "3"])
def test_who_asks_for_less_does_not_see_more(level):
    done = run(printing(NOISE + ERRORS), TF_CPP_MIN_LOG_LEVEL=level)
    assert done.stderr == ERRORS + level


def test_an_exception_and_a_crash_are_seen():
    raised = run(
        "with quiet.loading_tensorflow():\n    raise ImportError('no library')"
    )
    assert raised.returncode == 1
    assert raised.stderr.endswith("ImportError: no library\n")
    crashed = run("with quiet.loading_tensorflow():\n    os.abort()")
    assert "Fatal Python error: Aborted" in crashed.stderr
