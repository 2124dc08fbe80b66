"""Signals along networks: against Keras's own gradients, closed forms and broken copies."""

import dataclasses
import json

import numpy as np
import pytest

pytestmark = pytest.mark.tf

CLASSES = 10
SCALED = "preact_resnet20:shortcut=constant_scaling:residual_scale=1:shortcut_scale="


def laid_out(name, dtype="float64", channels=3):
    from studies.propagation import walk

    weights = walk.initial_weights(name, CLASSES, 1, channels)
    return walk.network_of(name, CLASSES, weights, dtype=dtype, channels=channels)


def few(count=4, shape=(8, 8, 3)):
    import tensorflow as tf

    stream = np.random.default_rng(0)
    images = stream.standard_normal((count, *shape))
    return tf.constant(images), tf.constant(stream.integers(0, CLASSES, count))


@pytest.mark.parametrize("name", ["preact_resnet20", "resnet29", "plain20"])
def test_the_walk_is_the_network_that_is_trained(name):
    """Weights, loss and gradient are those of trainer.network.build's model."""
    import tensorflow as tf

    from studies.propagation import walk
    from trainer.network import build, export_weights

    images, labels = few()
    model = build(name, CLASSES, image_shape=(8, 8, 3), seed=1, dtype="float64")
    weights = walk.initial_weights(name, CLASSES, 1)
    assert weights.keys() == export_weights(model).keys()
    for key, value in export_weights(model).items():
        np.testing.assert_array_equal(weights[key], value, err_msg=key)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=model(images, training=True)
            )
        )
    wanted = tape.gradient(loss, images)

    network = laid_out(name)
    signals = walk.walk(network, images, labels)
    # The model's logits are float32.
    assert float(walk.head_loss(network, signals.output, labels)) == pytest.approx(
        float(loss), rel=1e-6
    )
    found, _ = walk.pull(network.stem, images, signals.gradients[0], images)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1])
def test_shortcuts_alone_carry_the_product_of_lambdas(factor):
    from studies.propagation import measure, walk

    network = laid_out(f"{SCALED}{factor}")
    signals = walk.walk(network, *few())
    units = measure.signals_of(network, signals)
    shares = {unit["unit"]: unit["share"] for unit in units}
    for stage in (1, 2, 3):
        assert shares[f"stage{stage}/unit1"] is None  # its shortcut changes the width
        assert shares[f"stage{stage}/unit2"] == pytest.approx(factor**2, rel=1e-12)
        assert shares[f"stage{stage}/unit3"] == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("kind", ["exclusive_gating", "shortcut_only_gating"])
def test_gates_carry_the_product_of_one_minus_g_by_hand(kind):
    import tensorflow as tf

    from studies.propagation import walk

    network = laid_out(f"preact_resnet20:shortcut={kind}:gate_bias=-1")
    signals = walk.walk(network, *few())
    places = (1, 2)
    product = signals.gradients[3]
    for place in places:
        own = network.units[place].weights
        logits = tf.nn.conv2d(
            signals.inputs[place], own["gate/kernel"], 1, "VALID"
        ) + own["gate/bias"]  # fmt: skip
        product *= 1 - tf.sigmoid(logits)
    assert signals.along[1] == pytest.approx(walk.norm(product), rel=1e-9)
    assert signals.departure[1] < 1e-12


def test_the_equations_hold_on_pre_activation_and_break_on_the_original():
    import tensorflow as tf

    from studies.propagation import equations, walk

    for name, holds in (
        ("preact_resnet20", True),
        (f"{SCALED}0.9", True),
        ("resnet20", False),
    ):
        images, labels = few()
        network = laid_out(name)
        signals = walk.walk(network, images, labels)
        single = laid_out(name, "float32")
        errors = (
            equations.forward_error(single, tf.cast(images, tf.float32)),
            equations.backward_error(network, signals),
        )
        if holds:
            assert max(errors) < 1e-5, name
        else:
            assert min(errors) > 0.01, name
        if name.startswith(SCALED):
            # Nothing holds by itself: with another lambda both sides differ.
            wrong = dataclasses.replace(network, spec=parsed(f"{SCALED}0.8"))
            assert equations.forward_error(wrong, images) > 0.01
            assert equations.backward_error(wrong, signals) > 0.01


def parsed(name):
    from trainer.units import parse_network

    return parse_network(name)


