"""The training loop against plain NumPy updates, and what it survives."""

import dataclasses
import shutil

import numpy as np
import pytest

from contract.config.train import TrainConfig

pytestmark = pytest.mark.tf

CONFIG = TrainConfig(
    epochs=2,
    global_batch_size=16,
    learning_rate=0.05,
    schedule="constant",
    crop_padding=0,
    flip=False,
    weight_decay=0.01,
    checkpoint_seconds=0,
)


def data(count=64):
    import tensorflow as tf

    from trainer.examples import Examples
    from trainer.input import TrainingData

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, count)
    pixels = rng.integers(0, 60, (count, 3072), dtype=np.uint8)
    pixels[np.arange(count), labels * 100] = 255
    examples = Examples(
        images=tf.constant([row.tobytes() for row in pixels]),
        labels=tf.constant(labels, tf.int64),
    )

    def normalise(image_bytes):
        flat = tf.io.decode_raw(image_bytes, tf.uint8)
        return tf.reshape(tf.cast(flat, tf.float32) / 255, [-1, 32, 32, 3])

    return TrainingData(train=examples, evaluation=examples, normalise=normalise)


def model():
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_initializer="zeros"),
        ]
    )


def network_with_statistics():
    """A real one: batch norm keeps variables that no gradient reaches."""
    from trainer import network

    return network.build("preact_resnet8", classes=3)


def train(network, directory, config=CONFIG, source=None):
    from trainer import fit

    return fit.fit(
        network,
        source or data(),
        config,
        checkpoint_directory=str(directory / "checkpoints"),
        summary_directory=str(directory / "summaries"),
        title="test",
    )


