"""Honest samples pass whatever their size; what has changed is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from components.dataset_schema.text import invariants_text
from components.drift import invariants
from components.drift.image_statistics import NUMBERS
from contract.config.drift import DriftConfig
from contract.datasets import DATASETS, known

pytestmark = pytest.mark.tf

Columns = dict[str, np.ndarray]


def schema(dataset: str, **thresholds: float | None) -> schema_pb2.Schema:
    text = invariants_text(known(dataset), DriftConfig(**thresholds))
    return text_format.Parse(text, schema_pb2.Schema())


def sample(dice: np.random.Generator, count: int, dataset: str = "cifar10") -> Columns:
    """Of one source: even classes, skewed numbers, grey images with red of its own."""
    names = np.array(DATASETS[dataset].class_names, object)
    columns: Columns = {
        name: (end * dice.beta(2, 5, count)).astype(np.float32)
        for name, end in NUMBERS.items()
    }
    columns["green"] = columns["blue"] = columns["brightness"]
    columns["label"] = names[dice.integers(0, len(names), count)]
    if coarse := DATASETS[dataset].coarse_class_names:
        columns["coarse_label"] = np.array(coarse, object)[
            dice.integers(0, len(coarse), count)
        ]
    return columns


def compare(
    ours: Columns, theirs: Columns, rules: schema_pb2.Schema, kind="skew"
) -> list[invariants.Distance]:
    from components.drift.image_statistics import statistics

    return invariants.compare(statistics(ours), statistics(theirs), rules, kind)


def violated(distances: list[invariants.Distance]) -> list[str]:
    return [distance.feature for distance in distances if distance.violated]


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("size", [1, 14, 144, 5000])
def test_honest_samples_pass(dataset: str, size: int):
    rules = schema(dataset)
    dice = np.random.default_rng([size, len(dataset)])
    above = 0
    for _ in range(8):
        reference = sample(dice, 20_000 if size == 5000 else 9 * size, dataset)
        found = compare(sample(dice, size, dataset), reference, rules)
        assert len(found) == len(rules.feature)
        assert violated(found) == []
        above += any(distance.value > distance.threshold for distance in found)
    if size <= 14:  # thresholds alone would have refused them
        assert above > 4


def test_the_strictest_thresholds_still_allow_for_chance():
    """With thresholds of 0, only chance is left to let honest samples pass."""
    rules = schema("cifar10", skew_labels=0.0, skew_images=0.0)
    dice = np.random.default_rng(5)
    refused = [
        violated(compare(sample(dice, 200), sample(dice, 900), rules))
        for _ in range(30)
    ]
    assert refused == [[]] * 30


def test_distances_are_those_of_their_definitions():
    dice = np.random.default_rng(11)
    ours, theirs = sample(dice, 700), sample(dice, 900)
    found = {d.feature: d for d in compare(ours, theirs, schema("cifar10"))}

    def shares(columns: Columns) -> np.ndarray:
        return np.array(
            [np.mean(columns["label"] == n) for n in known("cifar10").class_names]
        )

    largest = np.abs(shares(ours) - shares(theirs)).max()
    assert found["label"].value == pytest.approx(largest)
    assert found["label"].threshold == pytest.approx(0.05)
    for name, end in NUMBERS.items():
        p, q = (
            np.histogram(c[name], 32, (0, end))[0] / len(c[name])
            for c in (ours, theirs)
        )
        divergence = 0.0
        for x, y in zip(p, q, strict=True):
            middle = (x + y) / 2
            divergence += sum(z * math.log2(z / middle) / 2 for z in (x, y) if z)
        assert found[name].value == pytest.approx(divergence, abs=1e-9)


def without(columns: Columns, name: str) -> Columns:
    kept = columns["label"] != name
    return {key: values[kept] for key, values in columns.items()}


def relabelled(columns: Columns, old: str, new: str) -> Columns:
    label = np.where(columns["label"] == old, new, columns["label"])
    return columns | {"label": label}


# What is done to eval, and which features must be named.
CHANGES = {
    "brighter": (lambda c: c | {"brightness": c["brightness"] * 1.5}, ["brightness"]),
    "flatter": (lambda c: c | {"contrast": c["contrast"] * 0.5}, ["contrast"]),
    "red and green exchanged": (
        lambda c: c | {"red": c["green"] ** 2, "green": c["red"] ** 0.5},
        ["red", "green"],
    ),
    "blurred": (lambda c: c | {"sharpness": c["sharpness"] * 0.6}, ["sharpness"]),
    "one class missing": (lambda c: without(c, "cat"), ["label"]),
    "one class relabelled": (lambda c: relabelled(c, "cat", "dog"), ["label"]),
}


@pytest.mark.parametrize("kind", ["drift", "skew"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_named(change: str, kind):
    dice = np.random.default_rng(2)
    alter, expected = CHANGES[change]
    ours, theirs = sample(dice, 400), sample(dice, 4000)
    found = compare(alter(ours), theirs, schema("cifar10"), kind)
    assert violated(found) == expected
    label = next(d for d in found if d.feature == "label")
    if "label" in expected:
        assert label.here in ("class cat is 0.00%",) or label.here.startswith(
            "class dog is 2"
        )


def test_a_missing_class_is_seen_among_140_images_and_among_100_classes():
    dice = np.random.default_rng(3)
    digits = compare(
        without(sample(dice, 155, "digits"), "3"),
        sample(dice, 1297, "digits"),
        schema("digits"),
    )
    assert violated(digits) == ["label"]
    hundred = compare(
        without(sample(dice, 5000, "cifar100"), "cattle"),
        sample(dice, 45_000, "cifar100"),
        schema("cifar100"),
    )
    assert violated(hundred) == ["label"]
    assert hundred[0].here == "class cattle is 0.00%"


def test_a_class_of_chance_does_not_hide_one_that_is_missing():
    """The largest change may be chance, the second largest not."""
    names = [f"{digit}" for digit in range(10)]
    theirs = ["0"] * 4000 + [n for n in names[1:] for _ in range(600)]
    ours = ["0"] * 75 + [n for n in names[1:9] for _ in range(10)]
    dice = np.random.default_rng(1)

    def columns(labels: list[str]) -> Columns:
        return sample(dice, len(labels), "digits") | {"label": np.array(labels, object)}

    rules = schema("digits", skew_labels=0.3)
    (label, *_) = compare(columns(ours), columns(theirs), rules)
    assert label.feature == "label"
    assert not label.violated  # "9" is missing, but 155 images may lack 6 % by chance
    (label, *_) = compare(columns(ours * 4), columns(theirs), rules)
    assert label.violated


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 300))
def test_a_sample_is_at_no_distance_from_itself_and_both_directions_agree(seed, count):
    dice = np.random.default_rng(seed)
    ours, theirs = sample(dice, count), sample(dice, 300)
    rules = schema("cifar10")
    assert [d.value for d in compare(ours, ours, rules)] == pytest.approx([0] * 7)
    there = compare(ours, theirs, rules)
    back = compare(theirs, ours, rules)
    drift = compare(ours, theirs, rules, "drift")
    for one in (back, drift):
        assert [d.feature for d in one] == [d.feature for d in there]
        assert [d.value for d in one] == pytest.approx([d.value for d in there])
        assert violated(one) == violated(there)


@pytest.mark.parametrize(
    ("off", "kind", "left"),
    [
        ("labels", "drift", set(NUMBERS)),
        ("images", "drift", {"label"}),
        ("skew_labels", "skew", set(NUMBERS)),
        ("skew_images", "skew", {"label"}),
    ],
)
def test_none_switches_one_comparison_off(off, kind, left):
    dice = np.random.default_rng(0)
    ours, theirs = sample(dice, 50), sample(dice, 50)
    found = compare(ours, theirs, schema("cifar10", **{off: None}), kind)
    assert {distance.feature for distance in found} == left
    other = "skew" if kind == "drift" else "drift"
    assert len(compare(ours, theirs, schema("cifar10", **{off: None}), other)) == 7
