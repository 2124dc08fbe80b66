"""A person's own images: which files there are, of which class, in which split.

    folder    class folders, DIR/cat/1.jpg, or the same below DIR/train, DIR/val, DIR/test
    archive   the same in a .tar file, which is read where it is
    table     a .csv file: a head path,label or path,label,split, then a line an image

(A set of tensorflow-datasets: `own_tfds`.) Here names are looked at; what is in the files:
`own_records`. The rules stand in docs/data.md. Standard library only, so that a wrong folder
is refused at once.
"""

from __future__ import annotations

import csv
import os
import posixpath
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from components.example_gen import storage
from components.example_gen.errors import DataError, one_line
from contract import paths
from contract.config.data import DataConfig
from contract.datasets import Dataset
from contract.features import EVAL, LABEL, TEST, TRAIN
from serving.client.pictures import ENDINGS

NAME = "folder"  # data.name
DEFAULT_SIZE = 64  # pixels per side, if data.image_size says nothing
_SIZE_STEP = 8
# Of all images as they are ingested: they are sorted, and trained on, in memory. Sorting
# takes five times as much.
MOST_BYTES = 1 << 30

# Names of split folders, and of splits in a table or of tensorflow-datasets.
SPLITS = {"train": TRAIN, "val": EVAL, "validation": EVAL, "eval": EVAL, "test": TEST}
_BESIDE_TRAIN = {"valid": EVAL}  # alone it may be a class, beside "invalid"
_NOT_IMAGES = ("__MACOSX",)  # Apple's archives keep attributes there
_MOST_FILES = 5_000_000
_MOST_TABLE_BYTES = 1 << 30
_LONGEST_LABEL = 100  # characters
_NAMED = 5  # files in a message

# Name -> where its content begins and how long it is, as in `Image`.
_Files = Mapping[str, tuple[int, int]]


class Image(NamedTuple):
    """A file as it was found."""

    name: str  # below the root, with "/" between folders
    label: str  # name of its class
    split: str | None  # that a person has put it in
    place: int = 0  # in another file: where its content begins...
    size: int = -1  # ...and how long it is; -1: a file of its own
    inside: str = ""  # that other file, an archive or one of records


class Records(NamedTuple):
    """A set that tensorflow-datasets has prepared, see `own_tfds`."""

    splits: Mapping[str, tuple[str, ...]]  # its own name -> names of record files
    image: str  # feature that holds a picture's file...
    label: str  # ...and the one with its class
    files: tuple[str, ...]  # paths of all that it consists of


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies at data.path, or is what data.tfds names."""

    path: str  # or name:version
    kind: Literal["folder", "archive", "table", "tensorflow-datasets"]
    root: str  # folder where names begin
    images: tuple[Image, ...] = ()  # by name; of records, once these are read
    # By split that somebody has put them in.
    counts: Mapping[str | None, int] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()  # in label order
    # Files whose names do not end as a picture's; of records, splits.
    passed_over: tuple[str, ...] = ()
    records: Records | None = None

    @property
    def is_split(self) -> bool:
        """Whether somebody has said which images are for tests."""
        return TEST in self.counts

    @property
    def where(self) -> str:
        """The field that names it, and its value: how messages begin."""
        return f"data.{'tfds' if self.records else 'path'}={self.path}"

    @property
    def title(self) -> str:
        """For people."""
        name = os.path.splitext(os.path.basename(self.path))[0]
        return self.path if self.records else name or self.path


def find(path: str | None) -> Found:
    """Lists the images, and checks that they can be a data set.

    Raises:
        DataError: They cannot; the sentence names what is wrong and the remedy.
    """
    if path is None:
        raise DataError(
            f"data.name={NAME} needs data.path: a folder with a folder for each class, the "
            "same as a .tar file, or a .csv file of path,label; or data.tfds, the name of a "
            "set of tensorflow-datasets"
        )
    if storage.is_remote(path):
        raise DataError(
            f"data.path={path}: images of one's own are read from this machine's disks only; "
            f"copy them here (data.name={NAME} does not run on Vertex AI)"
        )
    where = f"data.path={path}"
    if os.path.isdir(path):
        files, folders = _walk(path, where)
        return _classified(path, "folder", files, folders)
    if not os.path.isfile(path):
        raise DataError(
            f"{where}: there is no such file or folder; give a folder with a folder for "
            "each class, the same as a .tar file, or a .csv file of path,label"
        )
    if path.lower().endswith(".csv"):
        return _tabled(path)
    files, folders = _members(path, where)
    return _classified(path, "archive", files, folders)


def is_likely(path: str) -> bool:
    """Whether a local path looks like images of one's own; a glance, not a check."""
    if not os.path.isdir(path):
        return path.lower().endswith((".csv", ".tar"))
    for number, (folder, folders, names) in enumerate(os.walk(path)):
        if number > 100:
            break
        folders.sort()
        depth = os.path.relpath(folder, path).count(os.sep)
        if folder != path and any(name.lower().endswith(ENDINGS) for name in names):
            return True
        if depth >= 2:
            folders.clear()
    return False


