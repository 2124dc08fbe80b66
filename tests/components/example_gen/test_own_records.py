"""Pictures of one's own: pixels against the rule in words, splits, what is left out."""

import collections
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile

from components.example_gen import own_files, own_records, pieces
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import own
from tests.serving import pictures

PICTURES = pictures.examples()


def placed(path, **settings):
    found = own_files.find(str(path))
    return found, own_records.placed(found, DataConfig(name="folder", **settings))


def names(items):
    return {item.image.name for item in items}


def read_one(tmp_path, content, shape=(32, 32, 3)):
    """One picture as it is ingested: pixels, and what is wrong."""
    own.write(tmp_path, {"a/1.png": content, "b/1.png": own.picture(0)})
    found, splits = placed(tmp_path)
    (item,) = (
        item for part in splits.splits.values() for item in part
        if item.image.name == "a/1.png"
    )  # fmt: skip
    read = own_records.read(found.root, [item], shape)
    assert len(read.labels) == len(read.digests) == len(read.pixels)
    return read.pixels.reshape(-1, *shape), [text for _, text in read.unreadable]


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_becomes_what_it_shows(tmp_path, kind):
    """Turned upright, transparent parts on white, scaled and cut: docs/clients.md."""
    picture = PICTURES[kind]
    (pixels,), problems = read_one(tmp_path, picture.content)
    assert not problems
    wanted = pictures.shrunk(picture.rgb, 32)
    assert np.abs(pixels - wanted).max() <= 1.5


def test_a_picture_of_that_size_stays_as_it_is(tmp_path):
    image = pictures.photograph(64, 64)
    (pixels,), _ = read_one(tmp_path, pictures.encoded(image, "PNG"), (64, 64, 3))
    assert (pixels == image).all()


def test_grey_is_pillows_luminance(tmp_path):
    image = pictures.photograph(64, 64)
    (pixels,), _ = read_one(tmp_path, pictures.encoded(image, "PNG"), (64, 64, 1))
    wanted = np.asarray(Image.fromarray(image).convert("L"))
    assert (pixels[..., 0] == wanted).all()


@pytest.mark.parametrize("case", own.UNREADABLE)
def test_what_is_no_picture_is_one_sentence(tmp_path, case):
    content, words = own.UNREADABLE[case]
    pixels, (problem,) = read_one(tmp_path, content)
    assert not len(pixels)
    assert problem.startswith("a/1.png: ") and words in problem and "\n" not in problem


def test_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda file: decoded.append(file))
    read_one(tmp_path / "good", own.picture(1))
    assert decoded  # it would be seen
    decoded.clear()
    read_one(tmp_path / "bomb", own.bomb())
    assert not decoded


def test_a_file_larger_than_any_picture_is_not_read_on(tmp_path, monkeypatch):
    monkeypatch.setattr(own_records, "_MOST_BYTES", 1001)
    _, (problem,) = read_one(tmp_path, own.picture(0))
    assert "larger than" in problem


def test_splits_come_of_the_content(tmp_path):
    """By the arithmetic of SHA-256 alone: whatever the names, the order, the number."""
    own.write(tmp_path / "one", own.contents(count=300))
    _, splits = placed(tmp_path / "one", eval_fraction=0.1, test_fraction=0.25)
    wanted = collections.defaultdict(set)
    for content in own.contents(count=300).values():
        digest = hashlib.sha256(content).digest()
        share = int.from_bytes(digest[16:24], "big") / 2**64
        split = "test" if share >= 0.75 else "eval" if share < 0.075 else "train"
        wanted[split].add(digest)
    for split, items in splits.splits.items():
        assert {item.digest for item in items} == wanted[split]
        assert [item.digest for item in items] == sorted(wanted[split])
    assert 120 <= len(wanted["test"]) <= 180 and 30 <= len(wanted["eval"]) <= 60
    renamed = {
        f"{name[:3]}/x{number}.png": content
        for number, (name, content) in enumerate(own.contents(count=300).items())
    }
    own.write(tmp_path / "other", renamed)
    _, again = placed(tmp_path / "other", eval_fraction=0.1, test_fraction=0.25)
    assert {i.digest for i in again.splits["test"]} == wanted["test"]
    assert again.digest != splits.digest and again.bytes == splits.bytes


def test_given_splits_stand_and_eval_is_carved(tmp_path):
    made = own.contents(count=100, top="train/")
    tests = {f"val/cat/{n}.png": own.picture(5000 + n) for n in range(20)}
    own.write(tmp_path / "two", {**made, **tests})
    _, splits = placed(tmp_path / "two", eval_fraction=0.2)
    assert names(splits.splits["test"]) == set(tests)
    assert names(splits.splits["train"]) | names(splits.splits["eval"]) == set(made)
    assert 20 <= len(splits.splits["eval"]) <= 60
    evals = {name.replace("val/", "eval/"): c for name, c in tests.items()}
    own.write(
        tmp_path / "three",
        {**made, **evals, "test/dog/1.png": own.picture(9000)},
    )
    _, splits = placed(tmp_path / "three", eval_fraction=0.2)
    assert names(splits.splits["eval"]) == set(evals)
    assert names(splits.splits["train"]) == set(made)


