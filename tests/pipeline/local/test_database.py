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
