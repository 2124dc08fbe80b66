"""run.json and history.json: what the Trainer writes, and what an earlier one wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.model_run import ModelRun
from contract.typed_json import RecordError
from tests.contract.comparisons import ANY_JSON, damaged

EARLIER = Path(__file__).parent / "earlier"
FILES = ("run.json", "history.json")
POINTS = st.dictionaries(st.text(), st.floats(allow_nan=False)).map(
    lambda point: point | {"step": 1, "epoch": 0.5}
)
COUNTS, SIZES = st.none() | st.integers(0, 10**9), st.none() | st.floats(0, 1e9)
NAMES = st.none() | st.text("abc_1 é", max_size=9)
FINITE_JSON = ANY_JSON.filter(lambda value: value == value and "nan" not in repr(value))


@settings(max_examples=50, deadline=2000)
@given(
    st.builds(
        ModelRun,
        network=NAMES,
        role=NAMES,
        parameters=COUNTS,
        train=st.dictionaries(st.text(), FINITE_JSON, max_size=3),
        train_examples=COUNTS,
        eval_examples=COUNTS,
        class_names=st.none() | st.lists(st.text(), max_size=3).map(tuple),
        preprocessing=st.dictionaries(st.text(), FINITE_JSON, max_size=3),
        commit=NAMES,
        versions=st.dictionaries(st.text(), st.text(), max_size=3),
        steps=COUNTS,
        seconds=SIZES,
        images_per_second=SIZES,
        replicas=COUNTS,
        history=st.lists(POINTS, max_size=3).map(tuple),
        problem=st.none() | NAMES,
    )  # fmt: skip
)
def test_what_is_written_is_read(run):
    assert ModelRun.from_json(run.to_json(), "x") == run


@pytest.mark.parametrize("name", FILES)
def test_earlier_files_are_read_and_nothing_of_them_moves(name):
    with (EARLIER / name).open("rb") as file:
        found = ModelRun.read(file, name)
    # What they could not know is unknown.
    later = ("dataset", "image_shape", "encoded", "problem")
    added = dict.fromkeys((*later, "initial_weights", "initial_weights_digest"))
    written = json.loads((EARLIER / name).read_text())
    assert not added.keys() & written.keys()
    assert json.loads(found.to_json()) == written | added
    assert found.network and found.class_names == tuple("0123456789")
    assert found.history[0]["loss"] > 0


def test_fewer_fields_are_a_run_of_which_less_is_known():
    assert ModelRun.from_json('{"network": "resnet20"}', "x") == ModelRun(
        network="resnet20"
    )


def test_a_training_may_tell_what_is_no_number():
    point = {"step": 1, "epoch": 0.5, "gradient_norm": float("inf")}
    run = ModelRun(history=(point,))
    assert ModelRun.from_json(run.to_json(), "x").history == (point,)


@settings(max_examples=300, deadline=2000)
@given(st.data())
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_sentence(name, data):
    text = data.draw(damaged((EARLIER / name).read_text()))
    try:
        found = ModelRun.from_json(text, name)
    except RecordError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        assert str(error).startswith(f"{name}: ")
    else:
        found.to_json()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"network": 5}, "run.json: network=5: must be text"),
        ({"network": "a\nb"}, "run.json: network must be printable, in 200 characters"),
        (
            {"network": "a" * 201},
            "run.json: network must be printable, in 200 characters",
        ),
        ({"parameters": True}, "run.json: parameters=True: must be a whole number"),
        ({"parameters": -1}, "run.json: parameters=-1: must be at least 0"),
        (
            {"parameters": 10**400},
            f"run.json: parameters={'1' + 59 * '0'}...: must be at",
        ),
        (
            {"seconds": 10**400},
            f"run.json: seconds={'1' + 59 * '0'}...: must be a number",
        ),
        ({"class_names": "cat"}, "run.json: class_names=cat: must be a list"),
        (
            {"history": [{"step": 1}]},
            "run.json: history[0] must have a step and an epoch",
        ),
        ({"history": [[1]]}, "run.json: history[0]=a list: must be an object"),
        ({"versions": {"tfx\x1b": 1}}, "run.json: versions.'tfx\\x1b'=1: must be text"),
    ],
)
def test_the_sentence_names_the_place_and_the_rule(values, words):
    with pytest.raises(RecordError) as refused:
        ModelRun.from_json(json.dumps(values), "run.json")
    assert str(refused.value).startswith(words)
