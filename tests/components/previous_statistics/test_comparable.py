"""Images that were reduced to another size are not compared with the larger ones."""

import dataclasses
from pathlib import Path

import pytest

from contract.datasets import Dataset, known
from contract.records import DATASET_FILE

pytestmark = pytest.mark.tf

# Ingested in this order; "old": by a version that wrote no dataset.json.
RUNS = {"old": None, "small": 16, "large": 32, "small again": 16}


def examples(root: Path, run: str, shape: int | None):
    from tfx.types.standard_artifacts import Examples

    made = Examples()
    made.uri = str(root / run)
    made.set_string_custom_property("name", "cifar10")
    Path(made.uri).mkdir()
    if shape:
        dataset = known("cifar10", image_size=shape)
        Path(made.uri, DATASET_FILE).write_text(dataset.to_json())
    return made


@pytest.mark.parametrize(
    ("size", "found"), [(16, "small again"), (32, "large"), (None, "large"), (8, None)]
)
def test_the_newest_of_the_same_shape_is_taken(size, found, tmp_path):
    from tfx.types.standard_artifacts import ExampleStatistics, Schema

    from components.example_validator import accepted_records
    from components.previous_statistics.executor import Executor
    from components.previous_statistics.strategy import PreviousStatistics

    accepted = []
    for number, (run, shape) in enumerate(RUNS.items(), start=1):
        made = ExampleStatistics()
        made.uri, made.id = str(tmp_path / f"{run} accepted"), number
        Path(made.uri).mkdir()
        values = {
            "name": "cifar10",
            "examples_uri": examples(tmp_path, run, shape).uri,
            "invariants_uri": "/invariants",
        }
        for key, value in values.items():
            made.set_string_custom_property(key, value)
        accepted.append(made)
        record = accepted_records.Record(uri=made.uri, split_names=["eval"], **values)
        accepted_records.write(str(tmp_path / "records"), record)
    now, invariants = examples(tmp_path, "now", size), Schema()
    invariants.uri = "/invariants"
    inputs = {"examples": [now], "invariants": [invariants]}

    strategy = PreviousStatistics()
    resolved = strategy.resolve_artifacts(
        None, inputs | {"previous_statistics": accepted}
    )
    uris = [artifact.uri for artifact in resolved["previous_statistics"]]
    assert uris == ([str(tmp_path / f"{found} accepted")] if found else [])

    told = ExampleStatistics()
    told.uri = str(tmp_path / "told")
    Executor().Do(
        inputs,
        {"previous_statistics": [told]},
        {"records": str(tmp_path / "records")},
    )
    assert told.get_int_custom_property("empty") == (0 if found else 1)
    assert told.uri == (uris[0] if found else str(tmp_path / "told"))


def test_another_folder_of_images_is_no_drift(tmp_path):
    """Nor are examples that were deleted, of a set that no table knows."""
    one = Dataset(
        name="folder", title="a", image_shape=(8, 8, 3), labels={"label": ("a", "b")}
    )
    for name, labels in {"a": ("a", "b"), "same": ("a", "b"), "c": ("a", "c")}.items():
        (tmp_path / name).mkdir()
        written = dataclasses.replace(one, title=name, labels={"label": labels})
        (tmp_path / name / DATASET_FILE).write_text(written.to_json())
    from components.previous_statistics import comparable

    found = {
        name: comparable.of_one_form(
            "folder", str(tmp_path / "a"), str(tmp_path / name)
        )
        for name in ("same", "c", "deleted")
    }
    assert found == {"same": True, "c": False, "deleted": False}
