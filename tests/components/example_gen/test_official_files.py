import dataclasses
import hashlib

import numpy as np
import pytest

from components.example_gen import archives, layout, official_files
from components.example_gen.errors import DataError
from tests.components.example_gen import official

FOLDERS = {each.folder: each for each in layout.LAYOUTS}


def collect(path, dataset="cifar10", **options):
    """What a source yields: file name -> (pixels [n, 32, 32, 3], labels, coarse)."""
    options.setdefault("allow_unverified", True)
    located = official_files.inspect(str(path), dataset, **options)
    found = {}
    for name, records in official_files.read(located, located.layout.files):
        found.setdefault(name, []).append(records)
    for name, chunks in found.items():
        assert located.counts[name] == sum(len(c.labels) for c in chunks)
        pixels = np.concatenate([c.pixels for c in chunks]).reshape(-1, 32, 32, 3)
        coarse = [c.coarse_labels for c in chunks]
        found[name] = (
            pixels,
            np.concatenate([c.labels for c in chunks]).tolist(),
            None if coarse[0] is None else np.concatenate(coarse).tolist(),
        )
    return located, found


def assert_equal(found, made, with_coarse):
    assert {name.removesuffix(".bin") for name in found} == set(made)
    for name, (pixels, labels, coarse) in found.items():
        true_pixels, true_labels, true_coarse = made[name.removesuffix(".bin")]
        np.testing.assert_array_equal(pixels, true_pixels)
        assert labels == true_labels
        assert coarse == (true_coarse if with_coarse else None)


def refusal(path, dataset="cifar10", **options):
    options.setdefault("allow_unverified", True)
    with pytest.raises(DataError) as caught:
        official_files.inspect(str(path), dataset, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", FOLDERS.values(), ids=FOLDERS)
@pytest.mark.parametrize("place", ["folder", "parent", "tar", "tar.gz"])
def test_every_form_and_place_gives_the_same_pixels(tmp_path, form, place):
    made = official.dataset(form.dataset)
    contents = official.files(form.dataset, form.encoding, made)
    if place in ("folder", "parent"):
        path = official.write_folder(tmp_path / form.folder, contents)
        path = path.parent if place == "parent" else path
    else:
        path = tmp_path / f"anything.{place}"
        official.write_tar(path, contents, form.folder + "/", shuffle_seed=3)
    located, found = collect(path, form.dataset)
    assert_equal(found, made, form.dataset == "cifar100")
    assert not located.verified
    assert "records instead of the official 60,000" in located.verification


@pytest.mark.parametrize("dump", official.DUMPS.values(), ids=official.DUMPS)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_pickles_of_python_2_and_3_are_read(tmp_path, dataset, dump):
    made = official.dataset(dataset)
    contents = official.files(dataset, "python", made, dump)
    _, found = collect(official.write_folder(tmp_path, contents), dataset)
    assert_equal(found, made, dataset == "cifar100")


@pytest.fixture
def published(monkeypatch):
    """Pretends that the checksums of given files are the published ones."""

    def publish(form, **changes):
        rows = tuple(
            dataclasses.replace(row, **changes) if row == form else row
            for row in layout.LAYOUTS
        )
        monkeypatch.setattr(layout, "LAYOUTS", rows)

    return publish


def form_of(dataset, encoding):
    (form,) = [f for f in layout.layouts_of(dataset) if f.encoding == encoding]
    return form


def test_archive_with_the_published_checksum_is_verified(tmp_path, published):
    form = form_of("cifar10", "binary")
    path = official.write_tar(
        tmp_path / "a.tar.gz", official.files("cifar10", "binary")
    )
    published(form, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    located = official_files.inspect(str(path), "cifar10", allow_unverified=False)
    assert located.verified
    assert located.verification == "SHA-256 of a.tar.gz is the published one"


@pytest.mark.parametrize("place", ["folder", "tar"])
def test_python_files_are_verified_one_by_one(tmp_path, published, place):
    form = form_of("cifar10", "python")
    contents = official.files("cifar10", "python")
    sums = {name: hashlib.md5(data).hexdigest() for name, data in contents.items()}
    published(form, md5=sums)
    path = tmp_path / "x.tar"
    if place == "tar":
        official.write_tar(path, contents)
    else:
        official.write_folder(path, contents)
    assert official_files.inspect(str(path), "cifar10", allow_unverified=False).verified
    published(form_of("cifar10", "python"), md5=sums | {"test_batch": "0" * 32})
    message = refusal(path, allow_unverified=False)
    expected = sums["test_batch"] if place == "folder" else form.sha256
    assert expected in message and "data.allow_unverified=true" in message


def test_unverified_is_refused_with_both_checksums_and_the_remedy(tmp_path):
    contents = official.files("cifar10", "binary")
    archive = official.write_tar(tmp_path / "cifar-10-binary.tar.gz", contents)
    message = refusal(archive, allow_unverified=False)
    assert str(archive) in message
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in message
    assert form_of("cifar10", "binary").sha256 in message
    assert "data.allow_unverified=true" in message
    folder = official.write_folder(tmp_path / "f", contents)
    message = refusal(folder, allow_unverified=False)
    assert "no checksum is published for extracted binary files" in message
    assert "data.allow_unverified=true" in message


@pytest.mark.parametrize("encoding", ["binary", "python"])
@pytest.mark.parametrize("place", ["folder", "tar.gz"])
@pytest.mark.parametrize("asked", ["cifar10", "cifar100"])
def test_the_other_data_set_is_recognised(tmp_path, encoding, place, asked):
    there = "cifar100" if asked == "cifar10" else "cifar10"
    contents = official.files(there, encoding)
    path = tmp_path / f"x.{place}"
    write = official.write_folder if place == "folder" else official.write_tar
    message = refusal(write(path, contents), asked)
    assert f"set data.name={there}" in message


@pytest.mark.parametrize("place", ["folder", "tar"])
def test_missing_batch_is_named(tmp_path, place):
    contents = official.files("cifar10", "binary")
    del contents["data_batch_3.bin"]
    write = official.write_folder if place == "folder" else official.write_tar
    assert "data_batch_3.bin missing" in refusal(write(tmp_path / "x", contents))


def test_unknown_folder_says_what_was_looked_for_and_found(tmp_path):
    official.write_folder(tmp_path, {"cat.jpg": b"", "dog.jpg": b""})
    message = refusal(tmp_path)
    assert "looked for data_batch_1 (python form) or data_batch_1.bin" in message
    assert "found cat.jpg, dog.jpg" in message


@pytest.mark.parametrize("place", ["folder", "tar"])
@pytest.mark.parametrize(
    ("payload", "message"),
    [(b"", "is empty"), (bytes(3072), "is cut off"), (b"\xff" * 3073, "label 255")],
)
def test_damaged_batch_is_named(tmp_path, place, payload, message):
    contents = official.files("cifar10", "binary") | {"data_batch_2.bin": payload}
    write = official.write_folder if place == "folder" else official.write_tar
    found = refusal(write(tmp_path / "x", contents))
    assert "data_batch_2.bin" in found and message in found


def test_missing_path_is_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "nothing.tar.gz")


def test_giant_member_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 20_000)
    contents = official.files("cifar10", "binary")
    write = official.write_tar(tmp_path / "x.tar", contents)
    assert "more than the limit of 20,000" in refusal(write)
    folder = official.write_folder(tmp_path / "f", contents)
    assert "larger than 20,000 bytes" in refusal(folder)
