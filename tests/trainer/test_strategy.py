"""Replicas: two logical CPU devices against one, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tf

PROJECT = Path(__file__).parents[2]

# Trains a small network for 20 steps and prints what the test compares. The first argument
# is JSON of TrainConfig fields, the second how the global batches are made: "data" as the
# pipeline does, "twins" from two equal halves (one device gets one half).
PROGRAM = """
import dataclasses, json, sys
import numpy as np
from contract.config.train import TrainConfig
from trainer import fit, network, strategy
from trainer.examples import Examples
from trainer.input import TrainingData
import tensorflow as tf

changes, kind, folder, dtype = json.loads(sys.argv[1]), *sys.argv[2:]
config = dataclasses.replace(TrainConfig(
    steps=20, global_batch_size=16, learning_rate=0.02, schedule="constant",
    crop_padding=2, checkpoint_seconds=3600), **changes)
strategy.prepare_devices(config)
chosen = strategy.create(config)
assert chosen.num_replicas_in_sync == (config.replicas or 1)
rng = np.random.default_rng(0)
labels = rng.integers(0, 10, 160)
pixels = rng.integers(0, 100, (160, 32, 32, 3), dtype=np.uint8)
pixels[np.arange(160), labels * 3] += 100
images = (pixels.astype(np.float32) - 60) / 40
with chosen.scope():
    model = network.build(
        "preact_resnet8", classes=10, seed=3, dtype=dtype,
        synchronized=config.synchronized_batch_norm,
        unroll=config.synchronized_batch_norm)
    if kind == "data":
        raw = Examples(tf.constant([p.tobytes() for p in pixels]), tf.constant(labels))
        def normalise(image_bytes):
            flat = tf.io.decode_raw(image_bytes, tf.uint8)
            return (tf.reshape(tf.cast(flat, tf.float32), [-1, 32, 32, 3]) - 60) / 40
        # No number of replicas divides 155: the last batch is filled up.
        looked_at = Examples(raw.images[:155], raw.labels[:155])
        outcome = fit.fit(
            model, TrainingData(train=raw, evaluation=looked_at, normalise=normalise), config,
            checkpoint_directory=folder + "/c", summary_directory=folder + "/s",
            title="t")
        losses = [p["loss"] for p in outcome.history if "loss" in p]
        evaluated = [[p["eval_loss"], p["eval_accuracy"]] for p in outcome.history
                     if "eval_loss" in p]
    else:
        half = config.global_batch_size // (config.replicas or 1)
        def twins(i):
            rows = (i * half + tf.range(half, dtype=tf.int64)) % 160
            rows = tf.tile(rows, [config.replicas or 1])
            return tf.gather(images, rows), tf.gather(labels, rows)
        batches = tf.data.Dataset.range(20).map(twins)
        if config.replicas:
            batches = chosen.experimental_distribute_dataset(batches)
        iterator = iter(batches)
        optimizer = fit._optimizer(model, config)
        execute = fit._execution(model, optimizer, config)
        losses = [float(execute(iterator, tf.constant([0.02]))[0]) for _ in range(20)]
        evaluated = []
weights = network.export_weights(model)
np.savez(folder + "/weights.npz", **weights)
spread = 0.0
if config.replicas:
    for v in model.variables:
        copies = [c.numpy() for c in chosen.experimental_local_results(v.value)]
        assert len(copies) == config.replicas
        spread = max(spread, *(float(np.abs(c - copies[0]).max()) for c in copies))
module = tf.Module()
module.model = model if config.replicas is None else network.on_one_device(model)
serve = tf.function(lambda x: module.model(x, training=False))
spec = tf.TensorSpec([None, 32, 32, 3], tf.float32)
tf.saved_model.save(module, folder + "/saved", serve.get_concrete_function(spec))
loaded = tf.saved_model.load(folder + "/saved").signatures["serving_default"]
(served,) = loaded(tf.constant(images[:8])).values()
plain = network.build("preact_resnet8", classes=10, dtype=dtype)
network.import_weights(plain, weights)
difference = np.abs(plain(images[:8], training=False) - served.numpy()).max()
print("RESULT " + json.dumps(
    {"losses": losses, "evaluated": evaluated, "spread": spread,
     "export": float(difference)}))
