"""Checkpoints in a bucket: whatever stops a job, at whatever request, it goes on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.object_storage.emulator import ObjectStorage
from tests.object_storage.job import CONFIG, Folder
from tests.trainer import test_fit

pytestmark = pytest.mark.tf

WRITES = "POST|PUT|DELETE"


def state_in(folder: str, value: float):
    """A network whose every weight is `value`, and its state as `fit` keeps it."""
    from trainer import fit

    network = test_fit.model()
    for weight in network.weights:
        weight.assign(np.full(weight.shape, value))
    return network, fit._State(network, fit._optimizer(network, CONFIG), folder)


def test_a_job_that_dies_at_any_write_leaves_a_whole_checkpoint(
    object_storage: ObjectStorage,
) -> None:
    """Everything from the k-th write on fails, as if the machine had gone."""
    import tensorflow as tf

    folder = object_storage.url("checkpoints")
    _, state = state_in(folder, 1.0)
    for step in (1, 2, 3):  # as many as are kept, and one that is removed
        state.step = step
        state.save()
    died, before = [], 3
    for k in range(100):
        network, state = state_in(folder, 0.0)
        step = state.step
        assert step in (before, before + 1), f"write {k - 1}"
        expected = step if step > 3 else 1.0
        assert all((w.numpy() == expected).all() for w in network.weights)
        for weight in network.weights:
            weight.assign(np.full(weight.shape, step + 1.0))
        before, state.step = step, step + 1
        object_storage.fail(WRITES, "", status=403, skip=k, times=10**6)
        try:
            state.save()
            died.append(False)
        except tf.errors.OpError:
            died.append(True)
        writes = [m for m, _ in object_storage.requests if m in WRITES.split("|")]
        object_storage.reset()
        if len(writes) <= k:
            break
    assert sum(died) >= 4  # data, its place, index, list
    assert not died[-1]


def test_a_machine_that_is_taken_away_loses_nothing(
    object_storage: ObjectStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGTERM, as a spot machine gets it; killed without notice: test_trainer.py."""
    import tensorflow as tf

    # As in the job: other kernels would give other last digits. It stays on.
    tf.config.experimental.enable_op_determinism()
    folder = object_storage.url("job")
    lines = []
    with subprocess.Popen(
        [sys.executable, "-m", "tests.object_storage.job", folder],
        env={**os.environ, **object_storage.environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as job:
        assert job.stdout is not None
        for line in job.stdout:
            lines.append(line)
            if "step 5 of 100" in line:
                job.send_signal(signal.SIGTERM)
    text = "".join(lines)
    assert job.returncode == 128 + signal.SIGTERM, text
    last = int(re.findall(r"step (\d+) of 100", text)[-1])
    assert 5 <= last < 100

    network = test_fit.network_with_statistics()
    with caplog.at_level("INFO", "pipeline.progress"):
        outcome = test_fit.train(network, Folder(folder), CONFIG)
    assert f"resuming at step {last} from {folder}/checkpoints" in caplog.text
    assert [p["step"] for p in outcome.history if "loss" in p] == list(range(1, 101))
    undisturbed = test_fit.network_with_statistics()
    test_fit.train(undisturbed, tmp_path, CONFIG)
    for a, b in zip(undisturbed.weights, network.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
