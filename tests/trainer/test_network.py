"""The interpreter against the papers' rules written out a second time, and the model's forms.

The reference below shares nothing with the tables: it walks unit after unit through plain
TensorFlow operations in float64, where two correct implementations agree to rounding. (In
float32 they do not: a ReLU whose input is zero up to rounding may open in one and stay shut in
the other.)
"""

import importlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from trainer.initialisers import INITIALISERS
from trainer.program import weight_shapes
from trainer.tables import ARRANGEMENTS, BLOCKS, SHORTCUTS
from trainer.units import NetworkError, NetworkSpec, parse_network


class OnUse:
    """A module that is imported by the first test that uses it.

    Collecting tests stays fast, and TensorFlow is not loaded before TFX where one process
    runs tests of both.
    """

    def __init__(self, name):
        self.name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self.name), attribute)


tf: Any = OnUse("tensorflow")
keras: Any = OnUse("keras")
network: Any = OnUse("trainer.network")

pytestmark = pytest.mark.tf

CONVOLUTIONS = {"single_layer": 1, "basic": 2, "bottleneck": 3}
POST_ACTIVATION = ("original", "bn_after_addition", "relu_before_addition")
HEAD = ("dense/kernel", "dense/bias")
EQUAL = 1e-9  # relative to the largest number of a tensor; float64


# --- The reference ---------------------------------------------------------------------------


