"""Can the metadata in an output folder be used? Known before anything heavy is loaded.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Literal

from contract import paths
from contract.fields import ConfigError

_WAIT_SECONDS = 2.0


def path(output_root: str) -> str:
    """ML Metadata's SQLite file of an output folder."""
    return os.path.join(output_root, "metadata.sqlite")


def copy(output_root: str, target: str) -> None:
    """Copies the metadata as they are now, also while a run writes them; changes nothing.

    Args:
        output_root: May have none, or not be there: then there is no copy either.
        target: A new file.

    Raises:
        ConfigError: They cannot be read.
    """
    database = path(output_root)
    if not os.path.lexists(database):
        return
    if not os.path.isfile(database):
        raise _unreadable(output_root, OSError("unable to open what is no file"))
    try:
        with (
            contextlib.closing(_connected(database, "ro")) as source,
            contextlib.closing(sqlite3.connect(target)) as copied,
        ):
            source.backup(copied)
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise _unreadable(output_root, error) from None
        # What a killed process left unfinished must be undone first: in the copy.
        try:
            for suffix in ("", "-journal", "-wal"):
                if suffix == "" or os.path.exists(database + suffix):
                    shutil.copyfile(database + suffix, target + suffix)
        except OSError:
            raise _unreadable(output_root, error) from None


def check(output_root: str, copied: str | None = None) -> None:
    """Refuses metadata that are damaged, or that are not those of the artifacts.

    ML Metadata numbers what it is told of, and TFX names folders of artifacts so: metadata
    that do not know a folder would give its number again, to a component that would write
    between the old files.

    Args:
        output_root: The folder.
        copied: A copy of its metadata, to look at instead.

    Raises:
        ConfigError: One sentence.
    """
    database = path(output_root)
    if not os.path.lexists(copied or database):
        newest = 0
    else:
        try:
            newest = _newest_execution(copied or database)
        except (sqlite3.Error, OSError) as error:
            raise _unreadable(output_root, error) from None
    for folder in Path(output_root, "artifacts").glob("*/*/*"):
        if folder.name.isdecimal() and int(folder.name) > newest:
            raise ConfigError(
                f"output_root={output_root}: {folder} is not recorded in "
                f"{os.path.basename(database)}, which is missing or older; put back the "
                "one that belongs to these artifacts, or move the folder artifacts away"
            )


def _unreadable(output_root: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"output_root={output_root}: {path(output_root)} cannot be read ({error}); if no "
        "other program holds it, put a copy of it back, or move the whole folder away"
    )


def _connected(database: str, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    uri = f"file:{urllib.parse.quote(database)}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS)


def _newest_execution(database: str) -> int:
    """The number of the execution recorded last; 0 if there is none."""
    # Not read-only: what a killed process left unfinished must be undone first.
    with contextlib.closing(_connected(database, "rw")) as connection:
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
