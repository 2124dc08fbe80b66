"""Several workers: processes on the loopback address against one, and one that is lost."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.processes import SECONDS, clusters, start

pytestmark = pytest.mark.tf


def training(*cases: dict) -> list[str]:
    return ["-m", "tests.trainer.worker", json.dumps(cases)]


def results(processes: list[subprocess.Popen]) -> list[dict]:
    found = []
    for each in processes:
        out, err = each.communicate(timeout=SECONDS)
        assert each.returncode == 0, err[-3000:]
        (line,) = [x for x in out.splitlines() if x.startswith("RESULT ")]
        found.append(json.loads(line.removeprefix("RESULT ")))
    return found


def test_two_workers_are_one(started, tmp_path):
    """The same images in each step, and the same weights after it.

    Against one worker with batch norm over all replicas and in float64: else halves or
    rounding would differ. With batch norm by each one's own half, against two replicas in one
    process.
    """
    from contract import features
    from tests.trainer import test_streaming

    pictures = tmp_path / "pictures"
    test_streaming.write(pictures, features.TRAIN, 0, test_streaming.TRAIN)
    test_streaming.write(pictures, features.EVAL, 1000, test_streaming.EVAL)
    one = {"synchronized_batch_norm": True, "ema": 0.9}
    cases = {
        "pixels": {"data": "pixels", "dtype": "float64", "train": one},
        "pictures": {
            "data": str(pictures),
            "dtype": "float64",
            "train": one | {"steps_per_execution": 2},
        },
        "halves": {"data": "pixels", "dtype": "float32", "train": {}},
    }

    def of(folder: str, **strategies: dict) -> list[str]:
        return training(
            *(
                case
                | {"name": name, "folder": str(tmp_path / folder / name)}
                | {"train": case["train"] | strategies[name]}
                for name, case in cases.items()
            )
        )

    several = of("two", **dict.fromkeys(cases, {"strategy": "multi_worker"}))
    started += [start(several, environment) for environment in clusters(2)]
    mirrored = {"strategy": "mirrored", "replicas": 2}
    single = {"strategy": "single"}
    started += [start(of("one", pixels=single, pictures=single, halves=mirrored))]
    first, second, reference = results(started)
    for name, expected in reference.items():
        replicas = 2 if name == "halves" else 1
        assert expected["replicas"] == replicas
        assert len(expected["losses"]) == 6
        assert len(expected["evaluated"]) >= 1
        for worker, chief in ((first[name], True), (second[name], False)):
            assert (worker["chief"], worker["replicas"]) == (chief, 2)
            for key in ("losses", "evaluated"):
                np.testing.assert_allclose(worker[key], expected[key], atol=1e-6)
            assert worker["weights"].keys() == expected["weights"].keys()
            for weight, value in expected["weights"].items():
                np.testing.assert_allclose(
                    worker["weights"][weight], value, atol=1e-6, err_msg=weight
                )
        assert list((tmp_path / "two" / name / "chief").glob("events*"))
        assert not (tmp_path / "two" / name / "other").exists()


def test_a_lost_worker_ends_the_run_and_the_next_one_goes_on(started, tmp_path):
    """SIGTERM to one stops both, with a checkpoint; SIGKILL leaves a sentence.

    Whoever ends because of another has the status for which Vertex AI begins a job again.
    """
    begin_again = 134  # "ExitCode 134 (custom containers)" of Google's list
    case = {
        "name": "t",
        "data": "pixels",
        "dtype": "float32",
        "folder": str(tmp_path),
        "train": {
            "strategy": "multi_worker",
            "steps": 100_000,
            "checkpoint_seconds": 0.0,
        },
    }

    def pair(case: dict) -> list[subprocess.Popen]:
        two = [start(training(case), environment) for environment in clusters(2)]
        started.extend(two)
        return two

    two = pair(case)
    wait_for_checkpoint(tmp_path, two)
    two[1].send_signal(signal.SIGTERM)
    assert [each.wait(timeout=SECONDS) for each in two] == [
        begin_again,
        128 + signal.SIGTERM,
    ]
    stopped = newest(tmp_path)

    for lost in (1, 0):
        two = pair(case)
        wait_for_checkpoint(tmp_path, two, after=newest(tmp_path))
        two[lost].kill()
        began = time.monotonic()
        left = two[1 - lost]
        _, err = left.communicate(timeout=SECONDS)
        assert time.monotonic() - began < 120
        assert left.returncode == begin_again, err[-3000:]
        said = err.strip().splitlines()
        assert any("another worker has ended" in line for line in said), err[-3000:]
    killed = newest(tmp_path)
    assert killed > stopped + 1

    case["train"] |= {"steps": killed + 3, "checkpoint_seconds": 3600.0}
    for each in results(pair(case)):
        assert each["t"]["steps"] == killed + 3
        assert len(each["t"]["losses"]) >= 1
    assert newest(tmp_path) == killed


def newest(folder: Path) -> int:
    """Step of the newest checkpoint; 0: there is none."""
    found = folder.glob("checkpoints/*/ckpt-*.index")
    return max((int(path.stem.rpartition("-")[2]) for path in found), default=0)


def wait_for_checkpoint(
    folder: Path, processes: list[subprocess.Popen], after: int = 0
) -> None:
    until = time.monotonic() + SECONDS
    while newest(folder) <= after + 1:
        assert time.monotonic() < until, "no checkpoint"
        assert all(each.poll() is None for each in processes), [
            each.communicate()[1][-3000:] for each in processes
        ]
        time.sleep(0.2)


def test_without_a_cluster_nothing_is_shared(monkeypatch):
    from contract.config.train import TrainConfig
    from trainer import strategy, workers

    for value in ("", "{}", "no JSON"):
        monkeypatch.setenv("TF_CONFIG", value)
        with pytest.raises(strategy.StrategyError, match="TF_CONFIG names no cluster"):
            strategy.create(TrainConfig(strategy="multi_worker"))
    assert workers.is_chief() and not workers.several()
    assert workers.any_of(True, False) == [True, False]
