"""Images that stand in the data more than once, and labels that contradict each other.

A schema looks at one example, a statistic at one column; what is wrong here is seen only
when examples are held against each other. It stops no run, since public data sets have a
few such images too; what it would distort is said on screen and in the report.
NumPy and the standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from contract.features import EVAL, TEST, TRAIN

PROPERTY = "consistency"  # of `anomalies`: JSON of what `examine` returns

# Below this share of a split nothing is said. One image in a thousand cannot move an
# error rate by more than 0.1 points, which no interval here resolves: among 10,000 images
# with 5 % errors it is 0.43 points wide to either side.
TOLERATED_SHARE = 0.001


class Contents(NamedTuple):
    """One split."""

    digests: Sequence[bytes]  # of the pixels: equal digests are equal images
    labels: np.ndarray  # int64 [n]
    coarse_labels: np.ndarray | None  # int64 [n]


def examine(
    splits: Mapping[str, Contents], superclasses: Sequence[int]
) -> dict[str, Any]:
    """Counts what does not go together.

    Args:
        splits: Split -> contents; "train", "eval" and "test" are looked for.
        superclasses: Label -> coarse label; empty if the data set has none.

    Returns:
        JSON-able: `test_in_train` and `test_in_eval`, test images that stand there as
        well; `copies`, split -> images that have an equal one before them; and over all
        splits `label_conflicts`, images of which an equal one has another label, and
        `superclass_conflicts`, images whose coarse label is not that of their label.
    """
    found = {split: Counter(contents.digests) for split, contents in splits.items()}
    test = found.get(TEST, Counter())
    labels: dict[bytes, set[int]] = {}
    pairs = [
        (digest, label)
        for contents in splits.values()
        for digest, label in zip(
            contents.digests, contents.labels.tolist(), strict=True
        )
    ]
    for digest, label in pairs:
        labels.setdefault(digest, set()).add(label)
    expected = np.asarray(superclasses, np.int64)
    return {
        **{
            f"test_in_{split}": sum(
                count
                for digest, count in test.items()
                if digest in found.get(split, ())
            )
            for split in (TRAIN, EVAL)
        },
        "copies": {
            split: counts.total() - len(counts) for split, counts in found.items()
        },
        "label_conflicts": sum(len(labels[digest]) > 1 for digest, _ in pairs),
        "superclass_conflicts": sum(
            int((expected[contents.labels] != contents.coarse_labels).sum())
            for contents in splits.values()
            if contents.coarse_labels is not None and len(expected)
        ),
    }


def warnings(found: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """A sentence for whatever is more than chance among honest data.

    Args:
        found: As `examine` returns it.
        counts: Images of each split.
    """
    total = sum(counts.values())
    sentences = []

    def add(number: int, of: int, what: str, so: str, least: float) -> None:
        if number > least * of:
            sentences.append(f"{number:,} of {of:,} {what}: {so}")

    seen = [f"{found[f'test_in_{split}']:,} in {split}" for split in (TRAIN, EVAL)]
    add(
        found["test_in_train"] + found["test_in_eval"],
        counts.get(TEST, 0),
        f"test images stand in the training data as well ({', '.join(seen)})",
        "the test error does not tell how well new images are classified",
        TOLERATED_SHARE,
    )
    for split, number in found["copies"].items():
        add(
            number,
            counts[split],
            f"{split} images are exact copies of others in {split}",
            "they count more than once in training"
            if split == TRAIN
            else "the intervals of its error rates are too narrow",
            TOLERATED_SHARE,
        )
    add(
        found["label_conflicts"],
        total,
        "images have an exact copy with another label",
        "at most one of the labels can be right",
        TOLERATED_SHARE,
    )
    # The super-class follows from the class: the authors' files have no exception.
    add(
        found["superclass_conflicts"],
        total,
        "images have a super-class (coarse label) that is not the one of their class",
        "one of the two labels is wrong",
        0,
    )
    return sentences