class Reference:
    """Plain operations over flat weights; remembers what the moving statistics become."""

    def __init__(self, weights, *, training):
        self.weights = weights
        self.training = training
        self.moved = {}

    def conv(self, x, name, stride=1):
        kernel = self.weights[f"{name}/kernel"]
        p = kernel.shape[0] // 2
        x = tf.pad(x, [[0, 0], [p, p], [p, p], [0, 0]])
        x = tf.nn.conv2d(x, kernel, stride, "VALID")
        bias = self.weights.get(f"{name}/bias")
        return x if bias is None else x + bias

    def bn(self, x, name):
        gamma, beta, mean, var = (
            self.weights[f"{name}/{role}"] for role in ("gamma", "beta", "mean", "var")
        )
        if self.training:
            n = int(np.prod(x.shape[:3]))
            batch_mean, batch_var = tf.nn.moments(x, [0, 1, 2])
            self.moved[f"{name}/mean"] = 0.9 * mean + 0.1 * batch_mean
            self.moved[f"{name}/var"] = 0.9 * var + 0.1 * batch_var * n / (n - 1)
            mean, var = batch_mean, batch_var
        return tf.nn.batch_normalization(x, mean, var, beta, gamma, 1e-5)

    def letters(self, x, letters, prefix, counts, stride_at=None, stride=1):
        """Runs e.g. "BRWBRW"; `counts` are the norms and convolutions that came before."""
        for letter in letters:
            if letter == "B":
                counts["B"] += 1
                x = self.bn(x, f"{prefix}bn{counts['B']}")
            elif letter == "W":
                counts["W"] += 1
                own = stride if counts["W"] == stride_at else 1
                x = self.conv(x, f"{prefix}conv{counts['W']}", own)
            else:
                x = tf.nn.relu(x)
        return x

    def unit(self, spec, x, prefix, *, first, stride, shared=True):
        """One unit, from Fig. 2 and 4 of He et al. 2016b."""
        between = "BRW" * (CONVOLUTIONS[spec.block] - 1)
        lead, branch, addition = {
            "original": ("", f"W{between}B", "R"),
            "bn_after_addition": ("", f"W{between}", "BR"),
            "relu_before_addition": ("", f"W{between}BR", ""),
            "relu_only_preactivation": ("R", f"W{between}B", ""),
            "full_preactivation": ("BR", f"W{between}", ""),
        }[spec.arrangement]
        counts = {"B": 0, "W": 0}
        if first and shared:  # one activation for both branches
            x = self.letters(x, lead, prefix, counts)
        y = x if first else self.letters(x, lead, prefix, counts)
        stride_at = 2 if spec.stride_on == "3x3" else 1
        y = self.letters(y, branch, prefix, counts, stride_at, stride)
        if spec.shortcut == "none":
            return tf.nn.relu(y)
        s, y = self.shortcut(spec, x, y, prefix, stride)
        return self.letters(s + y, addition, prefix, counts)

    def shortcut(self, spec, x, y, prefix, stride):
        s = x
        changes = stride > 1 or x.shape[-1] != y.shape[-1]
        if spec.option == "C" or (spec.option == "B" and changes):
            s = self.conv(x, f"{prefix}projection", stride)
            if spec.arrangement in POST_ACTIVATION:
                s = self.bn(s, f"{prefix}projection_bn")
        elif changes:
            zeros = y.shape[-1] - x.shape[-1]
            s = tf.pad(x[:, ::stride, ::stride], [[0, 0], [0, 0], [0, 0], [0, zeros]])
        if spec.shortcut == "constant_scaling":
            return spec.shortcut_scale * s, spec.residual_scale * y
        if spec.shortcut.endswith("gating"):
            g = tf.sigmoid(self.conv(x, f"{prefix}gate", stride))
            return (1 - g) * s, (g * y if spec.shortcut == "exclusive_gating" else y)
        return s, y  # dropout: nothing in inference, and a rate of 0 in training

    def logits(self, spec, x):
        imagenet = spec.family == "imagenet"
        preactivation = spec.arrangement not in POST_ACTIVATION
        x = self.conv(x, "stem", 2 if imagenet else 1)
        if spec.arrangement != "full_preactivation" or imagenet:
            x = self.bn(x, "stem_bn")
        if not preactivation or imagenet:
            x = tf.nn.relu(x)
        if imagenet:
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-1e9)
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            units = {18: (2, 2, 2, 2)}[spec.depth]
        else:
            units = ((spec.depth - 2) // (3 * CONVOLUTIONS[spec.block]),) * 3
        for stage, count in enumerate(units, start=1):
            for unit in range(1, count + 1):
                x = self.unit(
                    spec, x, f"stage{stage}/unit{unit}/",
                    first=unit == 1, stride=2 if unit == 1 < stage else 1,
                    shared=not (imagenet and stage == 1),
                )  # fmt: skip
        if preactivation:
            x = tf.nn.relu(self.bn(x, "final_bn"))
        x = tf.reduce_mean(x, [1, 2])
        return x @ self.weights["dense/kernel"] + self.weights["dense/bias"]


def random_weights(model, seed=0):
    """Values that leave nothing at 0 or 1, by flat name."""
    rng = np.random.default_rng(seed)
    draws = {
        "kernel": lambda shape: rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])),
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "var": lambda shape: rng.uniform(0.5, 1.5, shape),
    }
    other = lambda shape: rng.normal(size=shape) * 0.3  # noqa: E731
    return {
        name: draws.get(name.split("/")[-1], other)(value.shape)
        for name, value in network.export_weights(model).items()
    }


def run_layers(model, x, *, training):
    """The model on images of any size."""
    for layer in model.layers[1:]:
        x = layer(x, training=training)
    return x


def flat_gradients(model, gradients):
    """Gradients of `model.trainable_variables` by flat name."""
    by_variable = {
        id(v): g for v, g in zip(model.trainable_variables, gradients, strict=True)
    }
    found = {}
    for layer in model.layers[1:]:
        for name, variable in layer.arrays.items():
            if id(variable) in by_variable:
                value = by_variable[id(variable)].numpy()
                parts = value if layer.section.stacked else [value]
                for prefix, part in zip(layer.section.prefixes, parts, strict=True):
                    found[f"{prefix}{name}"] = part
    return found