def described(found: Found, data: DataConfig) -> Dataset:
    """The data set as it will be ingested; its counts before eval is carved, roughly.

    Raises:
        DataError: Size, channels or label are not to be had of it, or it does not fit
            into memory at that size.
    """
    size, channels = data.image_size or DEFAULT_SIZE, data.channels or 3
    if size % _SIZE_STEP:
        raise DataError(
            f"data.image_size={size}: must be a multiple of {_SIZE_STEP} for images of "
            "one's own"
        )
    if channels not in (1, 3):
        raise DataError(f"data.channels={channels}: must be 1 (grey) or 3 (RGB)")
    if data.label != "fine":
        raise DataError(
            f"data.label={data.label}: images of one's own have one kind of label; leave "
            "data.label out"
        )
    count = sum(found.counts.values())
    needed = count * size * size * channels
    if data.encoded and data.extra is not None:
        raise DataError(
            f"data.extra={data.extra}: holds images as pixels, and data.encoded=true keeps "
            "files; leave one of them out"
        )
    if data.encoded and channels != 3:
        raise DataError(
            f"data.channels={channels}: encoded images are read in colour; leave it out, or "
            "set data.encoded=false"
        )
    if needed > MOST_BYTES and not data.encoded:
        raise DataError(
            f"data.image_size={size}: {count:,} images of {size} x {size} x {channels} are "
            f"{needed / 1e9:.1f} GB, which are ingested and trained on in memory, at most "
            f"{MOST_BYTES / 1e9:.1f} GB; set data.encoded=true, or choose a smaller "
            "data.image_size"
        )
    counts = {split: found.counts.get(split, 0) for split in (TRAIN, EVAL, TEST)}
    if not found.is_split:
        counts[TEST] = round(count * data.test_fraction)
        counts[TRAIN] = count - counts[TEST]
    if not counts[EVAL]:
        del counts[EVAL]
    return Dataset(
        name=NAME,
        title=found.title,
        image_shape=(None, None, channels) if data.encoded else (size, size, channels),
        crop=size if data.encoded else None,
        labels={LABEL: found.class_names},
        counts=counts,
    )


def content(root: str, image: Image, most: int) -> bytes:
    """The bytes of a file, at most so many of them.

    Raises:
        OSError: It cannot be read.
    """
    with open(os.path.join(root, image.inside or image.name), "rb") as file:
        file.seek(image.place)
        return file.read(most if image.size < 0 else min(image.size, most))


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(map(paths.shown, names[:_NAMED])) + (
        f" and {more:,} more" if more > 0 else ""
    )


def _walk(root: str, where: str) -> tuple[_Files, set[str]]:
    """All files and folders below a folder, without hidden ones."""
    files: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as found:
                entries = list(found)
        except OSError as error:
            raise DataError(
                f"{where}: {below or 'it'} cannot be read ({error.strerror}); change its "
                "permissions"
            ) from None
        for entry in entries:
            if not _is_shown(entry.name):
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_symlink():
                _check_link(root, name, where)
            if entry.is_dir(follow_symlinks=False):
                folders.add(name)
                waiting.append(name)
            elif entry.is_file():
                files[name] = (0, -1)
        if len(files) + len(folders) > _MOST_FILES:
            raise DataError(
                f"{where}: more than {_MOST_FILES:,} files; give the folder of the images"
            )
    return files, folders


def _check_link(root: str, name: str, where: str) -> None:
    """Refuses links that lead anywhere else than to a file of the folder."""
    target = os.path.realpath(os.path.join(root, name))
    if not is_inside(target, root) or not os.path.isfile(target):
        raise DataError(
            f"{where}: {name} is a link to {target}, which is no file in that folder; put "
            "the file itself there"
        )


def is_inside(path: str, root: str) -> bool:
    """Whether a path, or what it is a link to, lies in a folder."""
    root = os.path.realpath(root)
    return os.path.commonpath([os.path.realpath(path), root]) == root


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_IMAGES


