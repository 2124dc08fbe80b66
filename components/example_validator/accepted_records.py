"""Which statistics were accepted, as small files: the memory of flows without ML Metadata.

The ExampleValidator writes one record for each run whose data it accepts; on engines that
cannot ask ML Metadata, components/previous_statistics reads them. Each is an object of its
own that is never changed: an object store shows it whole or not at all, and two runs at
the same time cannot overwrite each other's.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from tfx.dsl.io import fileio

_SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Accepted statistics; the last three are custom properties of their artifact."""

    uri: str
    split_names: list[str]
    name: str  # of the data set
    examples_uri: str
    invariants_uri: str


def write(folder: str, record: Record) -> None:
    """Adds a record.

    Args:
        folder: Local or gs://; made if need be.
        record: What to keep.
    """
    now = datetime.datetime.now(datetime.UTC)
    # Names are in order of time; of the same microsecond, either may be the newer one.
    name = f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}{_SUFFIX}"
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, name), "w") as file:
        file.write(json.dumps(dataclasses.asdict(record)))


def newest_first(folder: str) -> Iterator[Record]:
    """All records, read one by one as they are asked for.

    Args:
        folder: As in `write`; one that is not there has no records.
    """
    if not fileio.isdir(folder):
        return
    for name in sorted(map(str, fileio.listdir(folder)), reverse=True):
        if name.endswith(_SUFFIX):
            with fileio.open(os.path.join(folder, name)) as file:
                yield Record(**json.loads(file.read()))
