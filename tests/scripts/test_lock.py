"""The lock files, and what scripts/lock.py makes of uv's."""

import pathlib

from scripts import environment, lock

PROJECT = pathlib.Path(__file__).parents[2]


def test_the_locks_are_current():
    assert lock.is_current(lock.RUNTIME) and lock.is_current(lock.DEVELOPMENT)


def test_the_locks_name_no_address_and_hash_every_package():
    for name in environment.LOCKS:
        text = (PROJECT / name).read_text()
        assert "://" not in text and "--index" not in text
        entries = [line for line in text.splitlines() if "==" in line.split(" ")[0]]
        assert entries and all(line.endswith("\\") for line in entries)


def test_a_changed_table_makes_a_lock_stale(tmp_path, monkeypatch):
    tables = (PROJECT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(tables)
    lines = (PROJECT / lock.RUNTIME).read_text()
    (tmp_path / lock.RUNTIME).write_text(lines)
    monkeypatch.setattr(lock, "PROJECT", str(tmp_path))
    assert lock.is_current(lock.RUNTIME)
    changed = tables.replace("dependencies = [", 'dependencies = [\n    "absl-py",', 1)
    (tmp_path / "pyproject.toml").write_text(changed)
    assert not lock.is_current(lock.RUNTIME)
    assert lock.main(["--check"]) == 1


def test_the_marker_of_every_supported_machine_is_left_out():
    text = (
        "a==1 ; x == '1' or x == '2' \\\n    --hash=sha256:0\n"
        "b==1 ; x == '1' or x == '2' \\\n    --hash=sha256:0\n"
        "c==1 ; x == '1' \\\n    --hash=sha256:0\n"
    )
    assert lock.without_common_marker(text) == (
        "a==1 \\\n    --hash=sha256:0\n"
        "b==1 \\\n    --hash=sha256:0\n"
        "c==1 ; x == '1' \\\n    --hash=sha256:0\n"
    )