def assert_equal(name, ours, expected, tolerance=EQUAL):
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape, name
    scale = max(np.abs(expected).max(), 1e-6)  # some gradients are 0 but for rounding
    difference = np.abs(ours - expected).max() / scale
    assert difference <= tolerance, f"{name}: {difference:.2e} of {scale:.2e}"


def loss_of(labels, logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def compare_with_reference(spec, *, side=16, batch=2, classes=3):
    """Logits, loss, gradients and moving statistics, in inference and training mode."""
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(batch, side, side, 3)))
    labels = tf.constant(rng.integers(classes, size=batch))
    model = network.build(spec, classes=classes, dtype="float64")
    weights = random_weights(model)
    network.import_weights(model, weights)

    plain = {name: tf.constant(value) for name, value in weights.items()}
    expected = Reference(plain, training=False).logits(spec, images)
    assert_equal("inference", run_layers(model, images, training=False), expected)

    reference = Reference(plain, training=True)
    trained = [name for name in plain if name.split("/")[-1] not in ("mean", "var")]
    with tf.GradientTape() as tape:
        tape.watch([plain[name] for name in trained])
        expected = reference.logits(spec, images)
        expected_loss = loss_of(labels, expected)
    expected_gradients = tape.gradient(expected_loss, [plain[name] for name in trained])

    with tf.GradientTape() as tape:
        logits = run_layers(model, images, training=True)
        loss = loss_of(labels, logits)
    gradients = flat_gradients(model, tape.gradient(loss, model.trainable_variables))

    assert_equal("logits", logits, expected)
    assert_equal("loss", loss, expected_loss)
    assert set(gradients) == set(trained)
    for name, value in zip(trained, expected_gradients, strict=True):
        assert_equal(name, gradients[name], value)
    after = network.export_weights(model)
    assert set(reference.moved) == set(weights) - set(trained)
    for name, value in reference.moved.items():
        assert_equal(name, after[name], value)


# --- Every row of the tables -----------------------------------------------------------------


def depth_of(block, units=3):
    """Three units per stage: one apart, two in the loop."""
    return 3 * units * CONVOLUTIONS[block] + 2


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", sorted(set(SHORTCUTS) - {"none"}))
def test_every_combination_equals_the_reference(arrangement, block, shortcut):
    constants = {
        "constant_scaling": {"shortcut_scale": 0.7, "residual_scale": 0.4},
        "dropout": {"dropout_rate": 0.0},
    }
    spec = NetworkSpec(
        arrangement=arrangement, block=block, shortcut=shortcut,
        depth=depth_of(block, units=3 if shortcut == "identity" else 2),
        **constants.get(shortcut, {}),
    )  # fmt: skip
    compare_with_reference(spec)


