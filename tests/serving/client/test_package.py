"""The client alone: quick to import, without TensorFlow, installable by itself."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import serving.client

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "serving" / "client"
HEAVY = (
    "tensorflow",
    "keras",
    "tfx",
    "google.protobuf",
    "grpc",
    "numpy",
    "PIL",
    "rich",
)


def python(code: str, *flags: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True, text=True, timeout=120, **{"cwd": ROOT} | options,
    )  # fmt: skip


def test_import_takes_less_than_three_tenths_of_a_second():
    """Of a fresh interpreter's own count; the best of a few, for a loaded machine."""
    code = "from serving.client import AsyncClassifier, Classifier"
    taken = []
    for _ in range(4):
        done = python(code, "-X", "importtime")
        assert done.returncode == 0, done.stderr
        # What the statement itself imports; what that imports is indented, and in it.
        found = re.findall(r"\|\s*(\d+) \| serving[.\w]*$", done.stderr, re.M)
        assert len(found) >= 2, done.stderr
        taken.append(sum(map(int, found)) / 1e6)
    assert min(taken) < 0.3


def test_import_loads_nothing_heavy():
    code = (
        "import sys; from serving.client import AsyncClassifier, Classifier\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code).stdout == "[]\n"


def test_making_a_client_loads_what_its_transport_needs_and_no_tensorflow():
    code = (
        "import sys; from serving.client import Classifier\n"
        "Classifier('localhost:1')\n"
        "print([n for n in ('tensorflow', 'tensorflow_serving', 'PIL', 'rich')"
        " if n in sys.modules])"
    )
    assert python(code).stdout == "[]\n"


def test_all_names_exist_and_are_sorted_as_the_linter_wants():
    names = serving.client.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(serving.client, name) for name in names)
    errors = {
        name
        for name, value in vars(serving.client.errors).items()
        if isinstance(value, type) and issubclass(value, serving.client.ServingError)
    }
    assert errors <= set(names)


def test_versions_agree():
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    assert project["version"] == serving.client.__version__
    names = {re.split(r"[^a-z]", line)[0] for line in project["dependencies"]}
    assert names == {"grpcio", "protobuf", "numpy"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copied = folder / "client"
    shutil.copytree(SOURCE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
         "--no-index", "--quiet", "--wheel-dir", folder, copied],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_client_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    ours = {name for name in names if ".dist-info/" not in name}
    expected = {f"serving/client/{path.name}" for path in SOURCE.glob("*.py")}
    assert ours == expected | {"serving/client/py.typed"}
    assert "serving/__init__.py" not in names


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory) -> dict[str, str]:
    """An environment with the wheel, grpcio, protobuf, numpy and nothing else."""
    site = tmp_path_factory.mktemp("alone")
    zipfile.ZipFile(wheel).extractall(site)
    for name in ("grpc", "numpy", "numpy.libs", "google.protobuf", "google._upb",
                 "typing_extensions"):  # fmt: skip
        target = site / name.replace(".", "/") if "libs" not in name else site / name
        target.parent.mkdir(exist_ok=True)
        if "libs" in name:
            found = Path(importlib.util.find_spec("numpy").origin).parents[1] / name
            if not found.exists():
                continue
        else:
            spec = importlib.util.find_spec(name)
            found = Path(spec.origin or next(iter(spec.submodule_search_locations)))
            if found.name == "__init__.py":
                found = found.parent
            elif found.is_file():
                target = target.with_name(found.name)
        target.symlink_to(found)
    return {"PYTHONPATH": str(site), "PATH": os.environ["PATH"]}


def test_alone_it_imports_and_names_what_is_missing(alone, tmp_path):
    code = (
        "import sys, serving, serving.client as client\n"
        "assert getattr(serving, '__file__', None) is None, 'a namespace'\n"
        "for name in ('tensorflow', 'PIL', 'rich', 'trainer', 'serving.server'):\n"
        "    try: __import__(name)\n"
        "    except ImportError: continue\n"
        "    raise SystemExit(name)\n"
        "import numpy as np\n"
        "once = client.Retry(attempts=1)\n"
        "for address in ('127.0.0.1:9', 'http://127.0.0.1:9'):\n"
        "    try: client.Classifier(address, retry=once).classify(\n"
        "        np.zeros((32, 32, 3), np.uint8))\n"
        "    except client.Unavailable as error: print(error)\n"
        "from serving.client import images\n"
        "small = np.zeros((8, 8, 3), np.uint8)\n"
        "try: images.load(small, (32, 32, 3), resize=True)\n"
        "except client.InvalidInput as error: print(error)\n"
    )
    done = python(code, "-S", "-P", env=alone, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:9 (Connection refused)" in done.stdout
    assert "pip install pillow" in done.stdout


@pytest.mark.tf
def test_alone_it_classifies(alone, backend, tmp_path):
    from PIL import Image

    from tests.serving.client.official import CLASSES, expected_label, random_images

    images = random_images(5)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-m", "serving.client", "predict", ".",
         "--server", backend.address],
        env=alone, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for index, image in enumerate(images):
        assert f"{index}.png  {CLASSES[expected_label(image)]}" in done.stdout


@pytest.mark.tf
def test_tensorflow_loads_after_the_client_in_one_process(backend):
    """No name is registered twice, and both go on working."""
    ours = (
        "from serving.client import Classifier\n"
        f"classifier = Classifier({backend.address!r})\n"
        "import numpy as np\n"
        "print(classifier.classify(np.zeros((32, 32, 3), np.uint8))[0].label)\n"
    )
    theirs = (
        "import tensorflow as tf\n"
        "from tensorflow_serving.apis import predict_pb2, get_model_metadata_pb2\n"
        "request = predict_pb2.PredictRequest()\n"
        "request.inputs['x'].CopyFrom(tf.make_tensor_proto([1.0]))\n"
    )
    done = python(ours + theirs + ours)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0"]


@pytest.mark.tf
def test_the_client_loads_after_tensorflow_in_one_process(backend):
    """In this process, where the server of official stubs has loaded TensorFlow."""
    assert {"tensorflow", "tensorflow_serving.apis.predict_pb2"} <= set(sys.modules)
    spec = importlib.util.spec_from_file_location("again", SOURCE / "messages.py")
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    official = sys.modules["tensorflow_serving.apis.predict_pb2"].PredictRequest
    sent = again.PredictRequest(output_filter=["a"])
    assert official.FromString(sent.SerializeToString()).output_filter == ["a"]