def test_no_image_is_in_two_splits(tmp_path):
    made = own.contents(count=20, top="train/")
    twin, triplet = made["train/cat/3.png"], made["train/dog/4.png"]
    made |= {
        "train/cat/again.png": twin,
        "eval/cat/e.png": own.picture(7000),
        "eval/dog/t.png": triplet,
        "test/cat/a copy.png": twin,
        "test/dog/t.png": triplet,
    }
    own.write(tmp_path, made)
    found, splits = placed(tmp_path)
    digests = [{i.digest for i in items} for items in splits.splits.values()]
    assert not digests[0] & digests[1] and not (digests[0] | digests[1]) & digests[2]
    assert names(splits.splits["test"]) == {"test/cat/a copy.png", "test/dog/t.png"}
    assert names(splits.splits["eval"]) == {"eval/cat/e.png"}
    assert len(splits.splits["train"]) == 41 - 3
    assert set(splits.twice) == {
        "train/cat/3.png (test/cat/a copy.png in test)",
        "train/cat/again.png (test/cat/a copy.png in test)",
        "train/dog/4.png (test/dog/t.png in test)",
        "eval/dog/t.png (test/dog/t.png in test)",
    }
    (told,) = own_records.judged(found, splits, [], 0.0)
    assert told.startswith("4 of 45 files stand in two splits") and "(test/" in told


def test_what_cannot_be_read_is_counted_and_refused_beyond_a_limit(tmp_path):
    own.write(tmp_path, own.contents(count=50) | {"cat/notes.txt": b""})
    found, splits = placed(tmp_path)
    wrong = [("train", 0, f"cat/{n}.png: the file is empty") for n in range(7)]
    first, second = own_records.judged(found, splits, wrong, 0.07)
    assert first == (
        "7 of 100 files cannot be read and are left out: "
        + ", ".join(text for *_, text in wrong[:5])
        + " and 2 more"
    )
    assert second == (
        "1 files have no picture's ending and are passed over: cat/notes.txt"
    )
    with pytest.raises(DataError, match=r"7 of 100 .*data.unreadable_limit=0.06 all"):
        own_records.judged(found, splits, wrong, 0.06)
    cats = [
        ("train", 0, item.image.name)
        for item in splits.splits["train"]
        if item.label == 0
    ]
    with pytest.raises(DataError, match="no image of the class cat is left for train"):
        own_records.judged(found, splits, cats, 0.5)


def test_classes_that_are_carved_out_of_train_are_named_before_the_long_part(tmp_path):
    """Of many classes with two images each, some have both of them in test or eval."""
    many = [f"class {number}" for number in range(200)]
    path = own.write(tmp_path, own.contents(many, count=2))
    data = DataConfig(name="folder", path=path)
    _, splits = placed(tmp_path)
    trained = {item.image.label for item in splits.splits["train"]}
    lacking = [name for name in many if name not in trained]
    assert len(lacking) > 6
    with pytest.raises(DataError) as caught:
        pieces.plan(data)
    assert (
        f"class {', '.join(lacking[:5])} and {len(lacking) - 5} more is left for train"
        in str(caught.value)
    )
    assert "lower data.test_fraction" in str(caught.value)


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path):
    own.write(tmp_path, own.contents(count=5))
    found, splits = placed(tmp_path)
    item = splits.splits["train"][0]
    (tmp_path / item.image.name).write_bytes(own.picture(99))
    with pytest.raises(DataError, match="was changed while it was being ingested"):
        own_records.read(found.root, splits.splits["train"], (32, 32, 3))


MEMORY = """
import resource, sys
from components.example_gen import own_files, own_records
from contract.config.data import DataConfig
found = own_files.find(sys.argv[1])
splits = own_records.placed(found, DataConfig(name="folder")).splits
items = [item for part in splits.values() for item in part]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own_records.read(found.root, items[:1], (32, 32, 3))
one = peak()
assert len(own_records.read(found.root, items, (32, 32, 3)).labels) == len(items) == 24
print((peak() - one) / 1024 if sys.platform == "linux" else (peak() - one) / 2**20)
"""


def test_one_picture_at_a_time_is_in_memory(tmp_path):
    image = pictures.encoded(pictures.photograph(1500, 1500), "JPEG", quality=90)
    files = {f"{c}/{n}.jpg": image + bytes([n]) for c in "ab" for n in range(12)}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, own.write(tmp_path, files)],
        capture_output=True,
        text=True,
    )
    decoded = 1500 * 1500 * 3 / 2**20
    assert float(done.stdout) < 4 * decoded, done.stderr  # all of them: 24 times


def test_more_bytes_make_more_files(tmp_path, monkeypatch):
    """Each image is in one of them, in order of content."""
    own.write(tmp_path, own.contents(count=30))
    _, splits = placed(tmp_path)
    monkeypatch.setattr(own_records, "_SHARD_BYTES", splits.bytes // 10)
    files = own_records.sharded(splits, 3)
    for split, items in splits.splits.items():
        parts = [(place, part) for s, place, part in files if s == split]
        size = sum(item.size for item in items)
        count = max(3, -(-size * 10 // splits.bytes))
        assert [place for place, _ in parts] == [(n, count) for n in range(count)]
        digests = [[item.digest for item in part] for _, part in parts]
        assert all(part == sorted(part) for part in digests)
        assert sorted(sum(digests, [])) == [item.digest for item in items]