@pytest.mark.parametrize(
    "fields",
    [
        {"block": "basic", "shortcut": "none"},
        {"block": "basic", "option": "B"},
        {"block": "basic", "option": "B", "arrangement": "full_preactivation"},
        {"block": "bottleneck", "option": "A"},
        {"block": "bottleneck", "option": "A", "arrangement": "full_preactivation"},
        {"block": "bottleneck", "stride_on": "3x3"},
        {"block": "bottleneck", "option": "B", "shortcut": "exclusive_gating"},
        {"block": "basic", "shortcut": "constant_scaling", "shortcut_scale": 0.0,
         "residual_scale": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_options_equal_the_reference(fields):
    fields = {"arrangement": "original", "depth": depth_of(fields["block"]), **fields}
    compare_with_reference(NetworkSpec(**fields))


@pytest.mark.parametrize("arrangement", ["original", "full_preactivation"])
def test_imagenet_networks_equal_the_reference(arrangement):
    spec = NetworkSpec(
        arrangement=arrangement, block="basic", depth=18, family="imagenet"
    )
    compare_with_reference(spec, side=32, batch=4)


def test_float32_and_the_fused_batch_norm_equal_the_reference():
    """The types that train: forward to rounding (gradients: see the module's docstring)."""
    model = network.build("preact_resnet29_bottleneck", classes=10)
    spec = NetworkSpec(arrangement="full_preactivation", block="bottleneck", depth=29)
    weights = random_weights(model)
    network.import_weights(model, weights)
    images = np.random.default_rng(1).normal(size=(4, 32, 32, 3)).astype(np.float32)
    plain = {name: tf.constant(value) for name, value in weights.items()}
    for training in (False, True):
        reference = Reference(plain, training=training)
        expected = reference.logits(spec, tf.constant(images, tf.float64))
        logits = model(images, training=training)
        assert logits.dtype == tf.float32
        assert_equal(f"training={training}", logits, expected, 1e-4)
    after = network.export_weights(model)
    for name, value in reference.moved.items():
        assert_equal(name, after[name], value, 1e-4)


# --- Forms of one network --------------------------------------------------------------------


def train_once(name, **options):
    """One SGD step in a graph: (loss, weights after it), everything float32."""
    model = network.build(name, classes=10, image_shape=(32, 32, 3), seed=3, **options)
    rng = np.random.default_rng(2)
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    labels = rng.integers(10, size=2)

    @tf.function(jit_compile=False)
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        for variable, gradient in zip(
            model.trainable_variables, gradients, strict=True
        ):
            variable.assign_sub(0.1 * gradient)
        return loss

    loss = step().numpy()
    return loss, network.export_weights(model)


@pytest.mark.parametrize(
    "name",
    [
        "preact_resnet29_bottleneck",
        "resnet38:shortcut=dropout",  # rematerialised, a loop of two units and one more
        "imagenet_resnet34",
    ],
)
def test_loop_unrolled_and_rematerialised_are_bitwise_the_same(name):
    loss, weights = train_once(name)
    for options in ({"unroll": True}, {"rematerialise": True}):
        other_loss, other = train_once(name, **options)
        assert other_loss == loss, options
        different = [
            key for key in weights if not np.array_equal(weights[key], other[key])
        ]
        assert not different, (options, different[:3])


@pytest.fixture(scope="module")
def deep():
    """The two depths that must cost the same to build."""
    return {
        depth: network.build(f"preact_resnet{depth}", classes=10)
        for depth in (164, 1001)
    }


def test_trainable_parameters_are_the_published_ones(deep):
    for depth, published in ((164, 1_703_258), (1001, 10_327_706)):
        variables = deep[depth].trainable_variables
        assert sum(int(np.prod(v.shape)) for v in variables) == published
        assert len(variables) == 62  # at any depth


def test_training_graph_does_not_grow_with_depth(deep):
    def nodes(model):
        @tf.function(jit_compile=False)
        def gradients(images):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(images, training=True))
            return tape.gradient(loss, model.trainable_variables)

        spec = tf.TensorSpec((None, 32, 32, 3))
        definition = gradients.get_concrete_function(spec).graph.as_graph_def()
        return len(definition.node) + sum(
            len(function.node_def) for function in definition.library.function
        )

    assert nodes(deep[1001]) == nodes(deep[164])


def test_an_untrained_1001_layer_network_gives_finite_logits_in_training_mode(deep):
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    logits = tf.function(deep[1001], jit_compile=False)(images, training=True)
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()


def test_scaled_shortcuts_multiply_up():
    """Eq. 8 of 2016b: with silent branches, 17 shortcuts of 0.5 leave 0.5^17."""
    spec = NetworkSpec(
        arrangement="full_preactivation", block="basic", depth=110,
        shortcut="constant_scaling", residual_scale=1.0,
    )  # fmt: skip
    layer = network.build(spec, classes=10).get_layer("stage1_units")
    layer.arrays["conv2/kernel"].assign(tf.zeros(layer.arrays["conv2/kernel"].shape))
    x = tf.random.stateless_normal((1, 8, 8, 16), seed=(1, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    np.testing.assert_array_equal(y, x * 0.5**17)
    np.testing.assert_array_equal(tape.gradient(y, x), tf.fill(x.shape, 0.5**17))


@pytest.mark.parametrize(
    ("name", "zero_start"),
    [
        ("preact_resnet14", "kernel"), ("preact_resnet14", "gamma"),
        ("preact_resnet29_bottleneck", "gamma"),
        ("relu_before_addition_resnet14", "gamma"),
        ("relu_only_preactivation_resnet14", "kernel"),
    ],
)  # fmt: skip
def test_units_start_as_the_identity_where_their_branch_starts_at_zero(
    name, zero_start
):
    """2016a, section 3.1: the weights of the layers may drive a branch to zero."""
    layer = network.build(name, classes=10, zero_start=zero_start).get_layer(
        "stage1_units"
    )
    width = 64 if "bottleneck" in name else 16
    x = tf.random.stateless_normal((2, 8, 8, width), seed=(1, 2))
    np.testing.assert_array_equal(layer(x, training=True), x)
    other = network.build(name, classes=10).get_layer("stage1_units")
    assert not np.allclose(other(x, training=True), x)


def test_dropout_scales_what_it_keeps_and_differs_between_units_and_calls():
    spec = NetworkSpec(
        arrangement="full_preactivation",
        block="single_layer",
        depth=11,
        shortcut="dropout",
    )
    layer = network.build(spec, classes=10).get_layer("stage1_units")
    layer.arrays["conv1/kernel"].assign(tf.zeros(layer.arrays["conv1/kernel"].shape))
    x = tf.ones((8, 32, 32, 16))
    first, second = (layer(x, training=True).numpy() for _ in range(2))
    # Two units with one mask would leave values of 0 and 4 in equal number.
    assert set(np.unique(first)) == {0.0, 4.0}
    assert abs((first == 0).mean() - 0.75) < 0.01
    assert abs((first == second).mean() - (0.75**2 + 0.25**2)) < 0.01
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_mixed_precision_keeps_batch_norm_and_logits_in_float32():
    model = network.build("preact_resnet20", classes=10, dtype="mixed_bfloat16")
    assert {v.dtype for v in model.variables} == {"float32"}
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)

    @tf.function(jit_compile=False)
    def gradients():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = loss_of([0, 1, 2, 3], logits)
        return logits, tape.gradient(loss, model.trainable_variables)

    logits, found = gradients()
    assert logits.dtype == tf.float32
    assert all(np.isfinite(value).all() for value in found)
    full = network.build("preact_resnet20", classes=10)
    assert_equal("logits", logits, full(images, training=True), 0.1)
    assert model.get_layer("stage1_units").compute_dtype == "bfloat16"


# --- Weights ---------------------------------------------------------------------------------


def test_flat_names_are_the_documented_ones():
    names = list(
        network.export_weights(network.build("resnet29_bottleneck", classes=10))
    )
    assert names[:5] == [
        "stem/kernel",
        *(f"stem_bn/{r}" for r in ("gamma", "beta", "mean", "var")),
    ]
    first = [name for name in names if name.startswith("stage1/unit1/")]
    assert {name.split("/")[2] for name in first} == {
        "conv1", "conv2", "conv3", "bn1", "bn2", "bn3", "projection", "projection_bn"
    }  # fmt: skip
    assert names[-2:] == ["dense/kernel", "dense/bias"]
    gated = network.build("preact_resnet8:shortcut=exclusive_gating", classes=10)
    names = set(network.export_weights(gated))
    assert {
        "stage3/unit1/gate/kernel",
        "stage3/unit1/gate/bias",
        "final_bn/var",
    } <= names


def test_weights_move_between_forms():
    stacked = network.build("resnet20", classes=10, seed=1)
    weights = random_weights(stacked)
    network.import_weights(stacked, weights)
    unrolled = network.build("resnet20", classes=10, seed=2, unroll=True)
    network.import_weights(unrolled, network.export_weights(stacked))
    for name, value in network.export_weights(unrolled).items():
        np.testing.assert_array_equal(
            value, weights[name].astype(np.float32), err_msg=name
        )


def test_weights_of_another_network_are_refused_by_name():
    model = network.build("resnet20", classes=10)
    weights = network.export_weights(model)
    before = weights["dense/kernel"].copy()
    bad = {
        "missing (first: stem/kernel)": {
            k: v for k, v in weights.items() if k != "stem/kernel"
        },
        "unknown (first: extra)": weights | {"extra": before},
        r"weight dense/bias has shape \[3\]": weights | {"dense/bias": np.zeros(3)},
    }
    for sentence, given in bad.items():
        sentence = sentence.replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(NetworkError, match=sentence):
            network.import_weights(model, {k: v * 0 for k, v in given.items()})
    np.testing.assert_array_equal(network.export_weights(model)["dense/kernel"], before)
    with pytest.raises(NetworkError, match="holds no network"):
        network.export_weights(
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        )


@pytest.mark.parametrize(
    ("name", "channels"),
    [("preact_resnet20", 3), ("resnet14:shortcut=exclusive_gating", 1)],
)
def test_shapes_are_known_without_building(name, channels):
    model = network.build(name, classes=3, image_shape=(8, 8, channels))
    built = {key: array.shape for key, array in network.export_weights(model).items()}
    assert weight_shapes(parse_network(name), 3, channels) == built


@pytest.mark.parametrize("name", ["imagenet_preact_resnet18", "preact_resnet14"])
def test_a_network_takes_any_size_with_the_weights_of_one(name):
    draw = np.random.default_rng(0)
    fitted = network.build(name, classes=3, image_shape=(32, 32, 3))
    free = network.build(name, classes=3, image_shape=(None, None, 3), seed=9)
    network.import_weights(free, network.export_weights(fitted))
    for shape in ((2, 32, 32, 3), (1, 48, 40, 3)):
        model = network.build(name, classes=3, image_shape=shape[1:])
        network.import_weights(model, network.export_weights(fitted))
        images = draw.normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(free(images), model(images), rtol=1e-5, atol=1e-5)


def test_a_body_moves_to_other_classes():
    first = network.build("preact_resnet14", classes=5, seed=7)
    other = network.build("preact_resnet14", classes=3)
    head = {key: other.get_layer("head").arrays[key].numpy() for key in HEAD}
    weights = network.export_weights(first)
    body = {key: array for key, array in weights.items() if key not in HEAD}
    with pytest.raises(NetworkError, match="2 missing .first: dense/kernel"):
        network.import_weights(other, body)
    network.import_weights(other, body, new_head=True)
    found = network.export_weights(other)
    for key, array in body.items():
        np.testing.assert_array_equal(found[key], array)
    for key, array in head.items():
        np.testing.assert_array_equal(found[key], array)


def test_frozen_stages_stay_and_the_others_learn():
    model = network.build("preact_resnet20", classes=3, image_shape=(8, 8, 3))
    before = network.export_weights(model)
    count = len(model.trainable_variables)
    network.freeze(model, "stage2")
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(images, training=True)))
    kept = model.trainable_variables
    assert 0 < len(kept) < count
    gradients = tape.gradient(loss, kept)
    for variable, gradient in zip(kept, gradients, strict=True):
        variable.assign_sub(0.1 * gradient)
    after = network.export_weights(model)
    changed = {k for k in before if not np.array_equal(before[k], after[k])}
    free = {k for k in before if k.startswith(("stage3/", "final_bn/", "dense/"))}
    # Of the free ones all, statistics too.
    assert changed == free
    # On one device, and for a server, it is the same network.
    copy = network.on_one_device(model)
    np.testing.assert_array_equal(copy(images), model(images))
    assert len(copy.trainable_variables) == len(kept)


def test_a_frozen_part_answers_in_training_as_it_is_served():
    model = network.build("preact_resnet14", classes=3, image_shape=(8, 8, 3))
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    assert not np.allclose(model(images, training=True), model(images))
    network.freeze(model, "stage3")
    x = images
    for layer in model.layers[1:-1]:  # between the images and the head
        np.testing.assert_array_equal(layer(x, training=True), layer(x))
        x = layer(x)


def test_only_stages_are_frozen():
    model = network.build("preact_resnet8", classes=3)
    for name in ("stage4", "head", "stage1_unit1"):
        with pytest.raises(NetworkError, match="stem, stage1, stage2, stage3"):
            network.freeze(model, name)


def test_initial_weights_depend_on_seed_and_name_alone():
    first = network.export_weights(network.build("preact_resnet26", classes=10, seed=7))
    again = network.export_weights(
        network.build("preact_resnet26", classes=10, seed=7, unroll=True)
    )
    other = network.export_weights(network.build("preact_resnet26", classes=10, seed=8))
    deeper = network.export_weights(
        network.build("preact_resnet56", classes=10, seed=7)
    )
    kernel = "stage2/unit3/conv1/kernel"
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)
    assert not np.array_equal(first[kernel], other[kernel])
    assert not np.array_equal(first[kernel], first["stage2/unit2/conv1/kernel"])
    np.testing.assert_array_equal(first[kernel], deeper[kernel])


