"""The training benchmark: what it prints, what it compares, and that all of it runs."""

import json
import subprocess
import sys

import pytest

from benchmarks import train


def duel(ratios):
    return {"ratio": ratios[1], "ratios": ratios, "ours_seconds": 1.5,
            "rival_seconds": 3.0, "parameters": 1_703_258}  # fmt: skip


@pytest.fixture
def result():
    run = {"first_step_seconds": 19.4, "memory_gb": 4.61, "step_seconds": 9.0}
    return {
        "plan": {"depth": 164, "batch_size": 128, "deep_depth": 1001,
                 "deep_batch_size": 64},
        "throughput": {"torch_bfloat16": duel([1.0, 1.2, 1.3])},
        "deep": {
            "rematerialised": run, "kept": run | {"memory_gb": 11.9},
            "torch": run | {"first_step_seconds": 14.55},
            "against_torch": {"first_step": 0.75, "step": 1.0},
            "unrolled_keras": {"first_step_more_than": 200.0},
            "rematerialisation_price": 1.25, "training_nodes_ratio": 1.0,
            "training_nodes": 3924, "export_seconds": 2.7,
            "saved_model_megabytes": 1.52, "load_seconds": 0.55,
        },
        "input": {"images_per_second": 78_948.4},
    }  # fmt: skip


def test_table_has_ratio_with_its_spread_and_target(result):
    table = train.markdown(result)
    assert "1.20 (1.00 to 1.30); 1.50 s against 3.00 s | >= 1.15 |" in table
    assert "| 0.75; 19.4 s against 14.6 s | >= 1 |" in table
    assert "| more than 200 s (stopped) |" in table
    assert "78,948 images/s" in table
    assert {line.count("|") for line in table.splitlines()} == {4}


def test_skipped_contenders_have_no_row(result):
    result["throughput"] = {}
    for name in ("unrolled_keras", "torch", "against_torch"):
        del result["deep"][name]
    table = train.markdown(result)
    assert "PyTorch" not in table and "plain Keras" not in table


def test_every_duel_has_title_and_target():
    names = {name for name, _, _ in train.DUELS}
    assert names == set(train.TITLES) == set(train.TARGETS)


@pytest.mark.tf
def test_unrolled_keras_is_the_same_network():
    import numpy as np

    from benchmarks import unrolled_keras
    from trainer.program import count_parameters
    from trainer.units import parse_network

    model = unrolled_keras.build(29, classes=10)
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    spec = parse_network("preact_resnet29_bottleneck")
    assert parameters == count_parameters(spec, 10)
    assert model.output_shape == (None, 10)


def test_torch_is_the_same_network():
    pytest.importorskip("torch")
    import numpy as np

    from benchmarks import torch_resnet
    from trainer.program import count_parameters
    from trainer.units import parse_network

    images = np.zeros((2, 32, 32, 3), np.float32)
    step, parameters = torch_resnet.prepare(
        29, images, np.array([1, 2]), precision="float32", learning_rate=0.1, threads=1
    )
    spec = parse_network("preact_resnet29_bottleneck")
    assert parameters == count_parameters(spec, 10)
    assert step() > 0


@pytest.mark.tf
@pytest.mark.bench
def test_quick_run_measures_everything(tmp_path):
    file = tmp_path / "train.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.train", "--quick", "--skip-torch",
         "--output", str(file)],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(file.read_text())
    assert set(result["throughput"]) == {"unrolled_keras_float32"}
    assert len(result["throughput"]["unrolled_keras_float32"]["ratios"]) == 2
    assert result["deep"]["training_nodes_ratio"] == pytest.approx(1, abs=0.05)
    assert result["deep"]["rematerialised"]["memory_gb"] > 0.1
    assert result["input"]["images_per_second"] > 0
    assert "| input pipeline alone |" in done.stdout


def test_a_contender_that_dies_is_reported_with_its_words():
    with pytest.raises(RuntimeError, match="no_such_field"):
        train.Contender(contender="torch", no_such_field=1)
