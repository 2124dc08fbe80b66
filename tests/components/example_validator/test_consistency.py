"""Repeated images and contradictory labels, against a count by hand and published facts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.example_validator import consistency
from components.example_validator.consistency import Contents
from contract import features
from contract.datasets import DATASETS

# The coarse label beside each fine one, as the first records of the authors'
# train.bin and test.bin have them.
COARSE = """
    4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14
    16 9 11 5 5 19 8 8 15 13 14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19
    2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13
"""


def test_superclasses_are_those_of_the_authors_files():
    entry = DATASETS["cifar100"]
    assert entry.superclasses == tuple(map(int, COARSE.split()))
    assert entry.class_names[3:7] == ("bear", "beaver", "bed", "bee")
    assert len(entry.class_names) == 100
    assert len(entry.coarse_class_names) == 20
    pairs = zip(entry.class_names, entry.superclasses, strict=True)
    assert [entry.coarse_class_names[coarse] for _, coarse in list(pairs)[:3]] == [
        "fruit_and_vegetables", "fish", "people"
    ]  # fmt: skip


PARTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 1)))


@given(st.fixed_dictionaries({split: PARTS for split in features.SPLITS}))
def test_counts_are_those_of_comparing_every_pair(images):
    """An image is a number here, with a label and a coarse label."""
    superclasses = (1, 0, 1)
    found = consistency.examine(
        {
            split: Contents(
                [bytes([image]) for image, _, _ in rows],
                np.array([label for _, label, _ in rows], np.int64),
                np.array([coarse for _, _, coarse in rows], np.int64),
            )
            for split, rows in images.items()
        },
        superclasses,
    )
    everything = list(itertools.chain(*images.values()))
    for split in ("train", "eval"):
        assert found[f"test_in_{split}"] == sum(
            any(image == other for other, _, _ in images[split])
            for image, _, _ in images["test"]
        )
    for split, rows in images.items():
        assert found["copies"][split] == sum(
            any(image == other for other, _, _ in rows[:place])
            for place, (image, _, _) in enumerate(rows)
        )
    assert found["label_conflicts"] == sum(
        any(image == other and label != theirs for other, theirs, _ in everything)
        for image, label, _ in everything
    )
    assert found["superclass_conflicts"] == sum(
        superclasses[label] != coarse for _, label, coarse in everything
    )


def nothing(**changes):
    found = {
        "test_in_train": 0, "test_in_eval": 0, "label_conflicts": 0,
        "copies": dict.fromkeys(features.SPLITS, 0), "superclass_conflicts": 0,
    }  # fmt: skip
    return found | changes


# Images of Fashion-MNIST's splits; of the 10,000 test images 10 stand in train too, 43
# train images and 1 test image have a copy (zalandoresearch/fashion-mnist, issue 44).
PUBLIC = {"train": 54_000, "eval": 6_000, "test": 10_000}


def test_what_public_data_sets_have_is_no_warning():
    found = nothing(test_in_train=10, copies={"train": 43, "eval": 0, "test": 1})
    assert consistency.warnings(found, PUBLIC) == []


def test_what_nobody_could_resolve_is_no_warning():
    """Of 10,000 images with 5 % errors, the interval is over four times as wide."""
    half = 1.96 * math.sqrt(0.05 * 0.95 / 10_000)
    assert half > 4 * consistency.TOLERATED_SHARE


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"test_in_train": 9_012, "test_in_eval": 988},
            "10,000 of 10,000 test images stand in the training data as well (9,012 in "
            "train, 988 in eval): the test error does not tell how well new images are "
            "classified",
        ),
        (
            {"test_in_train": 11},
            "11 of 10,000 test images stand in the training data as well (11 in train, "
            "0 in eval): the test error does not tell how well new images are classified",
        ),
        (
            {"copies": {"train": 9_000, "eval": 6, "test": 0}},
            "9,000 of 54,000 train images are exact copies of others in train: they "
            "count more than once in training",
        ),
        (
            {"copies": {"train": 0, "eval": 7, "test": 0}},
            "7 of 6,000 eval images are exact copies of others in eval: the intervals of "
            "its error rates are too narrow",
        ),
        (
            {"label_conflicts": 71},
            "71 of 70,000 images have an exact copy with another label: at most one of "
            "the labels can be right",
        ),
        (
            {"superclass_conflicts": 1},
            "1 of 70,000 images have a super-class (coarse label) that is not the one of "
            "their class: one of the two labels is wrong",
        ),
    ],
)
def test_what_distorts_is_told_with_numbers(changes, sentence):
    assert consistency.warnings(nothing(**changes), PUBLIC) == [sentence]
