import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen import identity
from tests.components.example_gen import official


def digests_of(count, seed=0):
    pixels, _, _ = official.images(seed, count)
    return identity.digests(pixels.reshape(count, -1)), pixels


def test_digest_is_sha256_of_the_pixels():
    found, pixels = digests_of(3)
    for row, image in zip(found, pixels, strict=True):
        assert row.tobytes() == hashlib.sha256(image.tobytes()).digest()


def test_split_and_shard_follow_the_documented_bytes():
    found, _ = digests_of(200)
    chosen = identity.is_eval(found, 0.25)
    shards = identity.shard_of(found, 7)
    for row, in_eval, shard in zip(found, chosen, shards, strict=True):
        digest = row.tobytes()
        assert in_eval == (int.from_bytes(digest[16:24], "big") < 2**62)
        assert shard == int.from_bytes(digest[24:32], "big") % 7


def test_thresholds_are_exact():
    rows = np.zeros((2, 32), np.uint8)
    rows[0, 16:24] = list((2**63 - 1).to_bytes(8, "big"))
    rows[1, 16:24] = list((2**63).to_bytes(8, "big"))
    assert identity.is_eval(rows, 0.5).tolist() == [True, False]


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5))
@settings(max_examples=30, deadline=None)
def test_a_larger_fraction_only_adds_to_eval(one, other):
    found, _ = digests_of(100)
    small = identity.is_eval(found, min(one, other))
    assert not (small & ~identity.is_eval(found, max(one, other))).any()


def test_eval_share_is_the_fraction_in_each_shard():
    found = np.random.default_rng(0).integers(0, 256, (50_000, 32), np.uint8)
    chosen, shards = identity.is_eval(found, 0.1), identity.shard_of(found, 4)
    for shard in range(4):
        assert abs(chosen[shards == shard].mean() - 0.1) < 0.01  # 3.7 deviations
        assert abs((shards == shard).mean() - 0.25) < 0.01


@given(st.integers(1, 60), st.integers(1, 9), st.sampled_from(["train", "test"]))
@settings(max_examples=30, deadline=None)
def test_groups_are_a_partition(count, shards, split):
    found, _ = digests_of(count)
    groups = identity.groups(found, split, eval_fraction=0.3, shards=shards)
    index = np.concatenate(list(groups.values()))
    assert sorted(index.tolist()) == list(range(count))
    allowed = {"train", "eval"} if split == "train" else {"test"}
    assert all(name in allowed and 0 <= shard < shards for name, shard in groups)


def test_equal_images_are_numbered():
    one, two = b"\x01" * 32, b"\x02" * 32
    assert identity.example_ids([one, one, two]) == [
        b"01" * 16 + b"-0",
        b"01" * 16 + b"-1",
        b"02" * 16 + b"-0",
    ]
