"""A data set as it travels: dataset.json."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import datasets
from contract.datasets import DATASETS, Dataset, known
from contract.typed_json import RecordError


@given(
    st.lists(st.text(min_size=1), min_size=2, unique=True),
    st.tuples(st.integers(1, 1 << 16), st.integers(1, 1 << 16), st.integers(1, 4)),
    st.dictionaries(st.sampled_from(["train", "eval", "test"]), st.integers(0, 10**9)),
)
def test_what_is_written_is_read(names, shape, counts):
    value = Dataset(
        name="own",
        title="My own",
        image_shape=shape,
        labels={"label": tuple(names)},
        counts=counts,
    )
    if any("\ud800" <= sign <= "\udfff" for name in names for sign in name):
        return
    assert Dataset.from_json(value.to_json(), "dataset.json") == value
    assert value.class_names == tuple(names)


@pytest.mark.parametrize("name", DATASETS)
def test_every_known_set_travels(name):
    value = known(name)
    assert Dataset.from_json(value.to_json(), "dataset.json") == value
    assert value.class_names == DATASETS[name].class_names


def test_coarse_classes_are_those_of_their_own_feature():
    coarse = known("cifar100", "coarse")
    assert len(coarse.class_names) == 20
    assert coarse.label_key == "coarse_label"
    assert len(coarse.labels["label"]) == 100
    with pytest.raises(ValueError, match="data.label=coarse: cifar10 has no coarse"):
        known("cifar10", "coarse")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": {"label": ["one"]}}, "two classes or more"),
        ({"labels": {"label": ["a", "a"]}}, "a name of its own"),
        ({"labels": {"label": ["a", ""]}}, "a name of its own"),
        ({"label_key": "other"}, "label_key=other: must be one of the labels"),
        ({"image_shape": [32, 32, 5]}, "must be at least 1 and at most 4"),
        ({"image_shape": [0, 32, 3]}, "image_shape"),
        ({"image_shape": [None, 32, 3]}, "height and width, or neither"),
        ({"image_shape": [32, 32]}, "must be a list of 3"),
        ({"crop": 16}, "image_shape tells one"),
        ({"counts": {"train": -1}}, "counts"),
        ({"labels": []}, "must be an object"),
    ],
)
def test_what_is_no_data_set_is_told(change, message):
    values = known("digits").plain() | change
    with pytest.raises(RecordError, match=message):
        Dataset.from_plain(values, "dataset.json")


def test_images_may_vary_in_size():
    value = dataclasses.replace(known("digits"), image_shape=(None, None, 3))
    assert Dataset.from_json(value.to_json(), "dataset.json") == value


def test_superclasses_name_the_classes_of_the_coarse_feature():
    entry = datasets.DATASETS["cifar100"]
    assert entry.superclasses[entry.class_names.index("maple_tree")] == 17
    assert entry.coarse_class_names[17] == "trees"


def test_of_images_of_any_size_a_network_is_shown_a_square():
    value = dataclasses.replace(known("digits"), image_shape=(None, None, 3), crop=24)
    assert value.pixels == (24, 24, 3)
    assert Dataset.from_json(value.to_json(), "dataset.json") == value