def _members(path: str, where: str) -> tuple[_Files, set[str]]:
    """The same of an archive; it is not unpacked."""
    files: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    size = os.path.getsize(path)
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                parts = name.split("/")
                if parts[0] in ("", ".."):
                    raise DataError(
                        f"{where}: {member.name} lies outside of the archive's folder; "
                        "make the archive again"
                    )
                if not all(map(_is_shown, parts)):  # "." too
                    continue
                if member.isdir():
                    folders.add(name)
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(
                        f"{where}: {name} is a link or device, not a file; put the file "
                        "itself into the archive"
                    )
                if member.offset_data + member.size > size:
                    raise DataError(
                        f"{where}: {name} is cut off; copy the archive again"
                    )
                files[name] = (member.offset_data, member.size)
                if len(files) > _MOST_FILES:
                    raise DataError(f"{where}: more than {_MOST_FILES:,} files")
            end = archive.offset
        with open(path, "rb") as file:  # tarfile takes damage for an end
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DataError(f"{where}: is damaged or cut off; copy it again")
    except (
        tarfile.TarError, OSError, EOFError, ValueError, RecursionError, OverflowError,
        MemoryError,
    ) as error:  # fmt: skip
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where}: no readable .tar archive, or a compressed one "
            f"({one_line(error)}); unpack it and give the folder"
        ) from None
    for name in files:  # some archives have no entries for folders
        while (name := posixpath.dirname(name)) and name not in folders:
            folders.add(name)
    return files, folders


def _classified(
    path: str, kind: Literal["folder", "archive"], files: _Files, folders: set[str]
) -> Found:
    """Classes and splits by the names of folders."""
    where = f"data.path={path}"
    pictures = sorted(name for name in files if name.lower().endswith(ENDINGS))
    outer = _outer(pictures, folders)

    def parts_of(name: str) -> list[str]:
        return name.removeprefix(outer).split("/")

    tops = {parts[0] for parts in map(parts_of, pictures) if len(parts) > 1}
    names = SPLITS | (_BESIDE_TRAIN if TRAIN in map(str.casefold, tops) else {})
    splits = {top: names.get(top.casefold()) for top in sorted(tops)}
    given = [top for top, split in splits.items() if split]
    others = [top for top, split in splits.items() if not split]
    if given and others:
        raise DataError(
            f"{where}: folders of splits ({', '.join(given)}) and of classes "
            f"({some(others)}) stand side by side; put the classes below the splits, or "
            "give a .csv file if a class has such a name"
        )
    if len({splits[top] for top in given}) < len(given):
        raise DataError(
            f"{where}: {' and '.join(given)} mean one split twice; keep one of them"
        )
    depth = 2 if given else 1  # of a class folder's content
    inside = os.path.basename(path) if kind == "archive" else ""
    images = []
    for name in pictures:
        parts = parts_of(name)
        if len(parts) <= depth:
            raise DataError(
                f"{where}: {name} is in no class's folder; put each image into a folder "
                "with its class's name, or list them in a .csv file"
            )
        if not given and len(parts) > 2 and parts[1].casefold() in SPLITS:
            raise DataError(
                f"{where}: {name}: a split inside of a class; splits stand above classes, "
                f"as {parts[1]}/{parts[0]}"
            )
        split = splits[parts[0]] if given else None
        label = _label(parts[depth - 1])
        images.append(Image(name, label, split, *files[name], inside))
    classes = {
        _label(parts[depth - 1])
        for parts in map(parts_of, folders - {outer.rstrip("/")})
        if len(parts) == depth and (not given or parts[0] in splits)
    }
    if (empty := sorted(classes - {image.label for image in images})) and images:
        raise DataError(
            f"{where}: the class {some(empty)} has no image; remove its folder, or put "
            "images there"
        )
    passed_over = tuple(sorted(files.keys() - set(pictures)))
    root = (os.path.dirname(path) or ".") if inside else path
    return checked(
        Found(
            path=path,
            kind=kind,
            root=root,
            images=tuple(images),
            passed_over=passed_over,
        )
    )


def _outer(pictures: Sequence[str], folders: Iterable[str]) -> str:
    """The one folder that holds everything, as archives have it; with "/", or ""."""
    tops = {name.partition("/")[0] for name in (*pictures, *folders)}
    if len(tops) != 1 or any(name.count("/") < 2 for name in pictures):
        return ""
    (top,) = tops
    return "" if top.casefold() in SPLITS else f"{top}/"


def _tabled(path: str) -> Found:
    """A table of files, read whole before anything is looked for."""
    where = f"data.path={path}"
    root = os.path.dirname(path) or "."
    if os.path.getsize(path) > _MOST_TABLE_BYTES:
        raise DataError(f"{where}: more than {_MOST_TABLE_BYTES:,} bytes")
    images: dict[str, Image] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            head = [column.strip() for column in next(reader, [])]
            if head not in (["path", "label"], ["path", "label", "split"]):
                raise DataError(
                    f"{where}: its first line must be path,label or path,label,split, and is "
                    f"{','.join(head)[:80] or 'empty'}"
                )
            for cells in reader:
                if cells:
                    line = f"{where}: line {reader.line_num}"
                    image = _row(cells, len(head), root, line)
                    if image.name in images:
                        raise DataError(f"{line}: {image.name} stands there twice")
                    images[image.name] = image
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{where}: cannot be read as a table in UTF-8 ({one_line(error)})"
        ) from None
    found = tuple(sorted(images.values()))
    return checked(Found(path=path, kind="table", root=root, images=found))


