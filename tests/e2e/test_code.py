"""What a node loads, it is run again for: the closure of its code against real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from contract import provenance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

PROJECT = Path(__file__).parents[2]
# TFX's own executor, which is given the name of a function of ours.
STARTS = {"BaselineTrainer": "trainer/run.py"}


def files(module: str) -> list[Path]:
    """The module's file, if it is one of the project's rooms."""
    path = PROJECT.joinpath(*module.split("."))
    if path.relative_to(PROJECT).parts[0] in ("scripts", "tests"):
        return []
    named = (path.with_suffix(".py"), path / "__init__.py")
    return [file for file in named if file.is_file()]


def test_all_that_a_node_loads_counts_for_it(tmp_path):
    images = tmp_path / "photos"
    images.mkdir()
    for shade in (0, 255):
        Image.new("L", (40, 30), shade).save(images / f"{shade}.png")
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.own_processes", tmp_path,
         "preset=smoke", "data.name=digits", f"batch_predict.images={images}"],
        cwd=PROJECT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    executors = json.loads((tmp_path / "executors.json").read_text())
    own = {node for node, path in executors.items() if not path.startswith("tfx.")}
    assert own | STARTS.keys() == {
        "CifarExampleGen", "DatasetSchema", "ExampleValidator", "Transform",
        "BaselineTrainer", "BaselineAnswers", "Evaluator", "ModelChooser",
        "ServingCanary", "AtomicPusher", "BatchPredict",
    }  # fmt: skip
    for node in own | STARTS.keys():
        module = executors[node].rpartition(".")[0]
        start = STARTS.get(node) or module.replace(".", "/") + ".py"
        counted = {str(path) for path in provenance.closure(start)}
        processes = [*(tmp_path / "loaded" / node).iterdir()]
        assert len(processes) >= (2 if node == "ServingCanary" else 1), node
        loaded = {
            str(file)
            for process in processes
            for name in process.read_text().splitlines()
            for file in files(name)
        }
        assert not loaded - counted, node
        assert start in {str(Path(file).relative_to(PROJECT)) for file in loaded}
    (answers,) = (tmp_path / "output/predictions").iterdir()
    (version,) = (
        int(folder.name)
        for folder in (tmp_path / "output/serving/cifar").iterdir()
        if folder.name.isdigit()
    )
    assert answers.name == f"photos-v{version}.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["image"] for row in rows] == ["0.png", "255.png"]
    assert all(0.1 <= row["probability"] <= 1 for row in rows)