@pytest.mark.parametrize("initialiser", INITIALISERS)
def test_initialisers_have_their_deviations_and_are_not_truncated(initialiser):
    model = network.build("preact_resnet56", classes=100, initialiser=initialiser)
    layer = model.get_layer("stage3_unit1")
    kernel = layer.arrays["conv1/kernel"].numpy()  # [3, 3, 32, 64]
    fan = 9 * (32 if initialiser == "he_fan_in" else 64)
    assert kernel.std() == pytest.approx(np.sqrt(2 / fan), rel=0.03)
    assert np.abs(kernel).max() > 3 * kernel.std()
    dense = model.get_layer("head").arrays["dense/kernel"].numpy()  # [64, 100]
    if initialiser == "released":
        assert np.abs(dense).max() <= 1 / 8
        assert dense.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.05)
    else:
        assert dense.std() == pytest.approx(np.sqrt(2 / 64), rel=0.05)
    assert not model.get_layer("head").arrays["dense/bias"].numpy().any()


def test_gates_start_at_their_bias():
    spec = NetworkSpec(
        arrangement="original", block="basic", depth=20,
        shortcut="shortcut_only_gating", gate_bias=-5.0,
    )  # fmt: skip
    weights = network.export_weights(network.build(spec, classes=10))
    assert (weights["stage2/unit1/gate/bias"] == -5).all()
    assert weights["stage2/unit1/gate/kernel"].shape == (1, 1, 16, 32)
    assert weights["stage2/unit2/gate/kernel"].shape == (1, 1, 32, 32)


