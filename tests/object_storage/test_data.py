"""Data sets in a bucket: archives, folders and tensorflow-datasets, and what changes."""

import dataclasses
import io
import tempfile
from pathlib import Path

import pytest

from components.example_gen import (
    archives,
    layout,
    official_files,
    pieces,
    sources,
)
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import official, test_executor
from tests.object_storage.emulator import ObjectStorage

pytestmark = pytest.mark.tf

SIZES = {f"data_batch_{i}": 40 for i in range(1, 6)} | {"test_batch": 30}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, to see that none stays."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def upload(storage: ObjectStorage, source: Path, prefix: str) -> str:
    """Copies a file or folder into the bucket by the genuine client."""
    bucket = storage.client().bucket(storage.bucket)
    files = [source] if source.is_file() else [f for f in source.rglob("*")]
    for file in files:
        if file.is_file():
            inside = file.relative_to(source).as_posix() if file != source else ""
            name = f"{prefix}/{inside}" if inside else prefix
            bucket.blob(name).upload_from_filename(str(file))
    return storage.url(prefix)


def rows(plan: pieces.Plan) -> list[tuple[str, bytes, int]]:
    return sorted(
        (split, image.tobytes(), int(label))
        for piece in plan.pieces
        for split, records in pieces.read(piece, plan.dataset.pixels)
        for image, label in zip(records.pixels, records.labels, strict=True)
    )


def test_archive_and_folder_in_a_bucket_are_what_they_are_on_disk(
    object_storage: ObjectStorage, tmp_path: Path, temporary: Path
) -> None:
    contents = official.files("cifar10", "binary", official.dataset("cifar10", SIZES))
    archive = official.write_tar(tmp_path / "cifar-10-binary.tar.gz", contents)
    folder = official.write_folder(tmp_path / "cifar-10-batches-bin", contents)
    here = DataConfig(name="cifar10", path=str(archive), allow_unverified=True)
    expected = rows(pieces.plan(here))
    assert len(expected) == 230
    for source, prefix in (
        (archive, "data/cifar-10-binary.tar.gz"),
        (folder, "data/cifar-10-batches-bin"),
    ):
        url = upload(object_storage, source, prefix)
        plan = pieces.plan(dataclasses.replace(here, path=url))
        assert url in plan.source and url in plan.verification
        assert rows(plan) == expected
    assert not list(temporary.iterdir())


