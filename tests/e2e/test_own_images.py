"""A person's own photographs, from a folder to a client's answer.

As files: after ingestion, pixels go the way of CIFAR's, which test_pipeline.py goes.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.client import Classifier
from tests.components.example_gen import own
from tests.e2e import test_pipeline
from tests.e2e.test_shapes import served
from tests.serving import pictures

pytestmark = [pytest.mark.e2e, pytest.mark.tf]

COLOURS = {
    "blue sky": (40, 90, 220),
    "Gras & Grün": (40, 180, 60),
    'rust "10"': (170, 70, 30),
}
KINDS = {
    "jpg": ("JPEG", {"quality": 90}),
    "JPEG": ("JPEG", {"exif": pictures.exif(6)}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "bmp": ("BMP", {}),
}


def photograph(colour, seed) -> np.ndarray:
    """Something with shapes in it, of that colour on the whole."""
    draw = np.random.default_rng(seed)
    height, width = draw.integers(20, 90, 2)
    image = pictures.photograph(int(height), int(width), seed).astype(float)
    return (image * 0.3 + np.array(colour) * 0.7).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    files = {"readme.txt": b"mine", 'rust "10"/broken.jpg': b"no picture"}
    for place, (label, colour) in enumerate(COLOURS.items()):
        for number in range(60):
            ending, (kind, options) = [*KINDS.items()][number % len(KINDS)]
            image = photograph(colour, 100 * place + number)
            files[f"{label}/{number}.{ending}"] = pictures.encoded(
                image, kind, **options
            )
    return Path(own.write(tmp_path_factory.mktemp("own") / "walks", files))


def test_own_photographs_are_learnt_published_and_classified(folder, tmp_path):
    output = tmp_path / "output"
    done = test_pipeline.run(
        output,
        data__name="folder",
        data__path=str(folder),
        data__image_size="16",
        data__encoded="true",
        train__global_batch_size="16",
        train__steps="60",
        train__learning_rate="0.05",
    )
    assert done.returncode == 0, done.output
    report = json.loads((output / "report/report.json").read_text())
    data = report["data"]
    assert data["name"] == "folder" and not data["verified"]
    assert "181 files" in data["verification"] and str(folder) in data["source"]
    assert sum(data["counts"].values()) == 180
    broken, passed = data["warnings"]
    assert "broken.jpg" in broken and "readme.txt" in passed
    assert "broken.jpg" in done.output
    page = (output / "report/report.html").read_text()
    assert "walks, cut to 16 x 16 pixels" in page and "Gras &amp; Grün" in page

    # Colours are easy: what is published knows them, in files that it has not seen.
    assert report["decision"]["winner"] and report["pushed"]
    new = {
        label: pictures.encoded(photograph(colour, 7_000), "WEBP")
        for label, colour in COLOURS.items()
    }
    with (
        served(output / "serving/cifar") as address,
        Classifier(address) as classifier,
    ):
        answers = classifier.classify([*new.values()])
    assert [answer.class_name for answer in answers] == [*new]
    names = sorted(path.name for path in (output / "report/images").iterdir())
    assert names == ["blue sky.png", "class 0.png", "class 2.png"]
    with Image.open(output / "report/images/blue sky.png") as picture:
        assert picture.size == (16, 16)
