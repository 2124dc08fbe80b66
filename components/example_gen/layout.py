"""The official CIFAR files: names, record sizes, published checksums, where to look.

Standard library only: the command line uses it before anything heavy is imported.
Formats: https://www.cs.toronto.edu/~kriz/cifar.html. SHA-256 of the archives as
published by tensorflow-datasets (binary) and Keras (python), MD5 of the files inside
the python archives as published by torchvision.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from components.example_gen import storage
from components.example_gen.errors import DataError
from contract.datasets import DATASETS


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form in which the authors publish one data set."""

    dataset: str
    encoding: Literal["binary", "python"]
    folder: str  # inside the archive
    archive: str
    sha256: str  # of the archive
    train: tuple[str, ...]
    test: tuple[str, ...]
    md5: Mapping[str, str] = field(
        default_factory=dict
    )  # of the files, where published

    @property
    def files(self) -> tuple[str, ...]:
        """All record files, train first."""
        return self.train + self.test


LAYOUTS = (
    Layout(
        dataset="cifar10",
        encoding="python",
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test=("test_batch",),
        md5={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
    Layout(
        dataset="cifar10",
        encoding="binary",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
    ),
    Layout(
        dataset="cifar100",
        encoding="python",
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        train=("train",),
        test=("test",),
        md5={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
    ),
    Layout(
        dataset="cifar100",
        encoding="binary",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        train=("train.bin",),
        test=("test.bin",),
    ),
)
KNOWN_FILES = frozenset(name for layout in LAYOUTS for name in layout.files)


def layouts_of(dataset: str) -> tuple[Layout, ...]:
    """The published forms of one data set."""
    return tuple(layout for layout in LAYOUTS if layout.dataset == dataset)


def choose_layout(names: Collection[str], dataset: str, where: str) -> Layout:
    """Finds which published form a set of file names is.

    Args:
        names: Names without folders; others than CIFAR's do not matter.
        dataset: "cifar10" or "cifar100".
        where: What the names were found in, for messages.

    Raises:
        DataError: A batch is missing, it is the other data set, or nothing is known.
    """
    present = set(names)
    for layout in layouts_of(dataset):
        if present.issuperset(layout.files):
            return layout
    for layout in layouts_of(dataset):
        if missing := _partly(layout.files, present):
            raise DataError(
                f"{where}: {', '.join(missing)} missing ({layout.folder} has "
                f"{', '.join(layout.files)}); copy or unpack the archive again"
            )
    for layout in LAYOUTS:
        if present.issuperset(layout.files):
            raise DataError(
                f"{where}: these are the files of {DATASETS[layout.dataset].title} "
                f"({', '.join(layout.files)}), not of {DATASETS[dataset].title}; set "
                f"data.name={layout.dataset} or another data.path"
            )
    looked_for = " or ".join(
        f"{layout.files[0]} ({layout.encoding} form)" for layout in layouts_of(dataset)
    )
    raise DataError(
        f"{where}: no {DATASETS[dataset].title} here; looked for {looked_for}, found "
        f"{_some(names)}; set data.path to the folder or archive with these files"
    )


def find_folder(
    path: str, dataset: str, listing: Mapping[str, Collection[str]]
) -> tuple[str, Layout]:
    """Finds the data set in a folder or in the official folder inside it.

    Args:
        path: The folder as the user named it.
        dataset: "cifar10" or "cifar100".
        listing: Folder -> names of its files, for `path` and the official subfolders
            that exist (see `list_folders`).

    Returns:
        The folder that holds the files, and their layout.

    Raises:
        DataError: As `choose_layout`.
    """
    with_files = {
        folder: names for folder, names in listing.items() if KNOWN_FILES & set(names)
    }
    refusals: list[DataError] = []
    for folder, names in with_files.items():
        try:
            return folder, choose_layout(names, dataset, folder)
        except DataError as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    found = [name for names in listing.values() for name in names]
    return path, choose_layout(found, dataset, path)  # raises: nothing known is here


def list_folders(path: str) -> dict[str, list[str]]:
    """Names of the files of a folder and of the official folders inside it."""
    inside = [os.path.join(path, layout.folder) for layout in LAYOUTS]
    folders = [path, *filter(storage.is_folder, inside)]
    return {folder: storage.file_names(folder) for folder in folders}


def _partly(wanted: Iterable[str], present: set[str]) -> list[str]:
    """What is missing, if something is there; else nothing."""
    missing = [name for name in wanted if name not in present]
    return missing if len(missing) < len(tuple(wanted)) else []


def _some(names: Collection[str], limit: int = 6) -> str:
    if not names:
        return "no files"
    listed = sorted(names)[:limit]
    more = len(names) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")