# --- Around it -------------------------------------------------------------------------------


def test_keras_fits_saves_and_exports(tmp_path):
    model = network.build("preact_resnet20", classes=10)
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=64)
    patterns = rng.normal(size=(10, 32, 32, 3))
    images = (patterns[labels] + rng.normal(size=(64, 32, 32, 3))).astype(np.float32)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    assert not model.jit_compile  # XLA takes minutes on a CPU
    history = model.fit(images, labels, batch_size=32, epochs=6, verbose=0).history[
        "loss"
    ]
    assert history[-1] < 0.5 * history[0]

    logits = model(images).numpy()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), logits)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.serve(images), logits, atol=1e-5)
    assert (tmp_path / "saved" / "saved_model.pb").stat().st_size < 2_000_000


def test_bad_arguments_are_refused():
    for arguments, sentence in [
        ({"network": "resnet21"}, "depth=21"),
        ({"classes": 0}, "classes=0 must be"),
        (
            {"initialiser": "glorot"},
            "initialiser='glorot' is none of he_fan_in, released",
        ),
        ({"synchronized": True}, "take unroll=True"),
        ({"image_shape": (8, 8)}, r"image_shape=\(8, 8\) must be"),
        ({"zero_start": "beta"}, "zero_start='beta' is none of none, kernel, gamma"),
        ({"network": "plain20", "zero_start": "kernel"}, "plain20 has no shortcuts"),
        (
            {"network": "preact_resnet20_1layer", "zero_start": "gamma"},
            'have no gamma in every unit; take zero_start="kernel"',
        ),
    ]:
        with pytest.raises(NetworkError, match=sentence):
            network.build(**{"network": "resnet20", "classes": 10, **arguments})


