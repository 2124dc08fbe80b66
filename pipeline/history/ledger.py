"""What the ledger knows of published versions, for output folders in object storage.

In: the ledger beside the versions (components/atomic_pusher/ledger.py). Out: all published
versions, one with its entry, or, for a rollback, one more of them.

Loads google-cloud-storage when a folder is opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from components.atomic_pusher import ledger, object_storage
from components.atomic_pusher.ledger import Entry, Folder
from components.atomic_pusher.publish import PublishError
from pipeline.history.published import (
    HistoryError,
    Places,
    Published,
    find,
    refuse_in_service,
)


def read(where: Places) -> list[Published]:
    """All published versions, newest first.

    Raises:
        HistoryError: The folder cannot be read.
    """
    with _one_sentence(where):
        folder = ledger.open_folder(where.destination)
        return _published(folder, ledger.published(folder)[1])


def lineage(where: Places, version: int) -> dict[str, Any]:
    """One version and all that its ledger entry says, for JSON.

    Raises:
        HistoryError: The folder cannot be read, or there is no such version.
    """
    with _one_sentence(where):
        folder = ledger.open_folder(where.destination)
        _, entries = ledger.published(folder)
        chosen = find(_published(folder, entries), version, where)
        entry = _entry(entries, version)
    origin = dataclasses.asdict(entry.origin)
    return {
        **chosen.to_dict(),
        "config": origin.pop("config"),
        "commit": origin.pop("commit"),
        "previous": entry.previous,
        "origin": origin,
        "registered": entry.registered,
        "files": {name: dataclasses.asdict(f) for name, f in entry.files.items()},
    }


def rollback(where: Places, version: int) -> Published:
    """Publishes an earlier version again, as a new one, with an entry in the ledger.

    Raises:
        HistoryError: There is no such version, it is in service already, no whole copy of
            it is left, or another version was published meanwhile.
    """
    with _one_sentence(where):
        folder = ledger.open_folder(where.destination)
        served, entries = ledger.published(folder)
        history = _published(folder, entries)
        refuse_in_service(history, find(history, version, where))
        new = object_storage.roll_back(folder, _entry(entries, version), served)
        return _describe(folder, new, exists=True, in_service=True)


def _published(folder: Folder, entries: list[Entry]) -> list[Published]:
    there = ledger.are_there(folder, entries)
    serving = ledger.entry_in_service(entries, there)
    return [
        _describe(folder, each, exists=exists, in_service=each is serving)
        for each, exists in zip(entries, there, strict=True)
    ]


def _entry(entries: list[Entry], version: int) -> Entry:
    return next(each for each in entries if each.version == version)


def _describe(
    folder: Folder, entry: Entry, *, exists: bool, in_service: bool
) -> Published:
    origin = entry.origin
    return Published(
        version=entry.version,
        artifact_id=None,
        pushed=entry.published,
        path=folder.version_uri(entry.version),
        exists=exists,
        in_service=in_service,
        by="rollback" if entry.rollback_of else "run",
        rollback_of=entry.rollback_of,
        network=origin.network,
        role=origin.role,
        eval_error=_share(origin.metrics.get("error")),
        ci95=_bounds(origin.metrics.get("ci95")),
        reason=origin.reason,
        dataset=origin.dataset,
        run=origin.run,
    )


def _share(value: Any) -> float | None:
    """A fraction that was read from a file; None for all that is none."""
    fits = type(value) in (int, float) and 0 <= value <= 1
    return float(value) if fits else None


def _bounds(value: Any) -> tuple[float, float] | None:
    """An interval of fractions that was read from a file; None for all that is none."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = map(_share, value)
    return None if low is None or high is None else (low, high)


@contextlib.contextmanager
def _one_sentence(where: Places) -> Iterator[None]:
    try:
        with ledger.errors(f"{where.destination} cannot be read"):
            yield
    except PublishError as error:
        raise HistoryError(str(error)) from error
