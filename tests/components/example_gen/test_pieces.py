import numpy as np
import pytest

from components.example_gen import digits, download, pieces
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import official


def read_all(plan):
    found = {}
    done = 0
    for piece in plan.pieces:
        for split, images in pieces.read(piece, (32, 32, 3)):
            found.setdefault(split, []).append(images)
            done += len(images.labels)
    assert done == plan.count
    return found


def test_digits_are_scaled_exactly():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    plan = pieces.plan(DataConfig(name="digits"))
    assert plan.verified and plan.count == 1797
    found = read_all(plan)
    images = {"train": [], "test": []}
    for index, image in enumerate(bunch.images):
        images["test" if index % 5 == 0 else "train"].append((index, image))
    assert len(images["test"]) == 360
    for split, expected in images.items():
        (records,) = found[split]
        pixels = records.pixels.reshape(-1, 32, 32, 3)
        assert pixels.dtype == np.uint8 and len(pixels) == len(expected)
        for (index, image), large, label in zip(
            expected, pixels, records.labels, strict=True
        ):
            assert label == bunch.target[index]
            for row, column, channel in (
                (0, 0, 0),
                (17, 9, 1),
                (31, 31, 2),
                (20, 14, 0),
            ):
                value = int(image[row // 4, column // 4]) * 255 // 16
                assert large[row, column, channel] == value


def test_other_digits_are_refused(monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match="requirements.txt"):
        pieces.plan(DataConfig(name="digits"))


@pytest.mark.parametrize("place", ["folder", "tar"])
def test_official_files_become_pieces(tmp_path, place):
    contents = official.files("cifar10", "binary")
    write = official.write_folder if place == "folder" else official.write_tar
    path = write(tmp_path / "x", contents)
    plan = pieces.plan(
        DataConfig(name="cifar10", path=str(path), allow_unverified=True)
    )
    assert len(plan.pieces) == (6 if place == "folder" else 1)
    assert not plan.verified and str(path) in plan.source
    found = read_all(plan)
    for split, stems in (("train", range(1, 6)), ("test", None)):
        stems = ["test_batch"] if stems is None else [f"data_batch_{i}" for i in stems]
        made = official.dataset("cifar10")
        expected = sum((made[stem][1] for stem in stems), [])
        labels = np.concatenate([r.labels for r in found[split]]).tolist()
        assert sorted(labels) == sorted(expected)


def test_no_network_is_one_line_with_remedies(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "trouble", lambda *_: "no route")
    data = DataConfig(name="cifar10", tfds_dir=str(tmp_path))
    with pytest.raises(DataError) as caught:
        pieces.plan(data)
    message = str(caught.value)
    for part in ("no route", "TFDS_DATA_DIR", "data.path", "data.name=digits"):
        assert part in message


def test_unresolved_name_is_refused():
    with pytest.raises(DataError, match="data.name=auto"):
        pieces.plan(DataConfig())
