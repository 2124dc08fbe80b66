"""The authors' CIFAR files, found, verified and read: folders and archives, any form.

NumPy and the standard library only (object stores: see `storage`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from components.example_gen import archives, storage
from components.example_gen import layout as layouts
from components.example_gen.errors import DataError
from components.example_gen.formats import PARSERS, Records
from components.example_gen.layout import Layout
from contract.datasets import DATASETS
from contract.features import TEST, TRAIN


@dataclass(frozen=True, kw_only=True)
class Located:
    """Official files that have been found and checked."""

    path: str  # the folder that holds the files, or the archive
    is_archive: bool
    layout: Layout
    counts: dict[str, int]  # file name -> records
    verified: bool
    verification: str  # a sentence for reports
    sha256: str = ""  # of an archive


def inspect(path: str, dataset: str, *, allow_unverified: bool) -> Located:
    """Finds and verifies official files; whatever cannot be verified is read whole.

    Args:
        path: Folder, its parent, or .tar/.tar.gz archive; local or gs://. An archive
            in an object store is copied to a temporary file, and the copy is checked.
        dataset: "cifar10" or "cifar100".
        allow_unverified: Accept files whose checksum is not the published one.

    Raises:
        DataError: Nothing is there, it is not the data set, it is damaged, or it is
            unverified and that is not allowed.
    """
    with archives.nearby(path) as near:
        located = _inspect(near, dataset, allow_unverified=allow_unverified)
    if near == path:
        return located
    words = located.verification.replace(near, path)
    return dataclasses.replace(located, path=path, verification=words)


def read(located: Located, files: Collection[str]) -> Iterator[tuple[str, Records]]:
    """Yields (file name, chunk of records), validated, in the order of the source.

    An archive in an object store is copied to a temporary file first, and must still be
    the one that was inspected.

    Raises:
        DataError: A file is damaged; the message names it and the record.
    """
    with archives.nearby(located.path) as path:
        if path != located.path and storage.sha256(path) != located.sha256:
            raise DataError(f"{located.path}: was changed while it was read; run again")
        yield from _read(path, located.is_archive, located.layout, files)


def split_of(layout: Layout, name: str) -> str:
    """TRAIN or TEST, before the eval split is carved out."""
    return TEST if name in layout.test else TRAIN


def _inspect(path: str, dataset: str, *, allow_unverified: bool) -> Located:
    is_archive = not storage.is_folder(path)
    if not is_archive:
        folder, layout = layouts.find_folder(path, dataset, layouts.list_folders(path))
        path, actual = folder, ""
    else:
        actual = storage.sha256(path)
        layout = _layout_of_archive(path, dataset, actual)
    if is_archive and actual == layout.sha256:
        return Located(
            path=path,
            is_archive=True,
            layout=layout,
            counts=_official_counts(layout),
            verified=True,
            verification=f"SHA-256 of {os.path.basename(path)} is the published one",
            sha256=actual,
        )
    wrong = _first_unverified(path, is_archive, layout)
    if wrong is None:
        verified = True
        verification = f"MD5 of each file of {layout.folder} is the published one"
    elif allow_unverified:
        verified, verification = False, _unverified(layout, path, actual, wrong)
    else:
        raise DataError(
            f"{_unverified(layout, path, actual, wrong)}; take the official archive, "
            "or accept the data as they are with data.allow_unverified=true"
        )
    counts: dict[str, int] = dict.fromkeys(layout.files, 0)
    for name, records in _read(path, is_archive, layout):
        counts[name] += len(records.labels)
    found, official = sum(counts.values()), sum(_official_counts(layout).values())
    if not verified and found != official:
        verification += f"; {found:,} records instead of the official {official:,}"
    return Located(
        path=path,
        is_archive=is_archive,
        layout=layout,
        counts=counts,
        verified=verified,
        verification=verification,
        sha256=actual,
    )


def _read(
    path: str, is_archive: bool, layout: Layout, files: Collection[str] | None = None
) -> Iterator[tuple[str, Records]]:
    parse = PARSERS[layout.encoding]
    for name, payload in _payloads(path, is_archive, files or layout.files):
        for records in parse(payload, layout.dataset, os.path.join(path, name)):
            yield name, records


def _payloads(
    path: str, is_archive: bool, files: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Whole files by name; an archive in one pass, in its own order."""
    if is_archive:
        yield from archives.members(path, files)
        return
    for name in files:
        where = os.path.join(path, name)
        with storage.opened(where) as file:
            payload = file.read(archives.MAX_FILE_BYTES + 1)
        if len(payload) > archives.MAX_FILE_BYTES:
            raise DataError(
                f"{where}: larger than {archives.MAX_FILE_BYTES:,} bytes, no such file"
            )
        yield name, payload


def _layout_of_archive(path: str, dataset: str, sha256: str) -> Layout:
    for layout in layouts.LAYOUTS:
        if layout.sha256 == sha256 and layout.dataset == dataset:
            return layout
    return layouts.choose_layout(archives.member_names(path), dataset, path)


def _first_unverified(path: str, is_archive: bool, layout: Layout) -> str | None:
    """Name, actual and expected MD5 of the first file that is not as published."""
    if not layout.md5:
        return ""
    for name, payload in _payloads(path, is_archive, layout.files):
        actual = hashlib.md5(payload, usedforsecurity=False).hexdigest()
        if actual != layout.md5[name]:
            return f"{name} has MD5 {actual}, published is {layout.md5[name]}"
    return None


def _unverified(layout: Layout, path: str, actual: str, wrong: str) -> str:
    """Why a source counts as unverified, with actual and expected checksums."""
    published = f"{layout.archive} has SHA-256 {layout.sha256}"
    if actual:
        return f"{path}: SHA-256 is {actual}, but the published {published}"
    if wrong:
        return f"{path}: {wrong}"
    return (
        f"{path}: no checksum is published for extracted {layout.encoding} files "
        f"(only: {published})"
    )


def _official_counts(layout: Layout) -> dict[str, int]:
    entry = DATASETS[layout.dataset]
    train = dict.fromkeys(layout.train, entry.train_examples // len(layout.train))
    return train | dict.fromkeys(layout.test, entry.test_examples // len(layout.test))
