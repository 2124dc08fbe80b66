"""What was published, from whichever store records it: the one way in.

Versions on a disk are recorded in their output folder's ML Metadata (metadata.py,
rollback.py), versions in object storage in the ledger beside them (ledger.py).
"""

from __future__ import annotations

from typing import Any

from pipeline.history import ledger, metadata, published
from pipeline.history import rollback as local
from pipeline.history.published import Places, Published


def read(where: Places) -> list[Published]:
    """All published versions, newest first.

    Raises:
        HistoryError: There is no metadata, or it cannot be read.
    """
    return ledger.read(where) if where.remote else metadata.read(where)


def in_service(where: Places) -> dict[str, Any] | None:
    """What is in service in a run's serving folder; see published.py.

    Raises:
        HistoryError: As `read`.
    """
    return published.in_service(read(where), where)


def lineage(where: Places, version: int) -> dict[str, Any]:
    """One version with all that it came from, as far as it is recorded, for JSON.

    Raises:
        HistoryError: As `read`, or there is no such version.
    """
    store = ledger if where.remote else metadata
    return store.lineage(where, version)


def rollback(where: Places, version: int) -> Published:
    """Publishes an earlier version again, as a new one, and records it.

    Raises:
        HistoryError: There is no such version, it is in service already, no whole copy of
            it is left, or another version was published meanwhile.
        pipeline.local.exclusive.FolderInUse: A run is going on.
    """
    store = ledger if where.remote else local
    return store.rollback(where, version)
