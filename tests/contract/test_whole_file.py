"""Files are there whole, with their rights, or as they were."""

import os

import pytest

from contract import whole_file


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_file_and_nothing_beside_it(tmp_path, mode):
    before = os.umask(0o077)
    try:
        for content in (b"first", b"second"):
            whole_file.write(tmp_path / "a.json", content, mode)
            assert (tmp_path / "a.json").read_bytes() == content
    finally:
        os.umask(before)
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode


def test_an_error_leaves_what_was_there(tmp_path, monkeypatch):
    whole_file.write(tmp_path / "a.json", b"first")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        whole_file.write(tmp_path / "a.json", b"second")
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"first"
