import gzip
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen import archives
from tests.components.example_gen import official
from tests.components.example_gen.test_official_files import collect, refusal


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


def test_gzip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(b"no archive" * 100))
    assert "not a readable .tar or .tar.gz archive" in refusal(path)