def train_until(step, network, directory, monkeypatch, config=CONFIG):
    """Stops a training in the middle of a step, as if the process had died."""
    from trainer import fit

    class Died(Exception):
        pass

    advance = fit._State.advance

    def die(self, steps, seconds):
        if self.step == step:
            raise Died
        advance(self, steps, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(fit._State, "advance", die)
        with pytest.raises(Died):
            train(network, directory, config)


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_momentum_sgd_with_coupled_decay(tmp_path, nesterov):
    config = dataclasses.replace(CONFIG, nesterov=nesterov)
    network, source = model(), data()
    train(network, tmp_path, config, source)

    from trainer.input import training_batches

    kernel, bias = np.zeros((3072, 3)), np.zeros(3)
    velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
    batches = training_batches(
        source.train, source.normalise, config, first_step=0, steps=8
    )
    for images, labels in batches:
        x, y = images.numpy().reshape(16, -1).astype(float), labels.numpy()
        logits = x @ kernel + bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        delta = (p - np.eye(3)[y]) / 16
        gradients = [
            x.T @ delta + config.weight_decay * kernel,
            delta.sum(0) + config.weight_decay * bias,
        ]
        for i, (weight, gradient) in enumerate(
            zip((kernel, bias), gradients, strict=True)
        ):
            # Keras's convention: the rate is inside the velocity.
            velocity[i] = (
                config.momentum * velocity[i] - config.learning_rate * gradient
            )
            step = velocity[i]
            if nesterov:
                step = config.momentum * step - config.learning_rate * gradient
            weight += step
    np.testing.assert_allclose(network.weights[0].numpy(), kernel, atol=2e-5)
    np.testing.assert_allclose(network.weights[1].numpy(), bias, atol=2e-5)


def test_the_history_has_both_curves(tmp_path):
    outcome = train(model(), tmp_path)
    assert outcome.steps == 8
    assert [p["step"] for p in outcome.history if "eval_loss" in p] == [4, 8]
    assert [p["step"] for p in outcome.history if "loss" in p] == list(range(1, 9))
    assert outcome.images_per_second > 0
    assert any((tmp_path / "summaries").iterdir())


@pytest.mark.parametrize(
    ("build", "ema"), [(model, 0.0), (network_with_statistics, 0.9)]
)
def test_a_stopped_training_goes_on_to_the_same_weights(
    tmp_path, monkeypatch, build, ema
):
    config = dataclasses.replace(CONFIG, ema=ema)
    network = build()
    whole = train(network, tmp_path / "whole", config)

    train_until(5, build(), tmp_path / "broken", monkeypatch, config)
    resumed = build()
    outcome = train(resumed, tmp_path / "broken", config)
    assert outcome.history == whole.history
    for a, b in zip(network.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_diverged_loss_stops_with_the_remedy_and_keeps_the_checkpoint(tmp_path):
    from trainer import fit

    config = dataclasses.replace(CONFIG, learning_rate=100.0, weight_decay=1.0)
    with pytest.raises(
        fit.TrainingDiverged, match="lower train.learning_rate"
    ) as caught:
        train(model(), tmp_path, dataclasses.replace(config, epochs=200))
    assert "\n" not in str(caught.value)
    assert any((tmp_path / "checkpoints").glob("*/ckpt-*.index"))


def test_sigterm_saves_and_exits(tmp_path, monkeypatch):
    import os
    import signal

    from trainer import fit

    config = dataclasses.replace(CONFIG, checkpoint_seconds=3600)
    advance = fit._State.advance

    def signal_at_three(self, steps, seconds):
        advance(self, steps, seconds)
        if self.step == 3:
            for _ in range(2):  # as GNU timeout does
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fit._State, "advance", signal_at_three)
    with pytest.raises(SystemExit) as caught:
        train(model(), tmp_path, config)
    assert caught.value.code == 128 + signal.SIGTERM
    monkeypatch.setattr(fit._State, "advance", advance)
    whole, resumed = model(), model()
    train(whole, tmp_path / "whole", config)
    train(resumed, tmp_path, config)
    np.testing.assert_array_equal(whole.weights[0].numpy(), resumed.weights[0].numpy())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, monkeypatch):

    whole = model()
    train(whole, tmp_path / "whole")

    directory = tmp_path / "broken"
    for damage in ("truncated", "garbage", "no list"):
        train_until(6, model(), directory, monkeypatch)
        folder = directory / "checkpoints"
        newest = max(
            folder.glob("*/ckpt-*.data*"),
            key=lambda p: int(p.name.split("-")[1].split(".")[0]),
        )
        content = newest.read_bytes()
        if damage == "truncated":
            newest.write_bytes(content[: len(content) // 2])
        elif damage == "garbage":
            newest.write_bytes(bytes(len(content)))
        else:
            (newest.parent / "checkpoint").write_text("rubbish")
        resumed = model()
        outcome = train(resumed, directory)
        assert outcome.steps == 8
        np.testing.assert_array_equal(
            whole.weights[0].numpy(), resumed.weights[0].numpy()
        )
        shutil.rmtree(folder)


def test_each_attempt_writes_a_folder_of_its_own_and_goes_on_from_the_newest_of_any(
    tmp_path, monkeypatch
):
    """A paused writer that wakes up disturbs nobody, and its checkpoint counts too."""
    whole = model()
    train(whole, tmp_path / "whole")

    train_until(3, model(), tmp_path, monkeypatch)
    (first,) = (tmp_path / "checkpoints").iterdir()
    paused = {path.name: path.read_bytes() for path in first.iterdir()}
    # The second has one checkpoint: what the first left stays, untouched.
    train_until(4, model(), tmp_path, monkeypatch)
    (second,) = set((tmp_path / "checkpoints").iterdir()) - {first}
    assert {path.name for path in second.glob("*.index")} == {"ckpt-4.index"}
    assert {path.name: path.read_bytes() for path in first.iterdir()} == paused
    # The third has as many as are kept: those before it go, so that space is bounded.
    train_until(6, model(), tmp_path, monkeypatch)
    (third,) = (tmp_path / "checkpoints").iterdir()
    assert third not in (first, second)
    # The first wakes up and writes what it was about to write: older than the newest.
    first.mkdir()
    for name, content in paused.items():
        (first / name).write_bytes(content)
    resumed = model()
    train(resumed, tmp_path)
    np.testing.assert_array_equal(whole.weights[0].numpy(), resumed.weights[0].numpy())


def test_the_highest_step_counts_whoever_wrote_it():
    from trainer import attempts

    assert attempts.newest_first(
        [
            "gs://b/t/20270101T000000-a/ckpt-9.index",
            "gs://b/t/20270102T000000-b/ckpt-10.index",
            "gs://b/t/20270101T000000-a/ckpt-100.index",
            "gs://b/t/20270101T000000-a/ckpt-10.index",
            "gs://b/t/20270101T000000-a/ckpt-.index",
        ]
    ) == [
        "gs://b/t/20270101T000000-a/ckpt-100",
        "gs://b/t/20270102T000000-b/ckpt-10",
        "gs://b/t/20270101T000000-a/ckpt-10",
        "gs://b/t/20270101T000000-a/ckpt-9",
    ]
    assert len({attempts.new() for _ in range(100)}) == 100


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """One huge step: its loss is still that of before, but the weights are lost."""
    from trainer import fit

    config = dataclasses.replace(
        CONFIG, learning_rate=100.0, weight_decay=1.0, momentum=0.0, epochs=2
    )
    network = model()
    network.weights[0].assign(np.full((3072, 3), 3e37, np.float32))
    with pytest.raises(fit.TrainingDiverged):
        train(network, tmp_path, config)
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_several_steps_in_one_execution_are_the_same_steps(tmp_path):
    one, many = model(), model()
    first = train(one, tmp_path / "one")
    second = train(
        many, tmp_path / "many", dataclasses.replace(CONFIG, steps_per_execution=3)
    )
    for a, b in zip(one.weights, many.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)
    assert [p["step"] for p in first.history] == [p["step"] for p in second.history]


def test_label_smoothing_is_that_of_szegedy_et_al(tmp_path):
    import tensorflow as tf

    from trainer import fit

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 2, 2])
    targets = 0.9 * np.eye(4)[labels] + 0.1 / 4
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = fit._losses(tf.constant(labels), tf.constant(logits), 0.1)
    np.testing.assert_allclose(found, -(targets * log_p).sum(1), rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_the_moving_average_replaces_the_weights_at_the_end(tmp_path, precision):
    """Against an average kept by hand over the ends of trainings without one.

    min(decay, (1 + step) / (10 + step)): tensorflow 2.21, training/moving_averages.py,
    ExponentialMovingAverage. Loss scaling (mixed_float16) wraps the optimizer.
    """
    config = dataclasses.replace(
        CONFIG, ema=0.2, steps=3, precision=precision, learning_rate=1e-3
    )
    averaged = model()
    outcome = train(averaged, tmp_path / "average", config)
    expected = model().weights[0].numpy()
    for steps, decay in ((1, 2 / 11), (2, 0.2), (3, 0.2)):
        network = model()
        plain = dataclasses.replace(config, ema=0.0, steps=steps)
        raw = train(network, tmp_path / f"plain{steps}", plain)
        expected = decay * expected + (1 - decay) * network.weights[0].numpy()
    np.testing.assert_allclose(averaged.weights[0].numpy(), expected, atol=1e-6)
    assert np.abs(expected - network.weights[0].numpy()).max() > 1e-4
    # The training itself is that of the raw weights.
    curve = [point for point in raw.history if "loss" in point]
    assert curve == [point for point in outcome.history if "loss" in point]


def test_statistics_of_averaged_weights_are_their_own(tmp_path):
    """In inference they answer as batch norm with the moments of training images would.

    The first of the network's batch norms: what comes in is the stem's convolution.
    """
    import tensorflow as tf

    from trainer.input import training_batches

    config = dataclasses.replace(CONFIG, ema=0.9)
    network, source = network_with_statistics(), data()
    train(network, tmp_path, config, source)
    by_name = {variable.path: variable.numpy() for variable in network.variables}
    batches = training_batches(
        source.train, source.normalise, config, first_step=0, steps=4
    )
    moments = [
        tf.nn.moments(
            tf.nn.conv2d(images, by_name["stem/stem_kernel"], 1, "SAME"), (0, 1, 2)
        )
        for images, _ in batches
    ]
    mean, variance = np.mean(moments, axis=0)
    found = by_name["stage1_unit1/bn1_mean"], by_name["stage1_unit1/bn1_var"]
    np.testing.assert_allclose(found[0], mean, rtol=1e-4, atol=1e-5)
    count = 16 * 32 * 32
    np.testing.assert_allclose(found[1], variance * count / (count - 1), rtol=1e-3)


def test_mixed_precision_learns(tmp_path):
    from trainer import network

    config = dataclasses.replace(
        CONFIG,
        precision="mixed_bfloat16",
        learning_rate=0.02,
        epochs=8,
        weight_decay=0.0,
    )
    mixed = network.build("preact_resnet8", classes=3, dtype="mixed_bfloat16")
    outcome = train(mixed, tmp_path, config)
    losses = [p["loss"] for p in outcome.history if "loss" in p]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert {v.dtype for v in mixed.trainable_variables} == {"float32"}


def test_the_profiler_writes_a_trace(tmp_path):
    train(model(), tmp_path, dataclasses.replace(CONFIG, profile_steps=2))
    assert list((tmp_path / "summaries").rglob("*.xplane.pb"))


def test_a_profile_ends_with_its_training(tmp_path):
    """A process has one profiler, and a run trains two networks in one process."""
    config = dataclasses.replace(CONFIG, profile_steps=500)
    for name in ("baseline", "candidate"):
        train(model(), tmp_path / name, config)
        assert list((tmp_path / name / "summaries").rglob("*.xplane.pb"))


def test_images_per_second_count_the_images_that_there_are(tmp_path, monkeypatch):
    """65 images make batches of 64 and of 1; the first one builds the graph."""
    from trainer import fit

    seconds = []
    advance = fit._State.advance

    def note(self, steps, taken):
        seconds.append(taken)
        advance(self, steps, taken)

    monkeypatch.setattr(fit._State, "advance", note)
    config = dataclasses.replace(
        CONFIG, global_batch_size=64, last_batch="keep", steps=5
    )
    outcome = train(model(), tmp_path, config, data(65))
    assert outcome.images_per_second == pytest.approx(2 * 65 / sum(seconds[1:]))


def test_a_strategy_of_one_device_trains_as_that_device(tmp_path):
    """As train.strategy=mirrored is on a machine with one GPU, or without."""
    from trainer import strategy

    config = dataclasses.replace(CONFIG, ema=0.9, strategy="mirrored")
    alone = network_with_statistics()
    train(alone, tmp_path / "alone", config)
    with strategy.create(config).scope():
        mirrored = network_with_statistics()
        outcome = train(mirrored, tmp_path / "mirrored", config)
    assert outcome.replicas == 1
    for a, b in zip(alone.weights, mirrored.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_the_learning_rate_falls_on_a_plateau_also_where_it_was_resumed(
    tmp_path, monkeypatch
):
    config = dataclasses.replace(
        CONFIG, schedule="plateau", plateau_evaluations=2, evaluation_steps=1
    )
    # Nothing is learnt: the first evaluation stays the best.
    config = dataclasses.replace(config, learning_rate=1e-6)
    train_until(5, model(), tmp_path, monkeypatch, config)
    outcome = train(model(), tmp_path, config)
    assert outcome.steps == 8
    rates = [p["learning_rate"] for p in outcome.history if "learning_rate" in p]
    # Evaluations after steps 1, 2, 3: the third is the second without a new best.
    expected = [1e-6] * 3 + [1e-7] * 2 + [1e-8] * 2 + [1e-9]
    assert rates == pytest.approx(expected)
