"""Which images are predicted, in which parts, and where the answers go.

A part is a few hundred images and one file of answers, which appears whole or not at all.
So whatever stops the work, started again it does the parts that are missing: nothing is
lost, and nothing is answered twice. Folders are local or in a bucket; of a local one this
file needs the standard library alone.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.fields import ConfigError
from serving.client.pictures import ENDINGS

# The configuration's field for the folder; the command has an option instead.
FIELD, OPTION = "batch_predict.images", "--images"
FOLDER = "predictions"  # in output_root
# TFX's ("data_tfrecord-00000-of-00001.gz") and TensorFlow's own names.
RECORDS = re.compile(r"tfrecord", re.IGNORECASE)
# A part is what a kill can cost, and a file; these models take a second for it.
PART_IMAGES = 500

_PART = re.compile(r"(\d{6})-(\d{6})(-last)?\.jsonl")


@dataclass(frozen=True)
class Model:
    """A published model."""

    path: str  # its SavedModel
    version: int


@dataclass(frozen=True)
class Item:
    """What is read in one go, by one worker: some image files, or one file of records."""

    number: int
    names: tuple[str, ...]  # below the folder
    records: bool = False


@dataclass(frozen=True)
class Found:
    """The files of a folder, in the order of the answers."""

    folder: str  # absolute, or an address in a bucket
    names: tuple[str, ...]  # below it
    records: bool  # TFRecords of tf.Examples as ingested; else pictures
    digest: str  # of names, sizes and times


@dataclass(frozen=True)
class Plan:
    """All of one prediction."""

    model: Model
    found: Found
    output: str  # gets all answers, once there are all

    @property
    def parts_folder(self) -> str:
        """Of the files of the parts; named by what is predicted, and by what."""
        model = f"{self.model.path}\n{self.model.version}\n{self.found.digest}"
        digest = hashlib.sha256(model.encode()).hexdigest()[:16]
        folder, name = os.path.split(self.output)
        return os.path.join(folder, f".{name}.{digest}")

    @property
    def items(self) -> tuple[Item, ...]:
        """All of them."""
        names = self.found.names
        size = 1 if self.found.records else PART_IMAGES
        return tuple(
            Item(number, names[start : start + size], self.found.records)
            for number, start in enumerate(range(0, len(names), size))
        )

    def file(self, item: int, part: int, *, last: bool) -> str:
        """Where a part's answers are, a JSON object in each line."""
        end = "-last" if last else ""
        return os.path.join(self.parts_folder, f"{item:06d}-{part:06d}{end}.jsonl")


@dataclass(frozen=True)
class Done:
    """The parts that are there."""

    parts: Mapping[tuple[int, int], str]  # item and part -> path
    whole: frozenset[int]  # items whose last part is there, and all before it


def output_file(folder: str, images: str, version: int) -> str:
    """Where the answers of a version go, unless somebody says otherwise.

    Args:
        folder: Of all predictions.
        images: Folder that is predicted.
        version: Of the model.
    """
    return f"{folder}/{os.path.basename(images)}-v{version}.jsonl"


def find_files(folder: str, field: str = OPTION) -> Found:
    """The images below a folder, at any depth, or its TFRecords.

    Args:
        folder: Absolute, or an address in a bucket.
        field: What a person has given it in, for messages.

    Raises:
        ConfigError: There is no such folder, or neither of them in it, or both.
    """
    remote = "://" in folder
    stats = _stats_in_bucket(folder, field) if remote else _stats(folder, field)
    images = sorted(n for n in stats if n.lower().endswith(ENDINGS))
    records = sorted(n for n in stats if RECORDS.search(os.path.basename(n)))
    if images and records:
        raise ConfigError(
            f"{field}={folder}: holds both images ({images[0]}) and TFRecords "
            f"({records[0]}); give a folder of one kind"
        )
    names = images or records
    if not names:
        raise ConfigError(
            f"{field}={folder}: holds no file that ends with "
            f"{', '.join(ENDINGS)}, and no TFRecords (*tfrecord*)"
        )
    digest = hashlib.sha256(folder.encode(errors="surrogateescape"))
    for name in names:
        digest.update(f"\n{name}\n{stats[name]}".encode(errors="surrogateescape"))
    return Found(folder, tuple(names), bool(records), digest.hexdigest())


