"""From a source to validated records, wherever they are.

`plan` checks the source and describes it as pieces that workers read one by one; `read`
turns a piece into chunks. Both raise DataError with one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.example_gen import (
    digits,
    download,
    official_files,
    prepared,
    prepared_records,
    sources,
)
from components.example_gen.errors import DataError
from components.example_gen.formats import Records
from components.example_gen.official_files import Located
from components.example_gen.sources import Source
from contract.config.data import DataConfig
from contract.datasets import DATASETS
from contract.features import TEST, TRAIN

# Modules for what `sources.BUNDLED` names: `load` checks, `read` yields all of it.
_BUNDLED = {"digits": digits}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one worker reads in one go."""

    dataset: str
    splits: tuple[str, ...]  # TRAIN, TEST or both
    count: int  # records
    first: int  # records of the pieces before this one
    located: Located | None = None  # official files...
    files: tuple[str, ...] = ()  # ...of which these
    tfds_folder: str | None = None  # or a folder that tensorflow-datasets prepared
    # neither: one of _BUNDLED


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked source."""

    pieces: tuple[Piece, ...]
    source: str  # a phrase for reports: what and where
    verified: bool
    verification: str  # a sentence for reports
    downloaded: bool = False  # by this very run: before it there was nothing to look at

    @property
    def count(self) -> int:
        """All records."""
        return sum(piece.count for piece in self.pieces)


def plan(data: DataConfig) -> Plan:
    """Finds, downloads if need be, and verifies the source.

    Raises:
        DataError: The source cannot be used.
    """
    source = sources.find(data)
    if source.kind == "official":
        return _plan_official(data, source)
    if source.kind == "bundled":
        return _plan_bundled(data.name)
    return _plan_prepared(data, source)


def read(piece: Piece) -> Iterator[tuple[str, Records]]:
    """Yields (split, chunk) of a piece; split is "train" or "test".

    Raises:
        DataError: A record is not what it should be.
    """
    if piece.located is not None:
        for name, records in official_files.read(piece.located, piece.files):
            yield official_files.split_of(piece.located.layout, name), records
    elif piece.tfds_folder is not None:
        for split in piece.splits:
            for records in prepared_records.read(
                piece.tfds_folder, piece.dataset, split
            ):
                yield split, records
    else:
        yield from _BUNDLED[piece.dataset].read()


def _plan_official(data: DataConfig, source: Source) -> Plan:
    located = official_files.inspect(
        source.place, data.name, allow_unverified=data.allow_unverified
    )
    names = located.layout.files
    # An archive can only be read from its beginning: one piece.
    parts = [names] if located.is_archive else [(name,) for name in names]
    pieces, first = [], 0
    for part in parts:
        count = sum(located.counts[name] for name in part)
        splits = {official_files.split_of(located.layout, name) for name in part}
        pieces.append(
            Piece(
                dataset=data.name,
                splits=tuple(sorted(splits)),
                count=count,
                first=first,
                located=located,
                files=part,
            )
        )
        first += count
    kind = "archive" if located.is_archive else "folder"
    return Plan(
        pieces=tuple(pieces),
        source=f"{kind} {located.path} ({located.layout.encoding} form)",
        verified=located.verified,
        verification=located.verification,
    )


def _plan_bundled(name: str) -> Plan:
    _BUNDLED[name].load()  # checks
    entry = DATASETS[name]
    count = entry.train_examples + entry.test_examples
    piece = Piece(dataset=name, splits=(TRAIN, TEST), count=count, first=0)
    return Plan(
        pieces=(piece,),
        source=f"{sources.BUNDLED[name]}'s bundled {name}",
        verified=True,
        verification="SHA-256 of all pixels and labels is the expected one",
    )


def _plan_prepared(data: DataConfig, source: Source) -> Plan:
    found, root = source.prepared, source.place
    downloaded = source.kind == "download"
    if downloaded:
        download.prepare(data.name, root)
        found = prepared.find(data.name, root)
        if found is None:
            raise DataError(
                f"{root}: tensorflow-datasets prepared no {data.name} there"
            )
    if found is None:
        found = prepared.find_remote(data.name, root)
    pieces, first = [], 0
    for split in (TRAIN, TEST):
        pieces.append(
            Piece(
                dataset=data.name,
                splits=(split,),
                count=found.counts[split],
                first=first,
                tfds_folder=found.folder,
            )
        )
        first += found.counts[split]
    if downloaded:
        verification = (
            f"downloaded in this run from {download.url_of(data.name)}, SHA-256 as "
            f"published; prepared by tensorflow-datasets at {found.folder}"
        )
    else:
        verification = (
            f"prepared by tensorflow-datasets at {found.folder}; no checksum is "
            "published for prepared records"
        )
    return Plan(
        pieces=tuple(pieces),
        source=f"tensorflow-datasets {found.folder}",
        verified=downloaded,
        downloaded=downloaded,
        verification=verification,
    )
