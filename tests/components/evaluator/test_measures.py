"""comparison.json against scikit-learn, on predictions that are made up."""

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    top_k_accuracy_score,
)

from components.evaluator import measures
from components.evaluator.measures import Answered, Images
from contract.comparison import BASELINE, CANDIDATE, IN_SERVICE, Slice

BANDS = ("lowest", "low", "high", "highest")


def make_images(n: int, classes: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return Images(
        ids=np.array([b"%d" % i for i in range(n)]),
        labels=rng.integers(classes, size=n),
        bands={
            f"{k}_band": rng.integers(4, size=n) for k in ("brightness", "contrast")
        },
    )


def make_answers(images: Images, classes: int, skill: float, seed: int) -> Answered:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(images), classes))
    logits[np.arange(len(images)), images.labels] += skill
    exp = np.exp(logits)
    probabilities = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answered(network=f"net{seed}", probabilities=probabilities)


def compare(images, answers, classes):
    names = [f"class{i}" for i in range(classes)]
    return measures.compare("eval", images, answers, names, BANDS)


@pytest.mark.parametrize("classes", [10, 100])
def test_every_number_is_scikit_learns(classes):
    images = make_images(700, classes)
    answers = {
        "baseline": make_answers(images, classes, 1.5, 1),
        "candidate": make_answers(images, classes, 2.0, 2),
    }
    found = compare(images, answers, classes)
    found.to_json()
    labels, order = images.labels, np.arange(classes)
    for role, given in answers.items():
        values = given.probabilities.astype(np.float64)
        predicted, model = values.argmax(axis=1), found.models[role].measured
        assert model.error == pytest.approx(1 - accuracy_score(labels, predicted))
        assert model.cross_entropy == pytest.approx(
            log_loss(labels, values / values.sum(1, keepdims=True), labels=order),
            rel=1e-5,
        )
        assert [list(row) for row in model.confusion] == confusion_matrix(
            labels, predicted, labels=order
        ).tolist()
        if classes == 100:
            top = top_k_accuracy_score(labels, values, k=5, labels=order)
            assert model.top5.error == pytest.approx(1 - top)
        else:
            assert model.top5 is None
        low, high = model.ci95
        assert low < model.error < high
        for index in (0, 7):
            part = labels == index
            expected = 1 - accuracy_score(labels[part], predicted[part])
            assert model.slices[Slice("label", index)].error == pytest.approx(expected)
        highest = Slice("brightness", "highest")
        bright = images.bands["brightness_band"] == 3
        expected = 1 - accuracy_score(labels[bright], predicted[bright])
        assert model.slices[highest].error == pytest.approx(expected)
        assert model.slices[highest].examples == bright.sum()
    pair = found.pairs[CANDIDATE, BASELINE]
    assert pair.difference == pytest.approx(
        found.models[CANDIDATE].measured.error - found.models[BASELINE].measured.error
    )
    wrong = {r: a.probabilities.argmax(1) != labels for r, a in answers.items()}
    only = wrong["candidate"] & ~wrong["baseline"]
    assert pair.only_first_wrong == only.sum()
    assert IN_SERVICE not in found.models
    assert (CANDIDATE, IN_SERVICE) not in found.pairs


@pytest.mark.parametrize(
    ("sizes", "limits", "names"),
    [
        ([9, 1, 2, 3, 4, 5, 6, 7], (2, 4, 6),
         ("up to 2 px", "3 to 4 px", "5 to 6 px", "over 6 px")),
        ([240] * 6 + [500], (240,), ("up to 240 px", "over 240 px")),
        ([100, 500, 500, 500, 500], (), None),  # the least is no quarter
        ([240], (), None),
    ],
)  # fmt: skip
def test_quarters_by_size_have_no_empty_ones(sizes, limits, names):
    assert measures.size_limits(np.array(sizes)) == limits
    if names:
        assert measures.size_names(limits) == names


def test_several_comparisons_are_corrected_and_nothing_else_moves():
    images = make_images(700, 4)
    answers = {
        name: make_answers(images, 4, skill, seed)
        for seed, (name, skill) in enumerate(
            {"baseline": 1.5, "candidate": 1.8, "deep": 2.0, "wide": 2.5}.items()
        )
    } | {"in_service": make_answers(images, 4, 1.0, 9)}
    found = compare(images, answers, 4)
    tests = {
        name: found.pairs[name, BASELINE] for name in ("candidate", "deep", "wide")
    }
    # Closed testing: a hypothesis is rejected if all sets that hold it are.
    for name, pair in tests.items():
        sets = (
            {name, *others}
            for size in range(3)
            for others in itertools.combinations(tests.keys() - {name}, size)
        )
        assert pair.holm_p_value == pytest.approx(
            max(
                min(1.0, len(each) * min(tests[one].p_value for one in each))
                for each in sets
            )
        )
    assert any(pair.holm_p_value > pair.p_value for pair in tests.values())
    for (first, second), pair in found.pairs.items():
        alone = compare(
            images, {"candidate": answers[first], "baseline": answers[second]}, 4
        ).pairs[CANDIDATE, BASELINE]
        assert alone.joint_ci95 is None and alone.holm_p_value is None
        assert dataclasses.replace(pair, holm_p_value=None, joint_ci95=None) == alone
        low, high = pair.joint_ci95
        assert low < pair.ci95[0] and pair.ci95[1] < high
        assert (pair.holm_p_value is None) == (second == IN_SERVICE)


def test_intervals_hold_for_all_contenders_together():
    """Of five networks that are all as good as the baseline, hardly ever one looks better."""
    draws, names = 300, ["candidate", "a", "b", "c"]
    single = joint = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        wrong = {name: rng.random(1000) < 0.2 for name in ("baseline", *names)}
        pairs = measures._pairs(wrong, {})
        single += any(pair.ci95[1] < 0 for pair in pairs.values())
        joint += any(pair.joint_ci95[1] < 0 for pair in pairs.values())
    assert joint <= draws * 0.025 + 3 * (draws * 0.025 * 0.975) ** 0.5
    assert single > 1.5 * joint and single > draws * 0.05


@pytest.mark.parametrize("n", [10, 1_000_000])
def test_a_constant_answer_and_agreement_at_any_size(n):
    images = make_images(n, 4)
    constant = np.tile(np.float32([0.1, 0.7, 0.1, 0.1]), (n, 1))
    same = Answered(network="a", probabilities=constant)
    found = compare(
        images, {"baseline": same, "candidate": same, "in_service": same}, 4
    )
    share = float((images.labels == 1).mean())
    for role in found.models:
        assert found.models[role].measured.error == pytest.approx(1 - share)
    for pair in found.pairs.values():
        assert pair.difference == 0
        assert pair.p_value == 1
        assert pair.ci95[0] < 0 < pair.ci95[1]
        assert all(p.interval[0] < 0 < p.interval[1] for p in pair.slices.values())


def test_a_contender_with_a_problem_leaves_the_others_alone():
    images = make_images(100, 4)
    answers = {
        "baseline": make_answers(images, 4, 1, 1),
        "candidate": Answered(network="b", probabilities=None, problem="it is broken"),
    }
    found = compare(images, answers, 4)
    assert found.models[CANDIDATE].problem == "it is broken"
    assert found.models[CANDIDATE].measured is None
    assert found.models[BASELINE].measured is not None
    assert not found.pairs
