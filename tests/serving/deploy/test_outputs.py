"""What is read from a run's outputs, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.deploy.outputs import DeployError, read_outputs


def publish(root: Path, model: str, *versions: int | str, batching: str = "") -> None:
    for version in versions:
        folder = root / model / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_bytes(b"x")
        if batching:
            (folder / "batching_params.pbtxt").write_text(batching)


def test_versions_are_those_that_tensorflow_serving_sees(tmp_path: Path):
    publish(tmp_path, "cifar", 10, 9, 100, 2**63, "007", ".publishing-1-ab", "+3")
    half = tmp_path / "cifar" / "200"
    half.mkdir()  # no saved_model.pb in it
    (tmp_path / "cifar" / "300").write_text("a file")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (model,) = read_outputs(tmp_path)
    assert model.versions == (7, 9, 10, 100)
    assert model.folder == tmp_path / "cifar"
    assert model.batching is None


def test_the_model_published_last_comes_first(tmp_path: Path):
    publish(tmp_path, "a", 5)
    publish(tmp_path, "b", 7, 8, batching="max_batch_size { value: 4 }\n")
    publish(tmp_path, "c", 5)
    assert [model.name for model in read_outputs(tmp_path)] == ["b", "a", "c"]
    assert read_outputs(tmp_path)[0].batching == "max_batch_size { value: 4 }\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Path.rmdir, "no such folder.*make run"),
        (lambda root: (root / "cifar").mkdir(), "no version"),
        (lambda root: publish(root, "a b", 1), "letters, digits"),
        (lambda root: publish(root, 'x"; evil', 1), "letters, digits"),
        (lambda root: publish(root, "x" * 64, 1), "at most 63"),
    ],
)
def test_what_cannot_be_deployed_is_refused(tmp_path: Path, change, words):
    change(tmp_path)
    with pytest.raises(DeployError, match=words):
        read_outputs(tmp_path)


@pytest.mark.parametrize("batching", ["\x1b[2J", "a\x00b", "x" * 200_000])
def test_batching_parameters_that_are_no_text_are_refused(tmp_path, batching):
    publish(tmp_path, "cifar", 1, batching=batching)
    with pytest.raises(
        DeployError, match="must be at most 100,000 characters of plain"
    ):
        read_outputs(tmp_path)


def test_a_pipe_in_place_of_batching_parameters_is_not_waited_for(tmp_path):
    publish(tmp_path, "cifar", 1)
    os.mkfifo(tmp_path / "cifar/1/batching_params.pbtxt")
    assert read_outputs(tmp_path)[0].batching is None