"""


def train(folder, kind, dtype="float32", **changes):
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(changes), kind, str(folder), dtype],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        timeout=400,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (line,) = [x for x in result.stdout.splitlines() if x.startswith("RESULT ")]
    with np.load(folder / "weights.npz") as stored:
        weights = dict(stored)
    return json.loads(line.removeprefix("RESULT ")), weights


TWO = {"strategy": "mirrored", "replicas": 2}


def test_synchronized_batch_norm_makes_two_replicas_one(tmp_path):
    """In float64: training multiplies float32's rounding by 1,000 in 20 steps."""
    one, _ = train(tmp_path / "one", "data", "float64")
    two, _ = train(
        tmp_path / "two", "data", "float64", synchronized_batch_norm=True, **TWO
    )
    assert len(one["losses"]) == len(two["losses"]) == 20
    np.testing.assert_allclose(two["losses"], one["losses"], atol=1e-5)
    np.testing.assert_allclose(two["evaluated"], one["evaluated"], atol=1e-5)
    assert one["losses"][-1] < one["losses"][0]
    assert two["spread"] == 0


def test_replicas_with_the_same_half_are_one_device_with_that_half(tmp_path):
    """As in the papers, each replica normalises by its own batch."""
    one, expected = train(tmp_path / "one", "twins", global_batch_size=8)
    two, found = train(tmp_path / "two", "twins", **TWO)
    np.testing.assert_allclose(two["losses"], one["losses"], atol=1e-6)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    assert two["spread"] == 0


def test_moving_statistics_are_one_on_all_replicas_and_in_the_export(tmp_path):
    two, _ = train(tmp_path / "two", "data", **TWO)
    assert two["spread"] == 0
    assert two["export"] < 1e-5


def test_fewer_devices_than_asked_for_is_an_error():
    from contract.config.train import TrainConfig
    from trainer import strategy

    config = TrainConfig(strategy="mirrored", replicas=64)
    with pytest.raises(strategy.StrategyError, match="train.replicas=64"):
        strategy.create(config)


def test_one_device_is_the_default():
    from contract.config.train import TrainConfig
    from trainer import strategy

    for kind in ("auto", "single"):
        chosen = strategy.create(TrainConfig(strategy=kind))
        assert chosen.num_replicas_in_sync == 1


def test_float16_without_a_gpu_is_refused():
    from contract.config.train import TrainConfig
    from trainer import strategy

    config = TrainConfig(precision="mixed_float16")
    for early_or_late in (strategy.prepare_devices, strategy.create):
        with pytest.raises(strategy.StrategyError, match="mixed_bfloat16"):
            early_or_late(config)


def test_every_replica_of_all_devices_gets_the_same_share():
    """A replica without images has no mean: tensorflow/tensorflow, issue 41657."""
    from contract.config.train import TrainConfig
    from trainer import strategy

    strategy.check_shares(TrainConfig(last_batch="keep", global_batch_size=63), 1)
    strategy.check_shares(TrainConfig(), 8)
    for changes in ({"last_batch": "keep"}, {"global_batch_size": 63}):
        with pytest.raises(strategy.StrategyError, match=r"the 8 replicas"):
            strategy.check_shares(TrainConfig(**changes), 8)


def test_no_tpu_is_said_in_a_sentence():
    from contract.config.train import TrainConfig
    from trainer import strategy

    with pytest.raises(strategy.StrategyError, match="train.tpu=local") as caught:
        strategy.create(TrainConfig(strategy="tpu", tpu="local"))
    assert "\n" not in str(caught.value)
