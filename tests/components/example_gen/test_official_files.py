import dataclasses
import gzip
import hashlib
import os
import pickle
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen import archives, layout
from components.example_gen.layout import DataError
from tests.components.example_gen import official

FOLDERS = {each.folder: each for each in layout.LAYOUTS}
DUMPS = {
    "python2": official.python2_pickle,
    **{
        f"protocol{p}": lambda value, p=p: pickle.dumps(value, protocol=p)
        for p in range(6)
    },
}


def collect(path, dataset="cifar10", **options):
    """What a source yields: file name -> (pixels [n, 32, 32, 3], labels, coarse)."""
    options.setdefault("allow_unverified", True)
    located = archives.inspect(str(path), dataset, **options)
    found = {}
    for name, records in archives.read(located, located.layout.files):
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
        archives.inspect(str(path), dataset, **options)
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


@pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_pickles_of_python_2_and_3_are_read(tmp_path, dataset, dump):
    made = official.dataset(dataset)
    contents = official.files(dataset, "python", made, dump)
    _, found = collect(official.write_folder(tmp_path, contents), dataset)
    assert_equal(found, made, dataset == "cifar100")


def test_text_keys_and_other_array_types_of_labels_are_read():
    pixels, labels, _ = official.images(1, 4)
    entries = official.content(pixels, np.array(labels, np.dtype(">i8")))
    entries = {key.decode(): value for key, value in entries.items()}
    (records,) = archives.parse_python(pickle.dumps(entries), "cifar10", "f")
    assert records.labels.tolist() == labels


@given(
    st.integers(1, 4), st.integers(0, 2**32), st.sampled_from(["cifar10", "cifar100"])
)
@settings(max_examples=20, deadline=None)
def test_binary_records_round_trip_in_chunks(count, seed, dataset):
    pixels, labels, coarse = official.images(seed, count, dataset)
    payload = official.binary(pixels, labels, coarse if dataset == "cifar100" else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "CHUNK_RECORDS", 2)
        chunks = list(archives.parse_binary(payload, dataset, "f"))
    assert all(len(chunk.labels) <= 2 for chunk in chunks)
    joined = np.concatenate([chunk.pixels for chunk in chunks])
    np.testing.assert_array_equal(joined.reshape(-1, 32, 32, 3), pixels)
    assert np.concatenate([chunk.labels for chunk in chunks]).tolist() == labels


@given(st.integers(1, 3 * 3073 - 1).filter(lambda n: n % 3073))
@settings(deadline=None)
def test_any_truncation_names_the_record(length):
    payload = bytes(3 * 3073)[:length]
    with pytest.raises(DataError, match=f"^f: .*record {length // 3073} is cut off"):
        list(archives.parse_binary(payload, "cifar10", "f"))


@given(st.binary(max_size=3 * 3074))
@settings(deadline=None)
def test_random_bytes_are_refused_or_valid(payload):
    for parse in (archives.parse_binary, archives.parse_python):
        for dataset, classes in (("cifar10", 10), ("cifar100", 100)):
            try:
                chunks = list(parse(payload, dataset, "f"))
            except DataError as refused:
                assert str(refused).startswith("f: ") and "\n" not in str(refused)
                continue
            assert all(c.labels.min() >= 0 and c.labels.max() < classes for c in chunks)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_pickles_are_refused_or_valid(data):
    dump = data.draw(st.sampled_from(list(DUMPS.values())))
    pixels, labels, _ = official.images(0, 2)
    payload = bytearray(dump(official.content(pixels, labels)))
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of the payload is pixels: aim at the structure around them.
        near = st.one_of(st.integers(0, 250), st.integers(1, 250).map(lambda n: -n))
        payload[data.draw(near) % len(payload)] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.sampled_from([len(payload), len(payload) - 9]))]
    try:
        chunks = list(archives.parse_python(bytes(payload), "cifar10", "f"))
    except DataError as refused:
        assert str(refused).startswith("f: ") and "\n" not in str(refused)
    else:
        for chunk in chunks:
            assert chunk.pixels.dtype == np.uint8 and chunk.pixels.shape[1] == 3072
            assert chunk.labels.min() >= 0 and chunk.labels.max() < 10


@given(st.integers(0, 4), st.integers(10, 255))
@settings(max_examples=20, deadline=None)
def test_label_out_of_range_names_the_record(record, label):
    payload = bytearray(5 * 3073)
    payload[record * 3073] = label
    with pytest.raises(
        DataError, match=f"record {record} has label {label}, must be 0 t"
    ):
        list(archives.parse_binary(bytes(payload), "cifar10", "f"))


