"""From a source to validated images, wherever they are.

`plan` checks the source and describes it as pieces that workers read one by one; `read`
turns a piece into chunks. Both raise DataError with one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from components.example_gen import (
    digits,
    download,
    identity,
    official_files,
    own_files,
    own_records,
    own_tfds,
    prepared,
    prepared_records,
    reduction,
    sources,
)
from components.example_gen.errors import DataError
from components.example_gen.formats import Records
from components.example_gen.official_files import Located
from components.example_gen.own_files import Found
from components.example_gen.own_records import Item, Placed
from components.example_gen.sources import Source
from contract.config.data import DataConfig
from contract.datasets import DATASETS, Dataset
from contract.features import TEST, TRAIN

# Modules for what `sources.BUNDLED` names: `load` checks, `read` yields all of it.
_BUNDLED = {"digits": digits}
# Of one's own pictures, that a worker decodes one after the other: a second of work.
_OWN_FILES = 100


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one worker reads in one go."""

    dataset: str
    splits: tuple[str, ...]  # TRAIN, TEST or both; of own images one, EVAL too
    count: int  # records
    located: Located | None = None  # official files...
    files: tuple[str, ...] = ()  # ...of which these
    tfds_folder: str | None = None  # or a folder that tensorflow-datasets prepared
    root: str | None = None  # or where own images lie...
    own: tuple[Item, ...] = ()  # ...of which these
    # Of encoded ones: they are all of the file with this number, of so many.
    shard: tuple[int, int] | None = None
    # none of these: one of _BUNDLED


class Images(NamedTuple):
    """A chunk of images in the shape in which they are ingested."""

    pixels: np.ndarray  # uint8 [n, height * width * channels], row-major
    labels: np.ndarray  # int64 [n]
    coarse_labels: np.ndarray | None  # int64 [n], cifar100 only
    digests: np.ndarray  # uint8 [n, 32]: SHA-256 of published pixels, or of an own file
    unreadable: tuple[tuple[int, str], ...] = ()  # own images: label, what is wrong


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked source."""

    pieces: tuple[Piece, ...]
    dataset: Dataset  # with counts as expected
    source: str  # a phrase for reports: what and where
    verified: bool
    verification: str  # a sentence for reports
    downloaded: bool = False  # by this very run: before it there was nothing to look at
    own: tuple[Found, Placed] | None = None  # whose splits are decided

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
    if source.own is not None:
        return _plan_own(data, source.own)
    if source.kind == "official":
        return _plan_official(data, source)
    if source.kind == "bundled":
        return _plan_bundled(data)
    return _plan_prepared(data, source)


def read(piece: Piece, shape: reduction.Shape) -> Iterator[tuple[str, Images]]:
    """Yields (split, chunk) of a piece.

    Args:
        piece: Of a plan.
        shape: Height, width and channels in which images are ingested.

    Yields:
        The split is "train" or "test", and "eval" of own images.

    Raises:
        DataError: A record is not what it should be.
    """
    if piece.root is not None:
        own = own_records.read(piece.root, piece.own, shape)
        (split,) = piece.splits
        yield (
            split,
            Images(own.pixels, own.labels, None, own.digests, own.unreadable),
        )
        return
    for split, records in _published(piece):
        yield (
            split,
            Images(
                reduction.reduced(records.pixels, shape),
                records.labels,
                records.coarse_labels,
                identity.digests(records.pixels),
            ),
        )


def _published(piece: Piece) -> Iterator[tuple[str, Records]]:
    """The records of a piece in their published form."""
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


def _plan_own(data: DataConfig, found: Found) -> Plan:
    checksums = "images of one's own, which nothing published tells of"
    source = f"{found.kind} {found.path}"
    if found.records is not None:
        found = own_tfds.listed(found)
        checksums = "no checksum is published for prepared records"
        source += f" in {found.root}"
    placed = own_records.placed(found, data)
    own_records.judged(found, placed, (), data.unreadable_limit)  # before the long part
    if data.encoded:
        parts = own_records.sharded(placed, data.shards)
    else:
        parts = [
            (split, None, items[start : start + _OWN_FILES])
            for split, items in placed.splits.items()
            for start in range(0, len(items), _OWN_FILES)
        ]
    pieces = [
        Piece(
            dataset=data.name,
            splits=(split,),
            count=len(part),
            root=found.root,
            own=part,
            shard=shard,
        )
        for split, shard, part in parts
    ]
    return Plan(
        pieces=tuple(pieces),
        dataset=dataclasses.replace(
            own_files.described(found, data), digest=own_records.digest_of(placed)
        ),
        source=source,
        verified=False,
        verification=(
            f"{checksums}: {len(found.images):,} files, {placed.bytes:,} bytes, SHA-256 of "
            f"names and contents {placed.digest}"
        ),
        own=(found, placed),
    )


def _plan_official(data: DataConfig, source: Source) -> Plan:
    located = official_files.inspect(
        source.place, data.name, allow_unverified=data.allow_unverified
    )
    names = located.layout.files
    # An archive can only be read from its beginning: one piece.
    parts = [names] if located.is_archive else [(name,) for name in names]
    pieces = []
    for part in parts:
        splits = {official_files.split_of(located.layout, name) for name in part}
        pieces.append(
            Piece(
                dataset=data.name,
                splits=tuple(sorted(splits)),
                count=sum(located.counts[name] for name in part),
                located=located,
                files=part,
            )
        )
    kind = "archive" if located.is_archive else "folder"
    return Plan(
        pieces=tuple(pieces),
        dataset=sources.expected(data),
        source=f"{kind} {located.path} ({located.layout.encoding} form)",
        verified=located.verified,
        verification=located.verification,
    )


def _plan_bundled(data: DataConfig) -> Plan:
    name = data.name
    _BUNDLED[name].load()  # checks
    entry = DATASETS[name]
    count = entry.train_examples + entry.test_examples
    piece = Piece(dataset=name, splits=(TRAIN, TEST), count=count)
    return Plan(
        pieces=(piece,),
        dataset=sources.expected(data),
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
    pieces = tuple(
        Piece(
            dataset=data.name,
            splits=(split,),
            count=found.counts[split],
            tfds_folder=found.folder,
        )
        for split in (TRAIN, TEST)
    )
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
        pieces=pieces,
        dataset=sources.expected(data),
        source=f"tensorflow-datasets {found.folder}",
        verified=downloaded,
        downloaded=downloaded,
        verification=verification,
    )
