"""Can the metadata in an output folder be used? Known before anything heavy is loaded.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import urllib.parse
from pathlib import Path

from contract import paths
from contract.fields import ConfigError

_WAIT_SECONDS = 2.0


def path(output_root: str) -> str:
    """ML Metadata's SQLite file of an output folder."""
    return os.path.join(output_root, "metadata.sqlite")


def check(output_root: str) -> None:
    """Refuses metadata that are damaged, or that are not those of the artifacts.

    ML Metadata numbers what it is told of, and TFX names folders of artifacts so: metadata
    that do not know a folder would give its number again, to a component that would write
    between the old files.

    Raises:
        ConfigError: One sentence.
    """
    database = path(output_root)
    if not os.path.lexists(database):
        newest = 0
    else:
        try:
            newest = _newest_execution(database)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"output_root={output_root}: {database} cannot be read ({error}); if no "
                "other program holds it, put a copy of it back, or move the whole folder "
                "away"
            ) from None
    for folder in Path(output_root, "artifacts").glob("*/*/*"):
        if folder.name.isdecimal() and int(folder.name) > newest:
            raise ConfigError(
                f"output_root={output_root}: {folder} is not recorded in "
                f"{os.path.basename(database)}, which is missing or older; put back the "
                "one that belongs to these artifacts, or move the folder artifacts away"
            )


def _newest_execution(database: str) -> int:
    """The number of the execution recorded last; 0 if there is none."""
    # Not read-only: what a killed process left unfinished must be undone first.
    uri = f"file:{urllib.parse.quote(database)}?mode=rw"
    with contextlib.closing(
        sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS)
    ) as connection:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(" ".join(answer.split()))
        # A view or a trigger is a program, which may never end; ML Metadata makes none.
        kinds = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
        odd = connection.execute(f"{kinds} OR sql LIKE 'CREATE VIRTUAL%'").fetchone()
        if odd is not None:
            raise sqlite3.DatabaseError(
                f"{paths.shown(odd[0])} in it is no plain table"
            )
        tables = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'Execution'"
        )
        if tables.fetchone() is None:
            return 0
        (newest,) = connection.execute("SELECT max(id) FROM Execution").fetchone()
        if not isinstance(newest, int | None):
            raise sqlite3.DatabaseError("an execution's id in it is no number")
        return newest or 0
