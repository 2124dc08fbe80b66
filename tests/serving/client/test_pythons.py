"""The client's wheel alone, on each Python that it is for, with what the registry has.

`make test-client` runs these. uv finds the interpreters on this machine, or fetches them
where it may; one that cannot be had is a failure, with uv's own words.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.serving.client.official import CLASSES, expected_label, random_images

SOURCE = Path(__file__).parents[3] / "serving" / "client"
LOWEST = "3.10 with the lowest versions"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", LOWEST)

pytestmark = [pytest.mark.registry, pytest.mark.tf]

# Both transports, arrays and files, blocking and asynchronous; prints JSON.
ASK = """
import asyncio, json, sys
import numpy as np
from serving.client import AsyncClassifier, Classifier, Unavailable, Retry

for name in ("tensorflow", "serving.server"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is there: this is not the client alone")
address, paths = sys.argv[1], sys.argv[2:]
images = np.load("images.npy")
with Classifier(address) as classifier:
    answers = {
        "arrays": [each.class_name for each in classifier.classify(images)],
        "files": [each.class_name for each in classifier.classify(paths)],
    }

async def ask():
    async with AsyncClassifier(address) as classifier:
        return [each.class_name for each in await classifier.classify(images)]

answers["asynchronous"] = asyncio.run(ask())
try:
    Classifier("http://127.0.0.1:9", retry=Retry(attempts=1)).classify(images)
except Unavailable as error:
    answers["refused"] = str(error)
print(json.dumps(answers))
"""


def run(*command: object, **options) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uv(*arguments: object) -> str:
    return run(sys.executable, "-m", "uv", "--quiet", *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as a release is: in an environment of its own, from the registry."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", folder, SOURCE)
    (built,) = folder.glob("*.whl")
    return built


def test_the_lowest_of_these_is_the_one_that_the_wheel_asks_for():
    assert project()["requires-python"] == f">={PYTHONS[0]}"


def project() -> dict:
    return tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_installs_alone_and_classifies(version, wheel, backend, tmp_path):
    from PIL import Image

    number, _, lowest = version.partition(" ")
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    uv("venv", "--no-project", "--python", number, environment)
    wanted = [f"{wheel}[resize,progress]"]
    if lowest:  # of what is named directly
        extras = project()["optional-dependencies"]
        wanted += [*project()["dependencies"], *extras["resize"], *extras["progress"]]
        wanted.append("--resolution=lowest-direct")
    uv("pip", "install", "--python", python, *wanted)
    images = random_images(5)
    paths = [f"{index}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(tmp_path / path)
    np.save(tmp_path / "images.npy", images)
    found = json.loads(
        run(
            python,
            "-I",
            "-W",
            "error",
            "-c",
            ASK,
            backend.address,
            *paths,
            cwd=tmp_path,
        )
    )
    expected = [CLASSES[expected_label(image)] for image in images]
    assert found["arrays"] == found["files"] == found["asynchronous"] == expected
    assert "Connection refused" in found["refused"]
    text = run(
        environment / "bin" / "serving-client", "predict", ".",
        "--server", backend.address, cwd=tmp_path,
    )  # fmt: skip
    for path, label in zip(paths, expected, strict=True):
        assert f"{path}  {label}" in text
