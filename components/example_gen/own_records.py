"""A person's own images, file by file: digests, splits, pixels.

A picture becomes pixels by the client's own rule (serving/client/pictures.py, in words in
docs/clients.md#pictures): what a model is trained on and what it is asked go one way.
One picture at a time is in memory, and its header is read before anything is decoded.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.example_gen import identity, own_files, progress, reduction
from components.example_gen.errors import DataError
from components.example_gen.own_files import Found, Image
from contract.config.data import DataConfig
from contract.features import EVAL, TEST, TRAIN
from serving.client import pictures
from serving.client.errors import InvalidInput

_MOST_BYTES = pictures.MOST_FILE_BYTES + 1  # one more than a picture may have
_SHARD_BYTES = 32 << 20  # of encoded images
_REPORTED = 500  # files between two reports of progress


class Item(NamedTuple):
    """A file that will be ingested."""

    image: Image
    label: int
    digest: bytes  # SHA-256 of the file
    size: int  # bytes of the file


class Own(NamedTuple):
    """A chunk of pictures at the size of the data set."""

    pixels: np.ndarray  # uint8 [n, height * width * channels]
    labels: np.ndarray  # int64 [n]
    digests: np.ndarray  # uint8 [n, 32], of the files
    unreadable: tuple[tuple[int, str], ...]  # label, and what is wrong, with the name


class Placed(NamedTuple):
    """All files, each in one split."""

    splits: Mapping[str, tuple[Item, ...]]  # by digest
    twice: tuple[str, ...]  # left out, since a copy is in a split that decides more
    digest: str  # of names and contents, hexadecimal
    bytes: int  # of all files


def placed(found: Found, data: DataConfig) -> Placed:
    """Reads all files once, for their digests, and decides their splits.

    Where a person has made splits, they stand; eval is carved from train, if there is
    none. Where not, test and eval are carved by content. Of the same file in two splits the
    copy in the split that decides more is kept: test, then eval, then train.

    Raises:
        DataError: A file cannot be read.
    """
    labels = {name: number for number, name in enumerate(found.class_names)}
    whole, size = hashlib.sha256(), 0
    items = []
    for number, image in enumerate(found.images, start=1):
        try:
            content = own_files.content(found.root, image, _MOST_BYTES)
        except OSError as error:
            raise DataError(
                f"{found.where}: {image.name} cannot be read ({error.strerror}); "
                "change its permissions, or remove it"
            ) from None
        digest = hashlib.sha256(content).digest()
        items.append(Item(image, labels[image.label], digest, len(content)))
        whole.update(f"{image.name}\0{image.label}\0{image.split}\0".encode() + digest)
        size += len(content)
        if number % _REPORTED == 0:
            progress.report(number, len(found.images), "files", "looked at")
    chosen = list(_splits(items, found.is_split, data))
    splits: dict[str, list[Item]] = {TEST: [], EVAL: [], TRAIN: []}
    homes: dict[bytes, tuple[str, str]] = {}
    twice = []
    for split, kept in splits.items():
        for item, own in zip(items, chosen, strict=True):
            if own != split:
                continue
            home, first = homes.setdefault(item.digest, (split, item.image.name))
            if home == split:
                kept.append(item)
            else:
                twice.append(f"{item.image.name} ({first} in {home})")
    return Placed(
        {
            split: tuple(sorted(kept, key=lambda item: (item.digest, item.image.name)))
            for split, kept in splits.items()
        },
        tuple(twice),
        whole.hexdigest(),
        size,
    )


def digest_of(placed: Placed) -> str:
    """SHA-256, hexadecimal, of what is in which split, with which label."""
    whole = hashlib.sha256()
    for split, items in placed.splits.items():
        for item in items:
            whole.update(f"{split}\0{item.label}\0".encode() + item.digest)
    return whole.hexdigest()


def sharded(
    placed: Placed, least: int
) -> list[tuple[str, tuple[int, int], tuple[Item, ...]]]:
    """Each file of TFRecords: split, number and how many there are, items by content.

    Args:
        placed: All images.
        least: Files of a split; so many more that one has `_SHARD_BYTES` on average, since
            training holds some of them in memory to shuffle their images.
    """
    found = []
    for split, items in placed.splits.items():
        shards = max(least, -(-sum(item.size for item in items) // _SHARD_BYTES))
        parts: list[list[Item]] = [[] for _ in range(shards)]
        numbers = identity.shard_of(
            identity.stacked(item.digest for item in items), shards
        )
        for item, number in zip(items, numbers.tolist(), strict=True):
            parts[number].append(item)
        found += [
            (split, (number, shards), tuple(part)) for number, part in enumerate(parts)
        ]
    return found


def read(root: str, items: Sequence[Item], shape: reduction.Shape) -> Own:
    """Decodes, turns, scales and cuts pictures, one after the other.

    Args:
        root: As of `Found`.
        items: Some of them.
        shape: Height and width, which are equal, and channels.

    Raises:
        DataError: A file is no more what it was when its split was decided.
    """
    pixels, kept, unreadable = [], [], []
    for item in items:
        try:
            pixels.append(_pixels(root, item, shape))
            kept.append(item)
        except InvalidInput as error:
            unreadable.append((item.label, str(error)))
    return Own(
        np.stack(pixels) if pixels else np.zeros((0, int(np.prod(shape))), np.uint8),
        np.array([item.label for item in kept], np.int64),
        identity.stacked(item.digest for item in kept),
        tuple(unreadable),
    )


def judged(
    found: Found,
    own: Placed,
    unreadable: Sequence[tuple[str, int, str]],
    limit: float,
) -> list[str]:
    """Sentences about what was not ingested.

    Args:
        found: The files.
        own: Their splits.
        unreadable: Split, label, and what is wrong.
        limit: Share of all files that may be unreadable.

    Raises:
        DataError: More are, or a class is left without an image in train.
    """
    where, count = found.where, len(found.images)
    wrong = sorted(text for _, _, text in unreadable)
    if len(wrong) > limit * count:
        raise DataError(
            f"{where}: {len(wrong):,} of {count:,} files cannot be read, more than "
            f"data.unreadable_limit={limit:g} allows: {own_files.some(wrong)}; repair or "
            "remove them, or raise data.unreadable_limit"
        )
    left = Counter(item.label for item in own.splits[TRAIN])
    left.subtract(label for split, label, _ in unreadable if split == TRAIN)
    names = found.class_names
    if lacking := [name for label, name in enumerate(names) if left[label] < 1]:
        carved = "" if found.is_split else ", or lower data.test_fraction"
        raise DataError(
            f"{where}: no image of the class {own_files.some(lacking)} is left for train; "
            f"add images of it, or remove it{carved}"
        )
    told = []
    if wrong:
        told.append(
            f"{len(wrong):,} of {count:,} files cannot be read and are left out: "
            f"{own_files.some(wrong)}"
        )
    if own.twice:
        told.append(
            f"{len(own.twice):,} of {count:,} files stand in two splits and are kept in one "
            f"of them: without {own_files.some(own.twice)}"
        )
    if found.passed_over and found.records is not None:
        told.append(
            f"splits that are no train, val or test, or have no labels, are passed over: "
            f"{own_files.some(found.passed_over)}"
        )
    elif found.passed_over:
        told.append(
            f"{len(found.passed_over):,} files have no picture's ending and are passed over: "
            f"{own_files.some(found.passed_over)}"
        )
    return told


def _splits(items: Sequence[Item], is_split: bool, data: DataConfig) -> Iterator[str]:
    """The split of each file."""
    carved = identity.carved(
        identity.stacked(item.digest for item in items),
        eval_fraction=data.eval_fraction,
        test_fraction=0 if is_split else data.test_fraction,
    )
    has_eval = any(item.image.split == EVAL for item in items)
    for item, by_content in zip(items, carved, strict=True):
        if item.image.split in (None, TRAIN) and not has_eval:
            yield by_content
        else:
            yield item.image.split or TRAIN


def content_of(root: str, item: Item) -> bytes:
    """The content of a file, as it was when its split was decided.

    Raises:
        InvalidInput: It cannot be read, or is too large; the message begins with its name.
        DataError: It is no more what it was.
    """
    name = item.image.name
    try:
        content = own_files.content(root, item.image, _MOST_BYTES)
    except OSError as error:
        raise InvalidInput(f"{name}: {error.strerror}") from None
    if hashlib.sha256(content).digest() != item.digest:
        raise DataError(
            f"{name}: was changed while it was being ingested; run again when the images "
            "are complete"
        )
    if len(content) == _MOST_BYTES:
        raise InvalidInput(f"{name}: larger than {pictures.MOST_FILE_BYTES >> 20} MiB")
    return content


def _pixels(root: str, item: Item, shape: reduction.Shape) -> np.ndarray:
    """One picture: uint8 [height * width * channels].

    Raises:
        InvalidInput: It is none; the message begins with its name.
    """
    height, width, channels = shape
    picture = pictures.upright(content_of(root, item), name=item.image.name)
    if picture.size != (width, height):
        picture = pictures.fit(picture, (width, height))
    pixels = np.asarray(picture)
    if channels == 1:
        pixels = reduction.luminance(pixels)
    return pixels.reshape(-1)
