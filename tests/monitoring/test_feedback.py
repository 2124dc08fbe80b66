"""Accuracy by labels that come later, and estimated without."""

import numpy as np
import pytest
from scipy import stats

from components.drift import baseline as measuring
from contract.baseline import Baseline
from monitoring import NothingToCompare, feedback, words
from tests.monitoring import made


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(2000):
        truth, images = random.uniform(0.6, 0.95), int(random.integers(100, 400))
        right = random.random(images) < truth
        labels = {str(n): "cat" for n in range(images)}
        answers = {str(n): "cat" if ok else "dog" for n, ok in enumerate(right)}
        answers["not labelled"] = "dog"
        found = feedback.accuracy(answers, labels)
        assert found is not None
        assert (found.images, found.correct) == (images, right.sum())
        low, high = found.interval
        covered += low <= truth <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_without_labels_nothing_is_measured():
    assert feedback.accuracy({"1": "cat"}, {"2": "cat"}) is None
    assert feedback.pairs({5: {"1": "cat"}, 6: {"2": "cat"}}, {"1": "cat"}) == ()


def test_labels_that_are_no_class_are_counted_as_wrong_and_told():
    answers = {str(n): "cat" for n in range(4)}
    labels = {"0": "cat", "1": "dog", "2": "3", "3": "Cat"}
    found = feedback.accuracy(answers, labels, ("cat", "dog"))
    assert (found.images, found.correct, found.unknown) == (4, 1, 2)
    assert words.unknown(found).startswith(
        "2 of these labels are no class of the model"
    )
    assert "'3'" in words.unknown(found)


def test_versions_are_paired_on_the_images_that_both_answered():
    labels = {str(n): "cat" for n in range(100)}
    worse = {str(n): "dog" if n < 30 else "cat" for n in range(90)}
    better = {str(n): "dog" if 5 <= n < 8 or n == 95 else "cat" for n in range(100)}
    better |= {"unknown": "dog"}
    (pair,) = feedback.pairs({7: better, 5: worse}, labels)
    assert (pair.first, pair.second, pair.images) == (5, 7, 90)
    assert (pair.only_first, pair.only_second) == (0, 27)
    assert pair.difference == pytest.approx(27 / 90)
    assert pair.interval[0] < 27 / 90 < pair.interval[1]
    assert pair.interval[0] > 0.15
    assert pair.p_value == pytest.approx(2 * 0.5**27)


def test_the_estimate_is_near_the_truth_while_confidence_means_what_it_did():
    random = np.random.default_rng(3)
    before = made.baseline(train=200, evaluated=3000)
    pixels, labels = made.images(6000, 8)
    given = made.model(pixels)
    right = given.argmax(axis=1) == labels
    assert 0.5 < right.mean() < 0.99
    covered = 0
    for _ in range(300):
        index = random.choice(6000, 500)
        estimate = feedback.estimated_accuracy(given[index].max(axis=1), before)
        assert estimate is not None
        low, value, high = estimate
        assert high - low < 0.09
        assert low < value < high
        covered += low <= right[index].mean() <= high
    assert covered >= 0.9 * 300
    # Fewer are right among the less sure half.
    unsure = np.sort(given.max(axis=1))[:3000]
    everything = feedback.estimated_accuracy(given.max(axis=1), before)
    lower = feedback.estimated_accuracy(unsure, before)
    assert lower and everything and lower[2] < everything[1]
    assert feedback.eval_accuracy(before) == pytest.approx(right.mean(), abs=0.04)


def test_nothing_is_estimated_from_nothing():
    assert feedback.estimated_accuracy(np.array([0.5]), Baseline()) is None
    before = made.baseline(train=100, evaluated=100)
    assert feedback.estimated_accuracy(np.array([np.nan]), before) is None
    assert feedback.eval_accuracy(Baseline()) is None


def test_labels_are_read_by_their_columns(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffwhen,label,id\n1,cat, a1 \n2,dog,b2\n3,ship,a1\n")
    assert feedback.read_labels(str(path)) == {"a1": "ship", "b2": "dog"}
    path.write_text("id, label\n\na1, cat\n\n")
    assert feedback.read_labels(str(path)) == {"a1": "cat"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1,2\n", "its first line must name the columns id and label."),
        (b"", "its first line must name the columns id and label."),
        (b"id,label\nx,cat\ny,\n", ", line 3: it must have an id and a label."),
        (b"id,label\nx\n", ", line 2: it must have an id and a label."),
        (b"id,label\n  ,cat\n", ", line 2: it must have an id and a label."),
        (b"id,label\n\xff\xfe,x\n", " cannot be read: "),
        (None, " cannot be read: "),
    ],
)
def test_what_are_no_labels_is_said(tmp_path, content, says):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NothingToCompare) as caught:
        feedback.read_labels(str(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_reliability_counts_each_eval_image_once():
    asked, labels = made.images(1003, 12)
    given = made.model(asked)
    told = measuring.of_answers(given, labels, made.NAMES)
    assert sum(each.count for each in told.reliability) == 1003
    right = (given.argmax(axis=1) == labels).sum()
    assert sum(each.correct for each in told.reliability) == right
    edges = [each.highest for each in told.reliability]
    assert edges == sorted(edges)
    assert told.answers == tuple(np.bincount(given.argmax(axis=1), minlength=10))
    assert stats.rankdata(edges).max() <= 20
