"""The networks on JAX: the same weights give the same logits as on TensorFlow.

Keras chooses its backend once per process, so JAX gets a process of its own, in which
TensorFlow must not be loaded: the networks are for machines that have JAX alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tf

CLASSES = 10
NETWORKS = [
    "preact_resnet29_bottleneck",
    "resnet29_bottleneck",
    "preact_resnet38",  # rematerialised, a loop of two units and one more
    "resnet20:shortcut=exclusive_gating",
    "plain20",
]
OTHER = """
import sys
import jax
import numpy as np
from trainer import network
jax.config.update("jax_default_matmul_precision", "highest")
images = np.load(sys.argv[1])["images"]
found = {}
for name in sys.argv[3:]:
    model = network.build(name, classes=10)
    weights = np.load(sys.argv[1])
    prefix = name + "|"
    own = {k[len(prefix):]: weights[k] for k in weights.files if k.startswith(prefix)}
    network.import_weights(model, own)
    found[name + "|inference"] = np.asarray(model(images, training=False))
    found[name + "|training"] = np.asarray(model(images, training=True))
    for key, value in network.export_weights(model).items():
        if key.endswith(("/mean", "/var")):
            found[name + "|" + key] = value
    remat = network.build(name, classes=10, rematerialise=True)
    network.import_weights(remat, own)
    found[name + "|remat"] = np.asarray(remat(images, training=True))
assert "tensorflow" not in sys.modules
np.savez(sys.argv[2], **found)
from contract.config.train import TrainConfig
from trainer import fit
try:
    fit._optimizer(model, TrainConfig())
except fit.WrongBackend as error:
    print(error)
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """What TensorFlow and what JAX make of the same weights and images, and JAX's words.

    JAX is chosen as a person does, by keras.json, which also has Keras's axes in another
    order.
    """
    from trainer import network

    folder = tmp_path_factory.mktemp("jax")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 32, 32, 3)).astype(np.float32)
    given, expected = {"images": images}, {}
    for name in NETWORKS:
        model = network.build(name, classes=CLASSES)
        weights = {
            key: value + rng.normal(scale=0.05, size=value.shape).astype(np.float32)
            if key.endswith(("/gamma", "/beta", "/bias"))
            else value
            for key, value in network.export_weights(model).items()
        }
        network.import_weights(model, weights)
        for _ in range(3):  # moving statistics that are not 0 and 1
            model(images, training=True)
        weights = network.export_weights(model)
        given |= {f"{name}|{key}": value for key, value in weights.items()}
        expected[f"{name}|inference"] = np.asarray(model(images, training=False))
        expected[f"{name}|training"] = np.asarray(model(images, training=True))
        expected[f"{name}|remat"] = expected[f"{name}|training"]
        for key, value in network.export_weights(model).items():
            if key.endswith(("/mean", "/var")):
                expected[f"{name}|{key}"] = value
    np.savez(folder / "given.npz", **given)
    settings = {"backend": "jax", "image_data_format": "channels_first"}
    (folder / "keras.json").write_text(json.dumps(settings))
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            OTHER,
            folder / "given.npz",
            folder / "found.npz",
            *NETWORKS,
        ],
        cwd=Path(__file__).parents[2],
        env=environment | {"KERAS_HOME": str(folder), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return expected, dict(np.load(folder / "found.npz")), done.stdout


@pytest.mark.parametrize("network", NETWORKS)
def test_jax_and_tensorflow_agree(both, network):
    expected, found, _ = both
    assert expected.keys() == found.keys()
    keys = [key for key in expected if key.startswith(network + "|")]
    assert len(keys) > 20
    for key in keys:
        scale = max(np.abs(expected[key]).max(), 1)
        np.testing.assert_allclose(
            found[key], expected[key], atol=1e-4 * scale, err_msg=key
        )


def test_training_on_jax_is_refused_in_a_sentence(both):
    assert both[2] == (
        "Keras runs on jax here, and the training on tensorflow; set the environment "
        "variable KERAS_BACKEND=tensorflow\n"
    )