def test_the_gradient_is_a_difference_quotient_of_the_loss():
    from studies.propagation import equations, walk

    images, labels = few()
    network = laid_out("preact_resnet20")
    signals = walk.walk(network, images, labels)
    assert equations.quotient_error(network, signals, labels) < 1e-4
    halved = dataclasses.replace(
        signals, gradients={k: each / 2 for k, each in signals.gradients.items()}
    )
    assert equations.quotient_error(network, halved, labels) > 0.5


@pytest.mark.parametrize(
    ("name", "most"),
    [("preact_resnet20", 0.0), ("resnet20", 0.0), ("preact_resnet29", 0.0)],
)
def test_a_unit_with_a_zero_last_kernel_is_the_identity(name, most):
    from studies.propagation import equations

    assert equations.identity_error(laid_out(name), few()[0]) == most


def test_a_plain_unit_with_a_zero_last_kernel_is_not():
    from studies.propagation import equations

    assert equations.identity_error(laid_out("plain20"), few()[0]) > 0.5


def test_the_law_of_basic_units_and_what_it_depends_on():
    """A network by hand: without branches a gradient does not grow, and the law says so."""
    import statistics

    from studies.propagation import measure, walk

    network = laid_out("preact_resnet20")
    signals = walk.walk(network, *few(16, (16, 16, 3)))
    found = [
        unit["law"]
        for unit in measure.signals_of(network, signals)
        if unit["law"] is not None
    ]
    assert len(found) == 6
    assert 0.8 < statistics.median(found) < 1.2
    wrong = dataclasses.replace(network, spec=parsed("preact_resnet29"))
    off = [
        unit["law"]
        for unit in measure.signals_of(wrong, signals)
        if unit["law"] is not None
    ]
    assert statistics.median(off) < 0.9 * statistics.median(found)


def test_three_weights_multiply_and_batch_norm_takes_them_out():
    from studies.propagation import smallest

    rows = {row["weight"]: row for row in smallest.gradients()}
    assert rows[0.5]["plain"] == pytest.approx(0.125)
    assert rows[2.0]["plain"] == pytest.approx(8)
    assert rows[0.5]["shortcut"] == pytest.approx(3.375)
    assert rows[0.1]["batch_norm"] == pytest.approx(rows[2.0]["batch_norm"])
    assert smallest.gradients(layers=20)[0]["plain"] == pytest.approx(1e-20)


def test_without_batch_norm_a_plain_gradient_goes_with_the_kernels():
    import tensorflow as tf

    from studies.propagation import walk

    images, _ = few()
    lengths = []
    for factor in (0.5, 1.0):
        bare = walk.without_batch_norm(walk.scaled(laid_out("plain20"), factor))
        x, inputs = walk.forward(bare.stem, images), []
        for part in bare.units:
            inputs.append(x)
            x = walk.forward(part, x)
        gradient = tf.ones_like(x)
        for part, entered in zip(reversed(bare.units), reversed(inputs), strict=True):
            gradient, _ = walk.pull(part, entered, gradient, gradient)
        lengths.append(walk.norm(gradient))
    # 18 convolutions, and ReLUs, which do not see a factor.
    assert lengths[0] / lengths[1] == pytest.approx(0.5**18, rel=1e-9)


# ---- lesions -------------------------------------------------------------------------


def changed(name, change):
    """The error with weights changed by hand, through the Keras model that is served."""
    from studies.propagation import walk
    from trainer.network import build, import_weights

    weights = walk.initial_weights(name, CLASSES, 1)
    change(weights)
    model = build(name, CLASSES, image_shape=(8, 8, 3), seed=1)
    import_weights(model, weights)
    images, labels = few(300)
    found = np.argmax(model(images, training=False), axis=1)
    return float(np.mean(found != labels.numpy()))


def test_lesions_are_changes_of_weights_by_hand():
    import tensorflow as tf

    from studies.propagation import lesions

    name = "preact_resnet20"
    network = laid_out(name, "float32")
    images, labels = few(300)
    found = lesions.lesions(network, tf.cast(images, tf.float32), labels)
    assert found.error == pytest.approx(changed(name, lambda _: None))
    assert [each.units for each in found.removed] == [
        (f"stage{stage}/unit{unit}",) for stage in (1, 2, 3) for unit in (1, 2, 3)
    ]

    def without(weights, unit):
        key = f"{unit}/conv2/kernel"
        weights[key] = np.zeros_like(weights[key])

    for each in found.removed:
        (unit,) = each.units
        wanted = changed(name, lambda weights, unit=unit: without(weights, unit))
        assert each.error == pytest.approx(wanted, abs=2 / 300), unit

    def exchange(weights, one, other):
        for key in [key for key in weights if key.startswith(f"{one}/")]:
            partner = other + key.removeprefix(one)
            weights[key], weights[partner] = weights[partner], weights[key]

    assert len(found.swapped) == 3  # each stage's units 2 and 3
    for each in found.swapped:
        wanted = changed(name, lambda weights, two=each.units: exchange(weights, *two))
        assert each.error == pytest.approx(wanted, abs=2 / 300), each.units


