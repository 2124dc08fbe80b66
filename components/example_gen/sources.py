"""Which source a configuration means, and a digest of what lies there.

    data.name          otherwise given         source
    digits             nothing                 scikit-learn's bundled digits
    folder             data.path               one's own images: a folder, a .tar, a .csv
    folder             data.tfds               as these, any set that is prepared in
                                               data.tfds_dir
    cifar10, cifar100  data.path               the authors' files: a folder or an archive
    cifar10, cifar100  data.tfds_dir, or its   what tensorflow-datasets has prepared there,
                       default                 else a download to there

With data.extra the labelled images there belong to it as well. What a wrong path needs to be
refused in milliseconds stands here; object stores are asked by `fingerprint` alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.example_gen import layout as layouts
from components.example_gen import own_files, own_tfds, prepared, storage
from components.example_gen.errors import DataError
from components.example_gen.own_files import Found
from components.example_gen.prepared import Prepared
from contract.config.data import DataConfig
from contract.datasets import DATASETS, Dataset, known

# Data sets that a package brings along -> that package, whose version stands for them.
BUNDLED = {"digits": "scikit-learn"}
_NAMED_FILES = 64  # in a fingerprint


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the images of a configuration are."""

    kind: Literal["bundled", "official", "prepared", "download", "own"]
    key: tuple[str, ...]  # what tells it from other sources, besides the contents
    place: str = ""  # data.path, or the folder of tensorflow-datasets
    files: tuple[str, ...] = ()  # on this machine
    names: tuple[str, ...] = ()  # of these, in the digest; none: their last names
    objects: str = ""  # the address of what is in an object store
    prepared: Prepared | None = None  # if it is, on this machine
    own: Found | None = None  # images of one's own


def find(data: DataConfig) -> Source:
    """Finds the source without reading it.

    Args:
        data: With `name` resolved (not "auto").

    Raises:
        DataError: There is no such path, it is not the data set named, or a prepared
            folder is damaged.
    """
    if data.name == "auto":
        raise DataError("data.name=auto must be resolved before the data are looked at")
    if (found := _found(data)) is not None:
        return _own(found)
    if data.path is not None:
        return _official(data.name, data.path)
    if data.name in BUNDLED:
        from importlib import metadata  # 20 ms, needed only here

        version = metadata.version(BUNDLED[data.name])
        return Source(kind="bundled", key=(data.name, version))
    return _tensorflow_datasets(data.name, prepared.root_of(data.tfds_dir))


def expected(data: DataConfig) -> Dataset:
    """The data set as it will be ingested, as far as that is known beforehand.

    Args:
        data: With `name` resolved (not "auto").

    Returns:
        With counts of test and of train, from which eval is still to be carved; one's own
        images may have an eval already.

    Raises:
        ValueError: Label, size or channels are not to be had of it; one sentence. A
            DataError, if one's own images cannot be used.
    """
    if (found := _found(data)) is not None:
        return own_files.described(found, data)
    if data.encoded:
        raise ValueError(
            f"data.encoded=true: is for images of one's own (data.name={own_files.NAME}), and "
            f"those of {data.name} are pixels; leave it out"
        )
    return known(
        data.name, data.label, image_size=data.image_size, channels=data.channels
    )


def local_fingerprint(data: DataConfig) -> str:
    """A digest of what the source holds, so that caches notice every change of it.

    Of files, names and contents: another time or place of the same bytes is no change,
    and other bytes of the same size and time are one. Data in an object store are
    represented by their address alone.

    Args:
        data: With `name` resolved (not "auto").

    Returns:
        32 hexadecimal digits; behind these, so that a file that has changed can be named,
        " NAME:DIGEST" of each if they are few.

    Raises:
        DataError: As `find`; also if a file cannot be read.
    """
    return _of_files(find(data), _extra_files(data))


def fingerprint(data: DataConfig, known: str = "") -> str:
    """As `local_fingerprint`, which of an object store knows the address alone.

    This one also asks for names, sizes and times of the objects, so that new data at an
    old address are noticed; it loads TensorFlow for that.

    Args:
        data: With `name` resolved (not "auto").
        known: What `local_fingerprint` has just said: the files are not read again.

    Raises:
        DataError: As there; also if nothing is at the address.
    """
    source = find(data)
    known = known or _of_files(source, _extra_files(data))
    remote = [source.objects] if source.objects else []
    if data.extra is not None and storage.is_remote(data.extra):
        remote.append(data.extra)
    if not remote:
        return known
    return _digest([known, *map(storage.objects, remote)])