def _stats(folder: str, field: str) -> dict[str, str]:
    """Of each file below a local folder, by its path there, size and time."""
    if not os.path.isdir(folder):
        raise ConfigError(
            f"{field}={folder}: is no folder; give one with pictures, or with TFRecords"
        )
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if not name.startswith(".") and os.path.isfile(path):
                status = os.stat(path)
                told = f"{status.st_size} {status.st_mtime_ns}"
                found[os.path.relpath(path, folder)] = told
    return found


def _stats_in_bucket(folder: str, field: str) -> dict[str, str]:
    """The same of a bucket, by one listing."""
    from components.atomic_pusher import ledger

    try:
        place = ledger.open_folder(folder)
        with ledger.errors("it cannot be listed"):
            return {
                blob.name.removeprefix(place.prefix): f"{blob.size} {blob.updated}"
                for blob in place.bucket.list_blobs(prefix=place.prefix)
            }
    except ledger.PublishError as error:
        raise ConfigError(f"{field}={folder}: {error}") from error


def done(plan: Plan) -> Done:
    """What is there from an earlier attempt."""
    parts: dict[tuple[int, int], str] = {}
    last: dict[int, int] = {}
    for path in _listed(plan.parts_folder):
        if match := _PART.fullmatch(os.path.basename(path)):
            item, part = int(match[1]), int(match[2])
            parts[item, part] = path
            if match[3]:
                last[item] = part
    whole = {
        item
        for item, end in last.items()
        if all((item, part) in parts for part in range(end + 1))
    }
    return Done(parts, frozenset(whole))


def write_whole(path: str, lines: Iterable[str]) -> None:
    """Writes a file that appears when it is complete, on a disk or in a bucket."""
    text = "".join(f"{line}\n" for line in lines)
    if "://" in path:
        files = _files()
        with files.GFile(path, "w") as file:  # an object is there when it is closed
            file.write(text)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    aside = os.path.join(
        os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}"
    )
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    finally:
        if os.path.exists(aside):
            os.unlink(aside)


def join(plan: Plan) -> None:
    """Makes one file of all parts, in the order of the images, and removes them.

    So does it with parts of earlier attempts that had other images, or another model.

    Raises:
        RuntimeError: A part is missing.
    """
    there = done(plan)
    missing = [item.number for item in plan.items if item.number not in there.whole]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(plan.items)} parts have no answers")
    paths = [there.parts[key] for key in sorted(there.parts)]
    if "://" in plan.output:
        files = _files()
        with files.GFile(plan.output, "wb") as out:
            for path in paths:
                with files.GFile(path, "rb") as file:
                    out.write(file.read())
        files.rmtree(plan.parts_folder)
        return
    folder, name = os.path.split(plan.output)
    aside = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(aside, "wb") as out:
            for path in paths:
                with open(path, "rb") as file:
                    shutil.copyfileobj(file, out)
        os.replace(aside, plan.output)
    finally:
        if os.path.exists(aside):
            os.unlink(aside)
    for parts in glob.glob(os.path.join(folder, f".{glob.escape(name)}.*", "")):
        shutil.rmtree(parts)


def _listed(folder: str) -> Sequence[str]:
    """Paths of the files in a folder, none if there is no such folder."""
    if "://" in folder:
        return _files().glob(f"{folder}/*.jsonl")
    return glob.glob(os.path.join(glob.escape(folder), "*.jsonl"))


def _files() -> Any:
    """TensorFlow's files, which may lie in a bucket."""
    import tensorflow as tf

    return tf.io.gfile
