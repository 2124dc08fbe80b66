"""Training under XLA, as TPUStrategy has it compiled; here for the CPU.

The reference is the same step without XLA, which other tests hold against the papers.
"""

import importlib
from typing import Any

import numpy as np
import pytest


class OnUse:
    """As in test_network.py: collecting tests loads no TensorFlow."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self.name), attribute)


tf: Any = OnUse("tensorflow")
xla: Any = OnUse("benchmarks.xla")

pytestmark = pytest.mark.tf

# Relative, of a loss in three steps; seen: 3e-7 and 9e-3, and bfloat16 itself is as coarse as
# 4e-3. XLA adds in another order, and need not round where TensorFlow does.
# Of 164 layers float32 tells nothing in three steps: images times 1 + 1e-6 change the third
# loss by 7 % without XLA. In float64, but for the loss itself, seen: 2e-5.
WITHIN = {"float32": 1e-4, "mixed_bfloat16": 3e-2, "float64": 1e-4}


@pytest.fixture(scope="module", autouse=True)
def quick_compiler():
    """What is compiled here runs three times: no time for making it fast.

    In a process that has used XLA before it is too late, and takes longer.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
        yield


@pytest.mark.parametrize(
    ("network", "precision", "rematerialise"),
    [
        ("preact_resnet20", "float32", False),
        ("preact_resnet20", "mixed_bfloat16", True),
        ("preact_resnet164", "float64", False),
    ],
)
def test_a_replicas_step_compiles_and_trains_as_without(
    network, precision, rematerialise
):
    row = xla.measure(xla.Case(network, precision, rematerialise, side=8))
    np.testing.assert_allclose(row.compiled_losses, row.losses, rtol=WITHIN[precision])
    assert len({round(loss, 6) for loss in row.losses}) == 3


def assert_as_long(precision, rematerialise):
    lengths = [
        xla.instructions(
            xla.Case(f"preact_resnet{depth}_bottleneck", precision, rematerialise, 8)
        )
        for depth in (56, 164)
    ]
    assert lengths[0] == lengths[1] > 1000


def test_the_program_does_not_grow_with_depth():
    """164 layers have the program of 56: stages are loops under XLA, too."""
    assert_as_long("mixed_bfloat16", True)


@pytest.mark.bench
@pytest.mark.parametrize(
    ("precision", "rematerialise"),
    [("float32", False), ("float32", True), ("mixed_bfloat16", False)],
)
def test_no_other_program_grows_with_depth(precision, rematerialise):
    assert_as_long(precision, rematerialise)


def test_the_look_at_the_eval_split_compiles_and_counts_what_is_there():
    from trainer import fit

    case = xla.Case("preact_resnet20", side=8, batch=6)
    sums = fit._replica_sums(xla.model_of(case))
    images, labels = xla.images_of(case, 1)
    compiled = tf.function(sums, jit_compile=True, autograph=False)
    whole = compiled(images, labels, tf.ones(6)).numpy()
    np.testing.assert_allclose(whole, sums(images, labels, tf.ones(6)), rtol=1e-4)
    # The last batch is filled up: one shape, one program.
    part = compiled(images, labels, tf.constant([1.0, 1, 1, 1, 0, 0])).numpy()
    np.testing.assert_allclose(
        part, sums(images[:4], labels[:4], tf.ones(4)), rtol=1e-4
    )
    assert part[0] < whole[0]


@pytest.mark.bench
@pytest.mark.parametrize("rematerialise", [False, True])
@pytest.mark.parametrize(
    ("network", "precision"),
    [
        ("preact_resnet20", "float32"),
        ("preact_resnet20", "mixed_bfloat16"),
        ("preact_resnet164", "float64"),
    ],
)
def test_all_forms_train_as_without(network, precision, rematerialise):
    row = xla.measure(xla.Case(network, precision, rematerialise))
    np.testing.assert_allclose(row.compiled_losses, row.losses, rtol=WITHIN[precision])
