"""Where a training may start from: what is found, what fits, what is refused, and how."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from contract.model_run import ModelRun
from trainer import initial_weights
from trainer.initial_weights import WeightsError
from trainer.program import weight_shapes
from trainer.units import parse_network

FIELD = "candidate.initial_weights"
NETWORK = "preact_resnet14"
CLASSES = ("cat", "dog")


def version(folder: Path, network: str = NETWORK, **fields) -> Path:
    """What `find` and `check` look at of a published version."""
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").touch()
    (folder / "variables/variables.index").write_bytes(b"index")
    (folder / "variables/variables.data-00000-of-00001").write_bytes(b"numbers")
    run = {"network": network, "class_names": CLASSES, "image_shape": (16, 16, 3)}
    record = ModelRun(**run | fields).to_json()
    (folder / "assets.extra/run.json").write_text(record)
    return folder


def arrays(network: str = NETWORK, classes: int = 2, channels: int = 3) -> dict:
    shapes = weight_shapes(parse_network(network), classes, channels)
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


def file(path: Path, weights: dict) -> str:
    np.savez(path, **weights)
    return str(path)


def fits(path, network: str = NETWORK, channels: int = 3) -> None:
    source = initial_weights.find(str(path), FIELD)
    initial_weights.check(source, parse_network(network), channels)


def refusal(path, network: str = NETWORK, channels: int = 3) -> str:
    with pytest.raises(WeightsError) as caught:
        fits(path, network, channels)
    message = str(caught.value)
    assert message.startswith(f"{FIELD}={path}") and "\n" not in message
    return message


def test_a_version_fits_its_network_whatever_the_classes(tmp_path):
    fits(version(tmp_path / "1", class_names=("a", "b", "c")))
    fits(file(tmp_path / "w.npz", arrays(classes=7)))
    body = {k: v for k, v in arrays().items() if not k.startswith("dense/")}
    fits(file(tmp_path / "body.npz", body))


def test_of_a_folder_of_versions_the_newest_is_meant(tmp_path):
    for name in ("9", "10"):
        version(tmp_path / name)
    (tmp_path / "11").mkdir()  # being written
    (tmp_path / "notes").mkdir()
    found = initial_weights.find(str(tmp_path), FIELD)
    assert found.path == str(tmp_path / "10")


def test_other_weights_are_refused_with_what_would_fit(tmp_path):
    at = version(tmp_path / "1")
    message = refusal(at, "resnet14")
    assert "preact_resnet14" in message and "resnet14 has others" in message
    assert "choose preact_resnet14, or other weights" in message
    assert "unit3" in refusal(at, "preact_resnet20")
    assert "choose data.channels=3" in refusal(at, channels=1)
    other = file(tmp_path / "w.npz", arrays("preact_resnet8"))
    assert "stage1/unit2/bn1/gamma is missing" in refusal(other)
    grey = file(tmp_path / "grey.npz", arrays(channels=1))
    assert "stem/kernel is [3, 3, 1, 16] and not [3, 3, 3, 16]" in refusal(grey)
    more = file(tmp_path / "more.npz", {**arrays(), "x": np.ones(1)})
    assert "x is unknown" in refusal(more)


def test_what_holds_no_weights_is_refused(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "none")
    assert "no versions" in refusal(tmp_path)
    (tmp_path / "model.h5").touch()
    assert ".npz" in refusal(tmp_path / "model.h5")
    for name, content in (("empty", b""), ("text", b"hello"), ("cut", b"PK\x03\x04")):
        (tmp_path / f"{name}.npz").write_bytes(content)
        assert "NumPy's arrays" in refusal(tmp_path / f"{name}.npz")
    one = io.BytesIO()
    np.save(one, np.ones(3))
    (tmp_path / "one.npz").write_bytes(one.getvalue())
    assert "NumPy's arrays" in refusal(tmp_path / "one.npz")
    pickled = {"a": np.array([{}], dtype=object)}
    assert "pickle" in refusal(file(tmp_path / "pickled.npz", pickled))
    at = version(tmp_path / "1", network=None)
    assert "says no network" in refusal(at)
    (at / "assets.extra/run.json").write_text("{")
    assert "damaged" in refusal(at)
    (at / "assets.extra/run.json").unlink()
    assert "has no assets.extra/run.json" in refusal(at)


def test_the_digest_is_of_the_contents(tmp_path):
    def digest(path) -> str:
        return initial_weights.digest(initial_weights.find(str(path), FIELD))

    at = version(tmp_path / "1")
    before = digest(at)
    copy = shutil.copytree(at, tmp_path / "elsewhere/5")
    assert digest(copy) == before
    (copy / "variables/variables.data-00000-of-00001").write_bytes(b"numbres")
    assert digest(copy) != before
    record = json.loads((at / "assets.extra/run.json").read_text())
    record["class_names"] = ["dog", "cat"]
    (at / "assets.extra/run.json").write_text(json.dumps(record))
    assert digest(at) != before
    weights = arrays()
    one = digest(file(tmp_path / "a.npz", weights))
    weights["stem/kernel"][0, 0, 0, 0] = 2
    assert digest(file(tmp_path / "a.npz", weights)) != one


def test_a_files_head_is_taken_where_its_classes_are_as_many(tmp_path):
    source = initial_weights.find(file(tmp_path / "w.npz", arrays()), FIELD)
    assert "dense/bias" in initial_weights.read(source, ("x", "y"))
    body = initial_weights.read(source, ("x", "y", "z"))
    assert arrays().keys() - body.keys() == {"dense/kernel", "dense/bias"}


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    weights = arrays()
    weights["stage2/unit1/bn1/var"][3] = np.nan
    source = initial_weights.find(file(tmp_path / "w.npz", weights), FIELD)
    with pytest.raises(WeightsError, match="stage2/unit1/bn1/var is not finite"):
        initial_weights.read(source, CLASSES)
