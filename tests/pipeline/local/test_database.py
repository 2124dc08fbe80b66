"""Metadata files that are programs, or of other types: refused at once."""

import sqlite3
import subprocess
import sys

import pytest

from pipeline.local import database

ENDLESS = (
    "WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM c) SELECT id FROM c"
)
CHECK = """
import sys
from contract.fields import ConfigError
from pipeline.local import database

try:
    print("taken", database.check(sys.argv[1]))
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (f"CREATE VIEW Execution AS {ENDLESS}", "Execution in it is no plain table"),
        (
            "CREATE TABLE Execution (id); CREATE TRIGGER Mine AFTER INSERT ON Execution "
            f"BEGIN INSERT INTO Execution {ENDLESS}; END",
            "Mine in it is no plain table",
        ),
        (
            "CREATE VIRTUAL TABLE Execution USING fts5(id)",
            "Execution in it is no plain",
        ),
        (
            f'CREATE VIEW "\x1b[2J\n" AS {ENDLESS}; CREATE TABLE Execution (id)',
            "in it is no plain table",
        ),
        (
            "CREATE TABLE Execution (id); INSERT INTO Execution VALUES ('x')",
            "id in it is no number",
        ),
    ],
)
def test_a_database_that_is_a_program_is_refused_at_once(tmp_path, sql, words):
    (tmp_path / "artifacts/Node/key/1").mkdir(parents=True)
    connection = sqlite3.connect(database.path(str(tmp_path)))
    connection.executescript(sql)
    connection.close()
    done = subprocess.run(
        [sys.executable, "-c", CHECK, tmp_path],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert words in done.stdout
    assert done.stdout.rstrip("\n").isprintable()


def metadata(folder, rows: int) -> sqlite3.Connection:
    connection = sqlite3.connect(database.path(str(folder)))
    connection.execute("CREATE TABLE Execution (id INTEGER)")
    connection.executemany(
        "INSERT INTO Execution VALUES (?)", [(n,) for n in range(rows)]
    )
    connection.commit()
    return connection


def count(path) -> int:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("SELECT count(*) FROM Execution").fetchone()
    connection.close()
    return found


def files(folder) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def test_a_copy_changes_nothing(tmp_path):
    folder, target = tmp_path / "output", tmp_path / "copy.sqlite"
    folder.mkdir()
    database.copy(str(folder), str(target))
    assert not target.exists() and not list(folder.iterdir())
    metadata(folder, 5).close()
    before = files(folder)
    database.copy(str(folder), str(target))
    assert count(target) == 5
    assert files(folder) == before


def test_a_copy_is_of_whole_transactions_while_somebody_writes(tmp_path):
    target = tmp_path / "copy.sqlite"
    (tmp_path / "output").mkdir()
    writer = metadata(tmp_path / "output", 5)
    writer.execute("INSERT INTO Execution VALUES (6)")  # and has not ended
    database.copy(str(tmp_path / "output"), str(target))
    assert count(target) == 5
    writer.commit()
    writer.close()


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that it writes before it commits
connection.execute("BEGIN")
connection.executemany("INSERT INTO Execution VALUES (?)", [(n,) for n in range(50000)])
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_program_left_unfinished_is_undone_in_the_copy_alone(tmp_path):
    folder, target = tmp_path / "output", tmp_path / "copy.sqlite"
    folder.mkdir()
    metadata(folder, 5).close()
    path = database.path(str(folder))
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
    before = files(folder)
    assert f"{path.rpartition('/')[2]}-journal" in before
    database.copy(str(folder), str(target))
    assert count(target) == 5
    assert files(folder) == before
    assert database.check(str(folder), str(target)) is None
    assert count(path) == 5  # it would have been undone there, too
