"""baseline.json: what it holds, and what is no baseline."""

import dataclasses

import pytest

from contract.baseline import Baseline, ClassShare, Distribution, Reliability
from contract.typed_json import RecordError

WHOLE = Baseline(
    class_names=("cat", "dog"),
    image_shape=(32, 32, 3),
    numbers={"brightness": Distribution(count=3, quantiles=(0.1, 0.1, 0.9))},
    answers=(2, 1),
    shares=tuple(
        ClassShare(
            share=share, weights=(1.0, -1.0), offset=0.5, deviation=0.1, skewness=-1.0
        )
        for share in (0.6, 0.4)
    ),
    confidence=Distribution(count=3, quantiles=(0.5, 0.9)),
    reliability=(Reliability(highest=1.0, count=3, correct=2),),
)


def test_it_is_read_as_it_was_written():
    assert Baseline.from_json(WHOLE.to_json(), "it") == WHOLE
    varying = dataclasses.replace(WHOLE, image_shape=(None, None, 3))
    assert Baseline.from_json(varying.to_json(), "it") == varying
    assert Baseline.from_json("{}", "it") == Baseline()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"schema": 1', '"schema": 2', "it has schema 2, and this version"),
        ("[2, 1]", "[2, 1, 0]", "answers must have as many members as class_names"),
        (
            '"share": 0.6, "weights": [1.0, -1.0]',
            '"share": 0.6, "weights": [1.0]',
            "weights must have as many members as class_names",
        ),
        ("[0.1, 0.1, 0.9]", "[0.1, 0.9, 0.1]", "in ascending order"),
        ("[0.5, 0.9]", "[0.5]", "quantiles must be two or more"),
        ('"count": 3, "correct": 2', '"count": 3, "correct": 4', "at least correct"),
        ('"highest": 1.0', '"highest": 1.5', "must be at least 0 and at most 1"),
    ],
)
def test_what_is_no_baseline_is_said(old, new, says):
    text = WHOLE.to_json()
    assert text.count(old) == 1
    with pytest.raises(RecordError) as caught:
        Baseline.from_json(text.replace(old, new), "it")
    assert says in str(caught.value)