def test_of_a_plain_network_units_that_change_the_width_stay():
    import tensorflow as tf

    from studies.propagation import lesions

    images, labels = few(20)
    found = lesions.lesions(
        laid_out("plain20", "float32"), tf.cast(images, tf.float32), labels
    )
    names = {unit for each in found.removed for unit in each.units}
    assert names == {f"stage{s}/unit{u}" for s in (1, 2, 3) for u in (2, 3)}


def test_the_weights_inside_an_exported_model(tmp_path):
    import tensorflow_transform as tft

    from contract.config.preprocessing import PreprocessingConfig
    from contract.datasets import Dataset
    from contract.fields import ConfigError
    from contract.model_run import ModelRun
    from studies.propagation import trained
    from tests.trainer import transform_graph
    from trainer import export
    from trainer.network import build, export_weights

    names = ("cat", "dog")
    toy = Dataset(
        name="toy", title="Toy", image_shape=(8, 8, 1), labels={"label": names}
    )
    rows = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    graph = transform_graph.write(
        tmp_path / "graph", [row.tobytes() for row in rows], PreprocessingConfig(), toy
    )
    model = build("preact_resnet20", 2, image_shape=(8, 8, 1), seed=5)
    for variable in model.variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    folder = str(tmp_path / "model")

    def save(network):
        export.save(
            model,
            tft.TFTransformOutput(graph),
            toy,
            directory=folder,
            run=ModelRun(
                role="candidate",
                network=network,
                class_names=names,
                image_shape=(8, 8, 1),
            ),
        )

    save("preact_resnet20")
    found = trained.read(folder)
    assert (found.contender, found.network) == ("candidate", "preact_resnet20")
    wanted = export_weights(model)
    assert found.weights.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found.weights[key], value)
    folder = str(tmp_path / "other")
    save("resnet20")  # says what it is not
    with pytest.raises(ConfigError, match="train it again"):
        trained.read(folder)


# ---- the commands --------------------------------------------------------------------


def test_the_command_writes_findings_and_page(tmp_path, monkeypatch, capsys):
    """A table of one network, and of a plain one with and without batch norm."""
    from studies.propagation import __main__, plan

    rows = {
        "ROWS": (plan.Row(network="preact_resnet20", law=(0.5, 0.6)),),
        "SCALED": (),
        "LAMBDAS": (),
        "GATED": (),
        "PLAIN": tuple(row for row in plan.PLAIN if row.network == "plain20"),
        "DEEPEST_PLAIN": "plain20",
        "IMAGES": 2,
    }
    for name, value in rows.items():
        monkeypatch.setattr(plan, name, value)
    assert __main__.main(["--output_root", str(tmp_path)]) == 0
    folder = tmp_path / "studies" / "propagation"
    found = json.loads((folder / "propagation.json").read_text())
    holds = {each["claim"]: each["holds"] for each in found["findings"]}
    assert holds["Eq. 4 holds (relative error)"]
    assert holds["Eq. 5 holds (relative error)"]
    assert not holds["median of measured over law"]  # a result, no fault
    (network,) = found["networks"]
    assert len(network["units"]) == 9
    assert "preact_resnet20" in (folder / "report.html").read_text()
    assert str(folder / "report.html") in capsys.readouterr().out


def test_the_command_injures_the_networks_of_the_last_run(tmp_path, monkeypatch):
    import tensorflow as tf

    from studies.propagation import __main__, trained, walk

    images, labels = few(6)
    run = trained.LastRun(
        id="r",
        dataset="toy",
        classes=CLASSES,
        channels=3,
        models=tuple(
            trained.Trained(name, name, walk.initial_weights(name, CLASSES, 2))
            for name in ("plain20", "preact_resnet20")
        ),
        images=tf.cast(images, tf.float32),
        labels=labels,
    )
    monkeypatch.setattr(trained, "last_run", lambda *_: run)
    assert __main__.main(["lesions", "--output_root", str(tmp_path)]) == 0
    folder = tmp_path / "studies" / "lesions"
    models = json.loads((folder / "lesions.json").read_text())["models"]
    assert [len(each["removed"]) for each in models] == [6, 9]
    assert (folder / "report.html").stat().st_size > 1000