def test_checksums_are_those_of_the_bytes_in_the_bucket(
    object_storage: ObjectStorage,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import hashlib

    contents = official.files("cifar10", "binary", official.dataset("cifar10", SIZES))
    archive = official.write_tar(tmp_path / "cifar-10-binary.tar.gz", contents)
    url = upload(object_storage, archive, "cifar-10-binary.tar.gz")
    data = DataConfig(name="cifar10", path=url)
    with pytest.raises(DataError) as caught:
        pieces.plan(data)
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert str(caught.value).startswith(f"{url}: SHA-256 is {actual}, but the publi")
    published = layout.LAYOUTS[1]
    assert published.archive == "cifar-10-binary.tar.gz"
    monkeypatch.setattr(
        layout,
        "LAYOUTS",
        (dataclasses.replace(published, sha256=actual),),
    )
    assert pieces.plan(data).verified
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("wrong", ["cut", "member", "nothing", "no bucket"])
def test_what_is_wrong_in_a_bucket_is_one_line_with_its_address(
    object_storage: ObjectStorage, tmp_path: Path, temporary: Path, wrong: str
) -> None:
    contents = official.files("cifar10", "binary", official.dataset("cifar10", SIZES))
    if wrong == "member":
        contents["data_batch_3.bin"] = contents["data_batch_3.bin"][:-1]
    archive = official.write_tar(tmp_path / "cifar-10-binary.tar.gz", contents)
    if wrong == "cut":
        archive.write_bytes(archive.read_bytes()[:-1000])
    url = object_storage.url("data/cifar-10-binary.tar.gz")
    if wrong == "no bucket":
        url = "gs://there-is-no-such-bucket/cifar-10-binary.tar.gz"
    elif wrong != "nothing":
        upload(object_storage, archive, "data/cifar-10-binary.tar.gz")
    with pytest.raises(DataError) as caught:
        pieces.plan(DataConfig(name="cifar10", path=url, allow_unverified=True))
    message = str(caught.value)
    assert message.startswith(url) and "\n" not in message
    assert str(temporary) not in message
    assert not list(temporary.iterdir())


def test_an_archive_that_changed_after_it_was_checked_is_not_read(
    object_storage: ObjectStorage, tmp_path: Path, temporary: Path
) -> None:
    for seed in (1, 2):
        made = official.dataset("cifar10", SIZES | {"data_batch_1": 39 + seed})
        archive = tmp_path / f"{seed}.tar"
        official.write_tar(archive, official.files("cifar10", "binary", made))
    url = upload(object_storage, tmp_path / "1.tar", "data.tar")
    plan = pieces.plan(DataConfig(name="cifar10", path=url, allow_unverified=True))
    upload(object_storage, tmp_path / "2.tar", "data.tar")
    with pytest.raises(DataError, match="was changed while it was read; run again"):
        rows(plan)
    assert not list(temporary.iterdir())


def test_too_large_an_archive_is_not_even_copied(
    object_storage: ObjectStorage, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = object_storage.client().bucket(object_storage.bucket)
    bucket.blob("big.tar").upload_from_file(io.BytesIO(bytes(2000)))
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1999)
    with pytest.raises(DataError, match="2,000 bytes, more than the limit of 1,999"):
        official_files.inspect(
            object_storage.url("big.tar"), "cifar10", allow_unverified=True
        )


def test_prepared_data_set_in_a_bucket_and_examples_in_a_bucket(
    object_storage: ObjectStorage, tmp_path: Path, prepared
) -> None:
    """By the executor: the same bytes as from disk to disk, in whole objects only."""
    root, _ = prepared
    url = upload(object_storage, root, "tfds")
    here = test_executor.ingest(tmp_path / "out", name="cifar10", tfds_dir=str(root))
    there = test_executor.ingest(
        object_storage.url("out"), name="cifar10", tfds_dir=url, allow_unverified=False
    )
    expected = test_executor.contents_of(here.uri)
    bucket = object_storage.client().bucket(object_storage.bucket)
    found = {
        name.removeprefix("out/"): bucket.blob(name).download_as_bytes()
        for name in object_storage.names("out/")
        if not name.endswith("/")
    }
    assert found == expected
    assert url in there.get_string_custom_property("source")
    for key in ("counts", "name"):
        mine = there.get_string_custom_property(key)
        assert mine == here.get_string_custom_property(key)
    # A shard is one upload: copied by nothing, renamed by nothing.
    assert not [p for _, p in object_storage.requests if "rewriteTo" in p]


def test_examples_of_a_killed_run_do_not_stay(object_storage: ObjectStorage) -> None:
    bucket = object_storage.client().bucket(object_storage.bucket)
    for name in ("Split-train/data_tfrecord-00006-of-00007.gz", ".partial/counts.json"):
        bucket.blob(f"out/{name}").upload_from_string(b"of before")
    test_executor.ingest(object_storage.url("out"), name="digits", shards=2)
    files = [n for n in object_storage.names("out/") if not n.endswith("/")]
    assert files == [
        *(
            f"out/Split-{split}/data_tfrecord-0000{i}-of-00002"
            for split in ("eval", "test", "train")
            for i in range(2)
        ),
        "out/dataset.json",
    ]


def test_new_objects_at_an_old_address_have_another_fingerprint(
    object_storage: ObjectStorage, tmp_path: Path, prepared
) -> None:
    import tensorflow as tf

    root, _ = prepared
    contents = official.files("cifar10", "binary", official.dataset("cifar10", SIZES))
    folder = official.write_folder(tmp_path / "cifar-10-batches-bin", contents)
    places = {
        "data/cifar-10-batches-bin": "path",
        "tfds": "tfds_dir",
    }
    for prefix, field in places.items():
        upload(object_storage, folder if field == "path" else root, prefix)
        data = DataConfig(name="cifar10", **{field: object_storage.url(prefix)})
        first = sources.fingerprint(data)
        assert sources.fingerprint(data) == first
        assert sources.fingerprint(data, sources.local_fingerprint(data)) == first
        assert len(first) == 32
        name = sorted(n for n in object_storage.names(prefix) if n[-1] != "/")[-1]
        # By TensorFlow: else this process would remember for five seconds how it was.
        changed = object_storage.url(name)
        content = tf.io.gfile.GFile(changed, "rb").read()
        found = [first]
        for more in (b"", b"more"):  # the same bytes at another time, other bytes
            with tf.io.gfile.GFile(changed, "wb") as file:
                file.write(content + more)
            found.append(sources.fingerprint(data))
        assert len(set(found)) == 3
    local = DataConfig(name="cifar10", path=str(folder))
    known = sources.local_fingerprint(local)
    assert sources.fingerprint(local) == sources.fingerprint(local, known) == known
    digits = DataConfig(name="digits")
    assert sources.fingerprint(digits) == sources.local_fingerprint(digits)
    missing = DataConfig(name="cifar10", path=object_storage.url("nothing"))
    with pytest.raises(DataError, match="cannot be read"):
        sources.fingerprint(missing)


prepared = test_executor.prepared
