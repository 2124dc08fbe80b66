"""Example ids, splits and shards from the published pixels alone.

One SHA-256 over an image's 3,072 bytes in the published form (row-major, RGB), before it is
reduced to another size or to grey, gives everything, from bytes that do not overlap, so that
the three are independent:

    bytes 0 to 15   example id, as 32 hexadecimal digits
    bytes 16 to 23  u = big-endian number / 2^64; u < eval_fraction moves a train image
                    to eval
    bytes 24 to 31  big-endian number modulo `shards`: its file

So an image keeps its id and split whatever the source, the size, the order or the number of
shards; a larger eval_fraction only adds to eval; equal images are never in both train
and eval. A test image stays in test. Ids are unique within a split: an image that the
authors put into both train and test has one id there and here.
NumPy and the standard library only.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from contract.features import EVAL, EXTRA, TEST, TRAIN

DIGEST_BYTES = 32


def digests(pixels: np.ndarray) -> np.ndarray:
    """SHA-256 of each image: uint8 [n, PUBLISHED_BYTES] -> uint8 [n, 32]."""
    return stacked(hashlib.sha256(image).digest() for image in pixels)


def stacked(digests: Iterable[bytes]) -> np.ndarray:
    """Digests one by one, as an array: uint8 [n, 32]."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def is_eval(digest: np.ndarray, eval_fraction: float) -> np.ndarray:
    """Which train images belong to eval: uint8 [n, 32] -> bool [n]."""
    threshold = int(Fraction(eval_fraction) * 2**64)  # exact; eval_fraction < 1
    return _number(digest, 2) < np.uint64(threshold)


def carved(
    digest: np.ndarray, *, eval_fraction: float, test_fraction: float
) -> list[str]:
    """Splits of images that nobody has put into one: uint8 [n, 32] -> n names.

    The same number decides as in `is_eval`, from above for test, so that a larger fraction
    only adds to its split.

    Args:
        digest: Of any content.
        eval_fraction: Of the images that are not of test.
        test_fraction: Of all.
    """
    number = _number(digest, 2)
    rest = 1 - Fraction(test_fraction)
    names = np.full(len(digest), TRAIN, object)
    names[number < np.uint64(int(Fraction(eval_fraction) * rest * 2**64))] = EVAL
    if test_fraction:
        names[number >= np.uint64(int(rest * 2**64))] = TEST
    return names.tolist()


def shard_of(digest: np.ndarray, shards: int) -> np.ndarray:
    """File of each image: uint8 [n, 32] -> int64 [n] in [0, shards)."""
    return (_number(digest, 3) % np.uint64(shards)).astype(np.int64)


def groups(
    digest: np.ndarray, split: str, *, eval_fraction: float, shards: int
) -> dict[tuple[str, int], np.ndarray]:
    """Indices of the images of each (split, shard); `split` is "train" or "test"."""
    names = np.full(len(digest), split, object)
    if split == TRAIN:
        names[is_eval(digest, eval_fraction)] = EVAL
    shard = shard_of(digest, shards)
    found: dict[tuple[str, int], np.ndarray] = {}
    for name in sorted(set(names)):
        for number in np.unique(shard[names == name]):
            found[name, int(number)] = np.flatnonzero(
                (names == name) & (shard == number)
            )
    return found


def example_ids(sorted_digests: Sequence[bytes]) -> list[bytes]:
    """Ids of the images of one split and shard, in the order given.

    Equal images, which must be neighbours, are numbered: `<32 hex digits>-0`, `-1`, ...
    Digests are unique keys here: equal ids for unequal images would need a collision of
    128 bits.
    """
    ids: list[bytes] = []
    for digest, same in itertools.groupby(sorted_digests, key=lambda d: d[:16]):
        ids += [f"{digest.hex()}-{n}".encode() for n, _ in enumerate(same)]
    return ids


def extra_id(digest: bytes) -> bytes:
    """Id of an image that data.extra has added: `<32 hex digits>-extra`.

    Its digest is of the pixels as ingested, which may be others than the published ones.
    """
    return digest[:16].hex().encode() + EXTRA


def cut(joined: bytes) -> list[bytes]:
    """Digests that were joined, one by one."""
    return [joined[i : i + DIGEST_BYTES] for i in range(0, len(joined), DIGEST_BYTES)]


def _number(digest: np.ndarray, word: int) -> np.ndarray:
    """The `word`-th big-endian 64-bit number of each digest."""
    return np.ascontiguousarray(digest).view(">u8")[:, word].astype(np.uint64)