def _row(cells: list[str], columns: int, root: str, line: str) -> Image:
    """The image of a line."""
    if len(cells) != columns:
        raise DataError(
            f"{line}: has {len(cells)} cells, and the first line {columns}; quote cells "
            "with commas in them"
        )
    name, label, *rest = (cell.strip() for cell in cells)
    split = None
    if rest:
        split = (SPLITS | _BESIDE_TRAIN).get(rest[0].casefold())
        if split is None:
            raise DataError(
                f"{line}: split {rest[0]!r} must be train, val (or eval) or test"
            )
    if not label:
        raise DataError(f"{line}: has no label; name its class")
    if not name or paths.text_problem(name) is not None:
        raise DataError(f"{line}: has no path in UTF-8 on one line")
    name = posixpath.normpath(name)
    if not is_inside(os.path.join(root, name), root):
        raise DataError(
            f"{line}: {name} lies outside of the table's folder; put the table above its "
            "images, with paths from there"
        )
    if not os.path.isfile(os.path.join(root, name)):
        raise DataError(f"{line}: there is no file {name} in the table's folder")
    if os.path.isabs(name):
        name = os.path.relpath(os.path.realpath(name), os.path.realpath(root))
    return Image(name, _label(label), split)


def meanings(splits: Collection[str | None]) -> dict[str | None, str | None]:
    """What splits mean: train alone nothing, and eval is test where there is no test."""
    if set(splits) == {TRAIN}:
        return {TRAIN: None}
    kept = {split: split for split in splits}
    if TEST not in kept and EVAL in kept:
        kept[EVAL] = TEST
    return kept


def checked(found: Found) -> Found:
    """Checks that these images are a data set; counts them, and names their classes.

    Raises:
        DataError: They are none; the sentence names what is wrong and the remedy.
    """
    where, images = found.where, found.images
    if not images:
        others = f", found {some(found.passed_over)}" if found.passed_over else ""
        raise DataError(
            f"{where}: no picture is there ({' '.join(ENDINGS)}{others}); give a folder with a "
            "folder of pictures for each class"
        )
    for image in images:
        if paths.text_problem(image.name) is not None:
            raise DataError(
                f"{where}: {image.name!r} must be a name in UTF-8 on one line; rename it"
            )
    labels = {image.label for image in images}
    check_labels(labels, where)
    splits = {image.split for image in images}
    if splits != {None}:
        trained = {image.label for image in images if image.split == TRAIN}
        if not trained:
            raise DataError(f"{where}: has no images for train; name a split so")
        if lacking := sorted(labels - trained, key=_natural):
            raise DataError(
                f"{where}: the class {some(lacking)} has no image in train; put some "
                "there, or remove the class"
            )
    means = meanings(splits)
    images = tuple(image._replace(split=means[image.split]) for image in images)
    return replace(
        found,
        images=images,
        counts=Counter(image.split for image in images),
        class_names=found.class_names or tuple(sorted(labels, key=_natural)),
    )


def check_labels(labels: Collection[str], where: str) -> None:
    """Refuses names that no classes can have; one sentence."""
    seen: dict[str, str] = {}
    for label in sorted(labels):
        if len(label) > _LONGEST_LABEL or paths.text_problem(label) is not None:
            raise DataError(
                f"{where}: the class {label[:40]!r} must have a name on one line, of at most "
                f"{_LONGEST_LABEL} characters; rename it"
            )
        twin = seen.setdefault(label.strip().casefold(), label)
        if twin != label:
            what = "spaces" if twin.strip() == label.strip() else "capitals"
            raise DataError(
                f"{where}: the classes {twin} and {label} differ in {what} only; make "
                "them one, or rename one"
            )
    if len(labels) < 2:
        raise DataError(
            f"{where}: has one class only, {next(iter(labels))}; two or more are told apart, "
            "a folder each"
        )


def _label(name: str) -> str:
    """A class's name in one form of Unicode: file systems write accents differently."""
    return unicodedata.normalize("NFC", name)


def _natural(name: str) -> tuple[list[int | str], str]:
    """Sorts texts by their letters' numbers, and numbers in them by value: 2 before 10."""
    parts = re.split(r"([0-9]+)", name)  # texts and numbers in turns
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