def test_coarse_label_out_of_range_is_refused():
    payload = bytes([20, 99]) + bytes(3072)
    with pytest.raises(
        DataError, match="record 0 has coarse label 20, must be 0 to 19"
    ):
        list(archives.parse_binary(payload, "cifar100", "f"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": np.full((2, 3072), np.nan)}, r"data is float64\[2, 3072\]"),
        ({b"data": np.zeros((2, 3071), np.uint8)}, r"data is uint8\[2, 3071\]"),
        (
            {b"data": np.zeros((2, 32, 32, 3), np.uint8)},
            r"data is uint8\[2, 32, 32, 3\]",
        ),
        ({b"data": np.zeros((0, 3072), np.uint8)}, "no records"),
        ({b"data": b"xyz"}, "'data' is a bytes"),
        ({b"data": np.array([None, "x"])}, "type .O8. is not read"),
        ({b"labels": [1]}, "must be 2 whole numbers"),
        ({b"labels": [1, 1.0]}, "record 1 has labels 1.0, must be a whole number"),
        ({b"labels": [1, True]}, "record 1 has labels True"),
        ({b"labels": [1, 2**70]}, "record 1 has labels 1180591620717411303424"),
        ({b"labels": [1, -1]}, "record 1 has label -1"),
        ({b"labels": np.array([0.0, np.nan])}, "must be 2 whole numbers"),
        ({b"labels": None}, "must be 2 whole numbers"),
    ],
)
def test_wrong_python_content_is_named(change, message):
    pixels, labels, _ = official.images(1, 2)
    payload = pickle.dumps(official.content(pixels, labels) | change)
    with pytest.raises(DataError, match=message):
        list(archives.parse_python(payload, "cifar10", "f"))


@pytest.mark.parametrize("value", [[1], None, {}, {b"data": 1}, {1: 2}])
def test_pickles_of_something_else_are_refused(value):
    with pytest.raises(DataError, match="^f: .*official file"):
        list(archives.parse_python(pickle.dumps(value), "cifar10", "f"))


class Evil:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch PWNED",)),
        (eval, ("1",)),
        (np.zeros, (10**12,)),
        (np.fromfile, ("/etc/passwd",)),
        (np.ndarray, ((2**50,), "u1")),
        (np.dtype, ("O",)),
    ],
    ids=lambda call: call[0].__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_run_nothing(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    pixels, labels, _ = official.images(1, 2)
    entries = official.content(pixels, labels) | {b"batch_label": Evil(call)}
    payload = pickle.dumps(entries, protocol=protocol)
    with pytest.raises(DataError, match="only arrays and plain containers are read"):
        list(archives.parse_python(payload, "cifar10", "f"))
    assert not list(tmp_path.iterdir())


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
    located = archives.inspect(str(path), "cifar10", allow_unverified=False)
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
    assert archives.inspect(str(path), "cifar10", allow_unverified=False).verified
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


@pytest.mark.parametrize("keep", [0, 1, 30, 5_000, -9, -1])
def test_truncated_archives_are_refused(tmp_path, keep):
    contents = official.files("cifar10", "binary")
    whole = official.write_tar(tmp_path / "x.tar.gz", contents).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[:keep])
    assert "cut.tar.gz" in refusal(tmp_path / "cut.tar.gz")


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_corrupt_gzip_is_always_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    contents = official.files("cifar10", "binary")
    path = official.write_tar(folder / "corrupt.tar.gz", contents)
    payload = bytearray(path.read_bytes())
    # Behind the header, whose name and time no checksum covers.
    place = data.draw(st.integers(30, len(payload) - 1))
    payload[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(payload)
    refusal(path)


def test_links_and_devices_are_refused(tmp_path):
    contents = official.files("cifar10", "binary")
    link = tarfile.TarInfo("data_batch_1.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    del contents["data_batch_1.bin"]
    path = official.write_tar(tmp_path / "x.tar", contents | {link: b""})
    assert "is a link or device" in refusal(path)


def test_members_outside_the_folder_are_read_but_never_written(tmp_path):
    contents = official.files("cifar10", "binary")
    folder = tmp_path / "inner"
    folder.mkdir()
    path = official.write_tar(folder / "x.tar", contents, "../../")
    before = sorted(tmp_path.rglob("*"))
    _, found = collect(path)
    assert len(found) == 6
    assert sorted(tmp_path.rglob("*")) == before


def test_same_member_twice_is_refused(tmp_path):
    contents = official.files("cifar10", "binary")
    again = tarfile.TarInfo("elsewhere/test_batch.bin")
    path = official.write_tar(
        tmp_path / "x.tar", contents | {again: contents["test_batch.bin"]}
    )
    assert "holds test_batch.bin twice" in refusal(path)


def test_decompression_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 10**6)
    contents = {"zeros": bytes(10**7)} | official.files("cifar10", "binary")
    path = official.write_tar(tmp_path / "x.tar.gz", contents)
    assert "unpacks to more than 1,000,000 bytes" in refusal(path)


def test_giant_member_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 20_000)
    contents = official.files("cifar10", "binary")
    write = official.write_tar(tmp_path / "x.tar", contents)
    assert "more than the limit of 20,000" in refusal(write)
    folder = official.write_folder(tmp_path / "f", contents)
    assert "larger than 20,000 bytes" in refusal(folder)


def test_gzip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(b"no archive" * 100))
    assert "not a readable .tar or .tar.gz archive" in refusal(path)
