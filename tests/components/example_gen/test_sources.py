import os

import pytest

from components.example_gen import sources
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import official
from tests.components.example_gen.test_prepared import prepare


def swap(path, content):
    """Other bytes under the same name, of the same size and time of change."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )


def test_fingerprint_follows_the_contents_of_the_files(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    official.write_folder(folder, official.files("cifar10", "binary"))
    data = DataConfig(name="cifar10", path=str(tmp_path))
    first = sources.local_fingerprint(data)
    (folder / "unrelated.txt").write_text("x")
    batch = folder / "test_batch.bin"
    os.utime(batch, ns=(1, 1))
    copy = tmp_path / "copy"  # as `cp` and a download leave it
    copy.write_bytes(batch.read_bytes())
    copy.replace(batch)
    assert sources.local_fingerprint(data) == first
    swap(batch, batch.read_bytes()[::-1])
    assert sources.local_fingerprint(data) != first
    # Two files that changed names.
    second = sources.local_fingerprint(data)
    one, other = folder / "data_batch_1.bin", folder / "data_batch_2.bin"
    contents = one.read_bytes(), other.read_bytes()
    assert contents[0] != contents[1]
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    assert sources.local_fingerprint(data) not in (first, second)


def test_fingerprint_of_an_archive_follows_its_content(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"1")
    data = DataConfig(name="cifar10", path=str(path))
    first = sources.local_fingerprint(data)
    os.utime(path, ns=(1, 1))
    assert sources.local_fingerprint(data) == first
    swap(path, b"2")
    assert sources.local_fingerprint(data) != first


def test_fingerprint_of_prepared_records_follows_their_content(tmp_path):
    folder = prepare(tmp_path)
    data = DataConfig(name="cifar10", tfds_dir=str(tmp_path))
    first = sources.local_fingerprint(data)
    records = folder / "cifar10-train.tfrecord-00001-of-00002"
    os.utime(records, ns=(1, 1))
    assert sources.local_fingerprint(data) == first
    swap(records, bytes(byte ^ 1 for byte in records.read_bytes()))
    assert sources.local_fingerprint(data) != first


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "cifar-10-binary.tar.gz")
    data = DataConfig(name="cifar10", path=str(tmp_path / "cifar-10-binary.tar.gz"))
    with pytest.raises(DataError, match="neither a file nor a folder"):
        sources.local_fingerprint(data)


def test_fingerprints_of_other_sources_differ(tmp_path):
    prepare(tmp_path)
    prints = {
        sources.local_fingerprint(data)
        for data in (
            DataConfig(name="digits"),
            DataConfig(name="cifar10", tfds_dir=str(tmp_path)),
            DataConfig(name="cifar100", tfds_dir=str(tmp_path)),
            DataConfig(name="cifar10", path="gs://bucket/folder"),
        )
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(name="cifar10", path="/no/where"), "no such file or folder"),
        (DataConfig(name="digits", path="/"), "has no path"),
        (DataConfig(name="cifar10", path="/"), "looked for data_batch_1"),
        (DataConfig(), "must be resolved"),
    ],
)
def test_fingerprint_refuses_at_once(data, message):
    with pytest.raises(DataError, match=message):
        sources.local_fingerprint(data)
