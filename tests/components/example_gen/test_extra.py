"""Labelled images of live requests join the train split, and nothing else does."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from components.example_gen import sources
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from contract.datasets import DATASETS, Dataset
from tests.components.example_gen import official
from tests.components.example_gen.test_executor import (
    as_rows,
    contents_of,
    ingest,
    read_back,
)

pytestmark = pytest.mark.tf

DIGITS = tuple("0123456789")


def write(folder, pixels, labels, *, names=DIGITS, shape=None, count=None):
    """A folder as the documents describe it; TensorFlow's own writer alone."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "labelled.tfrecord")) as writer:
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            feature = {
                "image": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[image.tobytes()])
                ),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "example_id": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[b"sent-%d" % number])
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    described = Dataset(
        name="labelled",
        title="Labelled requests",
        image_shape=shape or pixels.shape[1:],
        labels={"label": names},
        counts={"train": len(pixels) if count is None else count},
    )
    (folder / "dataset.json").write_text(described.to_json())
    return folder


def noise(count, seed, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Digits without any: folder, and rows by split."""
    folder = tmp_path_factory.mktemp("plain") / "out"
    ingest(folder, name="digits", shards=2)
    return folder, {s: read_back(folder, s) for s in ("train", "eval", "test")}


def split_bytes(folder, *splits):
    return {
        name: content
        for name, content in contents_of(folder).items()
        if name.startswith(tuple(f"Split-{split}" for split in splits))
    }


def test_new_images_get_into_train_alone_and_known_ones_are_left_out(plain, tmp_path):
    without, rows = plain
    many, twice = noise(200, 1), noise(1, 2)
    # The first one belongs into eval by its hash, were it published.
    number = [hashlib.sha256(image.tobytes()).digest()[16:24] for image in many]
    first = next(n for n, each in enumerate(number) if each < b"\x19")
    new = np.concatenate([many[first : first + 1], many[:first], many[first + 1 :]])[:5]
    known = [rows[split][3]["image"] for split in ("test", "test", "eval", "train")]
    pixels = np.concatenate([new, np.stack(known), new[:1], twice, twice])
    labels = [4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6]
    folder = write(tmp_path / "labelled", pixels, labels)
    artifact = ingest(tmp_path / "out", name="digits", shards=2, extra=str(folder))
    for split in ("eval", "test"):
        assert split_bytes(artifact.uri, split) == split_bytes(without, split)
    train = read_back(artifact.uri, "train")
    added = [row for row in train if row["id"].endswith(b"-extra")]
    others = [row for row in train if not row["id"].endswith(b"-extra")]
    assert [row["id"] for row in others] == [row["id"] for row in rows["train"]]
    assert as_rows(others) == as_rows(rows["train"])
    assert sorted((row["image"].tobytes(), row["label"]) for row in added) == sorted(
        (image.tobytes(), label) for image, label in zip(new, labels[:5], strict=True)
    )
    for row in added:
        digest = hashlib.sha256(row["image"].tobytes()).hexdigest()
        assert row["id"] == f"{digest[:32]}-extra".encode()
    told = json.loads(Path(artifact.uri, "dataset.json").read_text())
    assert told["counts"]["train"] == len(rows["train"]) + 5
    assert told["extra"] == {
        "path": str(folder),
        "added": 5,
        "left_out": {
            "test": 2, "eval": 1, "train": 1, "repeated": 1, "contradictory": 2,
        },
    }  # fmt: skip
    assert json.loads(artifact.get_string_custom_property("extra")) == told["extra"]
    counts = json.loads(artifact.get_string_custom_property("counts"))
    assert counts == told["counts"]
    # The same images again, written at another time and place: the same bytes.
    other = write(tmp_path / "copy", pixels, labels)
    again = ingest(tmp_path / "again", name="digits", shards=2, extra=str(other))
    assert split_bytes(again.uri, "train") == split_bytes(artifact.uri, "train")


def test_at_a_smaller_size_they_are_known_by_what_the_model_saw(tmp_path):
    settings = {"name": "digits", "image_size": 8, "channels": 1}
    before = ingest(tmp_path / "before", **settings)
    rows = {split: read_back(before.uri, split) for split in ("train", "test")}
    pixels = np.concatenate(
        [noise(2, 3, (8, 8, 1)), [rows["test"][0]["image"], rows["train"][0]["image"]]]
    ).astype(np.uint8)
    folder = write(tmp_path / "labelled", pixels, [1, 2, 3, 4])
    artifact = ingest(tmp_path / "out", extra=str(folder), **settings)
    told = json.loads(Path(artifact.uri, "dataset.json").read_text())
    # Other digits may be equal at this size: these two are left out, if not more often.
    assert told["extra"]["added"] == 2
    assert told["extra"]["left_out"] == {"test": 1, "train": 1}


def test_a_fine_class_brings_its_super_class(tmp_path):
    made = official.dataset("cifar100", {"train": 60, "test": 30})
    data = official.write_folder(
        tmp_path / "in", official.files("cifar100", "binary", made)
    )
    names = DATASETS["cifar100"].class_names
    folder = write(tmp_path / "labelled", noise(2, 4), [0, 99], names=names)
    artifact = ingest(
        tmp_path / "out", name="cifar100", path=str(data), extra=str(folder)
    )
    added = {
        row["label"]: row["coarse"]
        for row in read_back(artifact.uri, "train")
        if row["id"].endswith(b"-extra")
    }
    coarse = DATASETS["cifar100"].coarse_class_names
    assert {names[k]: coarse[v] for k, v in added.items()} == {
        "apple": "fruit_and_vegetables",
        "worm": "non-insect_invertebrates",
    }


def cut(folder):
    path = folder / "labelled.tfrecord"
    path.write_bytes(path.read_bytes()[:-5])


def claim(folder):
    path = folder / "labelled.tfrecord"
    path.write_bytes(struct.pack("<QI", 1 << 40, 0) + path.read_bytes()[12:])


def labels_of(names):
    return lambda folder: write(folder, noise(3, 5), [0, 1, 2], names=names)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: write(f, noise(3, 5, (8, 8, 1)), [0, 1, 2]),
         r"its images are 8 x 8 x 1, and those of this run 32 x 32 x 3; set data.image"),
        (labels_of(DIGITS[::-1]), r"its classes are not the 10 of Handwritten digits"),
        (labels_of(("cat", "dog", "ship")), r"its classes are not the 10 of Handwr"),
        (lambda f: write(f, noise(3, 5), [0, 1, 10]),
         r"record 2 has label 10, must be 0 to 9"),
        (lambda f: write(f, noise(3, 5, (8, 8, 3)), [0, 1, 2], shape=(32, 32, 3)),
         r"image 0 has 192 bytes instead of 3,072"),
        (lambda f: write(f, noise(3, 5), [0, 1, 2], count=4),
         r"holds 3 images, and dataset.json tells of 4"),
        (lambda f: write(f, noise(0, 5), []), r"holds 0 images, and must hold 1 to 100,"),
        (lambda f: write(f, noise(1, 5), [0], count=100_001), r"holds 100,001 images"),
        (lambda f: (f / "dataset.json").unlink(), r"has no file dataset.json; let `pyth"),
        (lambda f: (f / "labelled.tfrecord").unlink(), r"has no file labelled.tfrecord"),
        (lambda f: (f / "dataset.json").write_text("{"), r"dataset.json: .*damaged"),
        (lambda f: (f / "labelled.tfrecord").write_bytes(b"x" * 50), r"cannot be read"),
        (cut, r"cannot be read after image"),
        (claim, r"a record claims 1,099,511,627,776 bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_said_in_one_sentence(tmp_path, spoil, says):
    folder = write(tmp_path / "labelled", noise(3, 5), [0, 1, 2])
    spoil(folder)
    with pytest.raises(DataError, match=says) as caught:
        ingest(tmp_path / "out", name="digits", extra=str(folder))
    assert "\n" not in str(caught.value)
    assert not contents_of(tmp_path / "out")


def test_what_does_not_fit_is_refused_before_anything_starts(tmp_path):
    folder = write(tmp_path / "labelled", noise(3, 5), [0, 1, 2])
    data = DataConfig(name="digits", extra=str(folder))
    assert sources.local_fingerprint(data)
    for settings in ({"image_size": 16}, {"extra": str(tmp_path / "none")}):
        other = {"name": "digits", "extra": str(folder)} | settings
        with pytest.raises(DataError, match="data.extra="):
            sources.local_fingerprint(DataConfig(**other))


def test_other_images_are_other_data(tmp_path):
    found = set()
    for number, (seed, label) in enumerate([(5, 0), (5, 1), (6, 0), (5, 0)]):
        folder = write(tmp_path / str(number), noise(1, seed), [label])
        data = DataConfig(name="digits", extra=str(folder))
        found.add(sources.local_fingerprint(data))
        assert sources.fingerprint(data) == sources.local_fingerprint(data)
    found.add(sources.local_fingerprint(DataConfig(name="digits")))
    assert len(found) == 4
