"""What data.name=auto stands for: asked once, before a run.

Standard library only, so that a wrong path is refused in milliseconds.
"""

from __future__ import annotations

import os

from components.example_gen import download, own_files, prepared, sources, storage
from components.example_gen import layout as layouts
from components.example_gen.errors import DataError


def resolve_auto(
    tfds_dir: str | None, timeout_seconds: float = 5, *, path: str | None = None
) -> tuple[str, str]:
    """Decides what data.name=auto stands for.

    Args:
        tfds_dir: Folder of tensorflow-datasets; None: its default in the home folder.
        timeout_seconds: Longest wait for an answer from the network.
        path: data.path, if given: it decides alone.

    Returns:
        Name of the data set, and one sentence with the reason.

    Raises:
        DataError: `path` holds neither CIFAR-10 nor CIFAR-100 nor folders of pictures.
    """
    if path is not None:
        return _dataset_at(path)
    root = prepared.root_of(tfds_dir)
    if storage.is_remote(root):
        return "cifar10", f"data.tfds_dir={root} is given"
    try:
        found = prepared.find("cifar10", root)
    except DataError as error:
        return "digits", f"CIFAR-10 on disk is damaged: {error}"
    if found:
        return "cifar10", f"CIFAR-10 is prepared in {found.folder}"
    trouble = download.trouble("cifar10", timeout_seconds)
    if trouble is None:
        return "cifar10", "CIFAR-10 can be downloaded"
    return (
        "digits",
        f"CIFAR-10 is not in {root} and cannot be downloaded ({trouble}); the digits "
        "need no download",
    )


def _dataset_at(path: str) -> tuple[str, str]:
    for layout in layouts.LAYOUTS:
        stem = layout.archive.removesuffix(".tar.gz")
        if os.path.basename(path.rstrip("/")).startswith((stem, layout.folder)):
            return layout.dataset, f"data.path={path} is named like it"
    if not storage.is_remote(path) and os.path.isdir(path):
        return _dataset_in(path)
    if not storage.is_remote(path) and not os.path.exists(path):
        raise DataError(sources.no_such_path(path))
    if not storage.is_remote(path) and own_files.is_likely(path):
        return (
            own_files.NAME,
            f"data.path={path} is an archive or a table of pictures by its name",
        )
    raise DataError(
        f"data.path={path}: cannot tell which data set this is; set data.name=cifar10, "
        f"data.name=cifar100 or, for your own images, data.name={own_files.NAME}"
    )


def _dataset_in(path: str) -> tuple[str, str]:
    """The data set of a local folder, or the one refusal that no data.name would change."""
    listing = layouts.list_folders(path)
    refusals: dict[str, DataError] = {}
    for dataset in ("cifar10", "cifar100"):
        try:
            folder, _ = layouts.find_folder(path, dataset, listing)
        except DataError as refusal:
            refusals[dataset] = refusal
        else:
            return dataset, f"its files are in {folder}"
    present = {name for names in listing.values() for name in names}
    for layout in layouts.LAYOUTS:
        if present.intersection(layout.files):  # some are missing; it says which
            raise refusals[layout.dataset]
    if own_files.is_likely(path):
        return own_files.NAME, "its folders hold pictures"
    firsts = ", ".join(layout.files[0] for layout in layouts.LAYOUTS)
    raise DataError(
        f"data.path={path}: cannot tell which data set this is: no file of CIFAR-10 or "
        f"CIFAR-100 ({firsts}, ...) lies there, and no folder of pictures; set data.path to "
        "the published archive, to its folder, or to a folder with a folder for each class"
    )