def no_such_path(path: str) -> str:
    """The refusal of a data.path where nothing is."""
    titles = " or ".join(DATASETS[name].title for name in ("cifar10", "cifar100"))
    return (
        f"data.path={path}: there is no such file or folder; give the folder or "
        f"archive of {titles}, or leave data.path out"
    )


def _found(data: DataConfig) -> Found | None:
    """Images of one's own; None: the configuration names another data set."""
    if data.tfds is None:
        return own_files.find(data.path) if data.name == own_files.NAME else None
    if data.name != own_files.NAME:
        raise DataError(
            f"data.tfds={data.tfds}: is a data set by itself, and data.name={data.name} "
            "another one; leave one of them out"
        )
    if data.path is not None:
        raise DataError(
            f"data.path={data.path}: data.tfds={data.tfds} is read from data.tfds_dir; give "
            "its folder as data.tfds_dir, and leave data.path out"
        )
    return own_tfds.find(data.tfds, prepared.root_of(data.tfds_dir))


def _own(found: Found) -> Source:
    """Of a folder all images with their names in it; of a table that file as well."""
    if found.records is not None:
        return Source(
            kind="own",
            key=("own", found.kind, found.path),
            place=found.root,
            files=found.records.files,
            own=found,
        )
    if found.kind == "archive":
        files, names = [found.path], ["archive"]
    else:
        names = [image.name for image in found.images]
        files = [os.path.join(found.root, name) for name in names]
    if found.kind == "table":
        files, names = [found.path, *files], ["table", *names]
    return Source(
        kind="own",
        key=("own", found.kind, os.path.basename(found.path)),
        place=found.path,
        files=tuple(files),
        names=tuple(names),
        own=found,
    )


def _tensorflow_datasets(dataset: str, root: str) -> Source:
    if storage.is_remote(root):
        return Source(
            kind="prepared",
            key=("remote", dataset, root),
            place=root,
            objects=f"{root.rstrip('/')}/{dataset}",
        )
    found = prepared.find(dataset, root)
    if found is None:
        return Source(kind="download", key=("to be downloaded", dataset), place=root)
    return Source(
        kind="prepared",
        key=("prepared", dataset),
        place=root,
        files=found.files,
        prepared=found,
    )


def _official(dataset: str, path: str) -> Source:
    if dataset in BUNDLED:
        raise DataError(
            f"data.path={path}: data.name={dataset} is bundled with {BUNDLED[dataset]} and "
            "has no path; leave data.path out, or set data.name=cifar10 or cifar100"
        )
    if storage.is_remote(path):
        key = ("remote", dataset, path)
        return Source(kind="official", key=key, place=path, objects=path)
    if not os.path.exists(path):
        raise DataError(no_such_path(path))
    if os.path.isfile(path):
        key = ("archive", dataset)
        return Source(kind="official", key=key, place=path, files=(path,))
    if not os.path.isdir(path):
        raise DataError(
            f"data.path={path}: is neither a file nor a folder; give the folder or the "
            "archive itself"
        )
    try:
        listing = layouts.list_folders(path)
    except OSError as error:
        raise DataError(
            f"data.path={path}: cannot be read ({error.strerror}); change its "
            "permissions or take another folder"
        ) from None
    folder, layout = layouts.find_folder(path, dataset, listing)
    files = tuple(os.path.join(folder, name) for name in layout.files)
    return Source(kind="official", key=("folder", dataset), place=path, files=files)


def _extra_files(data: DataConfig) -> dict[str, str]:
    """Those of data.extra on this machine, by name, once they fit the data set."""
    if data.extra is None or storage.is_remote(data.extra):
        return {}
    from components.example_gen import extra  # NumPy, needed only here

    found = extra.files(data.extra)
    extra.check(data, expected(data))
    return {f"data.extra/{os.path.basename(file)}": file for file in found}


def _of_files(source: Source, more: Mapping[str, str]) -> str:
    remedy = "change its permissions, or take other data"
    names = source.names or [os.path.basename(file) for file in source.files]
    files = [*zip(names, source.files, strict=True), *more.items()]
    contents = [(name, storage.sha256(file, remedy=remedy)) for name, file in files]
    digest = _digest([*source.key, *contents])
    if len(contents) > _NAMED_FILES:
        return digest
    named = (f"{urllib.parse.quote(name)}:{sha[:12]}" for name, sha in contents)
    return " ".join([digest, *named])


def _digest(value: list[object]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