@pytest.mark.parametrize(
    "name", ["resnet8", "preact_resnet8", "preact_resnet11_bottleneck"]
)
def test_three_stages_take_eight_by_eight_grey_pixels(name):
    """Global pooling makes the answer independent of where blocks of a constant image end."""
    model = network.build(name, classes=4, image_shape=(8, 8, 1))
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    logits = np.asarray(model(images))
    assert logits.shape == (5, 4) and np.isfinite(logits).all()
    assert model.get_layer("stage3_unit1").output.shape[1:3] == (2, 2)
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(images), logits)


def test_another_backend_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(NetworkError, match="torch here, .* on tensorflow or jax; set"):
        network.build("resnet8", classes=10)


def test_replicas_agree_on_moving_statistics_and_synchronized_batch_norm():
    """Two replicas need two devices, which only a fresh process can have."""
    program = """
        import numpy as np, tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        from trainer import network
        rng = np.random.default_rng(0)
        images = rng.normal(size=(8, 32, 32, 3)).astype("float32")
        labels = rng.integers(10, size=8)
        one = tf.distribute.get_strategy()
        two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

        def run(strategy, images=images, labels=labels, **options):
            with strategy.scope():
                model = network.build("preact_resnet8:shortcut=dropout:dropout_rate=0",
                                      classes=10, seed=1, **options)
            variables = model.trainable_variables

            @tf.function(jit_compile=False)
            def step(x, y):
                def replica(x, y):
                    with tf.GradientTape() as tape:
                        logits = model(x, training=True)
                        loss = tf.reduce_sum(
                            tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
                    return tape.gradient(loss, variables)
                gradients = strategy.run(replica, args=(x, y))
                return [strategy.reduce("SUM", g, axis=None) for g in gradients]

            def shares(values):
                return strategy.experimental_distribute_values_from_function(
                    lambda c: tf.constant(np.split(values, c.num_replicas_in_sync)[
                        c.replica_id_in_sync_group]))

            gradients = [g.numpy() for g in step(shares(images), shares(labels))]
            for layer in model.layers[1:]:
                for name, variable in layer.arrays.items():
                    copies = strategy.experimental_local_results(variable.value)
                    assert all(np.array_equal(copies[0], other) for other in copies), name
            return gradients, network.export_weights(model)

        def distance(ours, expected):
            return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(
                ours, expected, strict=True))

        whole, moved = run(one)
        synchronized, moved_together = run(two, unroll=True, synchronized=True)
        assert distance(synchronized, whole) < 0.01, distance(synchronized, whole)
        assert distance(moved_together.values(), moved.values()) < 1e-4

        own, averaged = run(two)
        assert distance(own, whole) > 0.1  # another thing, as the authors had it
        halves = [run(one, *half)[1]
                  for half in zip(np.split(images, 2), np.split(labels, 2))]
        for name in averaged:
            mean = (halves[0][name] + halves[1][name]) / 2
            assert np.abs(mean - averaged[name]).max() < 1e-5, name
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
