"""What is no answer: wrong shapes, no numbers, sums other than 1, other class names."""

import numpy as np
import pytest

from components.answers import soundness


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p[:, :3], "have the shape [50, 3]"),
        (lambda p: p[:-1], "have the shape [49, 4]"),
        (
            lambda p: np.where(np.arange(50)[:, None] == 3, np.nan, p),
            "not numbers for 1 of 50",
        ),
        (lambda p: p * np.inf, "not numbers"),
        (lambda p: p * 2, "add up to 1 for 50 of 50"),
        (lambda p: p - 0.5, "negative or do not add up"),
    ],
)
def test_what_is_no_set_of_probabilities(spoil, words):
    good = np.random.default_rng(1).dirichlet([1.0] * 4, 50).astype(np.float32)
    assert soundness.probabilities_problem(good, 50, 4) is None
    problem = soundness.probabilities_problem(spoil(good), 50, 4)
    assert problem is not None and words in problem


def test_permuted_class_names_are_noticed():
    names = ["cat", "dog", "ship"]
    predicted = np.array([0, 2, 1])
    assert (
        soundness.class_name_problem([b"cat", b"ship", b"dog"], predicted, names)
        is None
    )
    problem = soundness.class_name_problem([b"cat", b"dog", b"ship"], predicted, names)
    assert problem == "it calls class 2 'dog', which is 'ship' in the data"
