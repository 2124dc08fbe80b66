"""What differs between two executions, said by field, file and input."""

import json

import pytest

from contract.provenance import source_digest
from pipeline.local import reasons

SECTIONS = {"custom_config": "", "rule": "evaluation"}


def trainer(**changes) -> dict:
    """As TFX keeps a Trainer's parameters: JSON within JSON."""
    train = {"seed": 1, "steps": None} | changes.pop("train", {})
    settings = {
        "role": "candidate",
        "model": json.dumps({"network": "resnet8"} | changes.pop("model", {})),
        "train": json.dumps(train),
        "source": source_digest("trainer/units.py"),
    }
    return {"custom_config": json.dumps(settings | changes), "run_fn": "trainer.run"}


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (trainer(), []),
        (trainer(train={"seed": 2}), ["train.seed 1 -> 2"]),
        (trainer(train={"steps": 5}), ["train.steps none -> 5"]),
        (trainer(train={"flip": True}), ["train.flip none -> true"]),
        (trainer(model={"network": "x"}), ["candidate.network resnet8 -> x"]),
        (trainer() | {"run_fn": "y"}, ["run_fn trainer.run -> y"]),
        (
            trainer(train={"seed": 2}, source="00"),
            ["train.seed 1 -> 2",
             "its code"],
        ),
    ],
)  # fmt: skip
def test_fields_are_named_as_a_person_knows_them(after, told):
    assert reasons.of_parameters(trainer(), after, SECTIONS) == told


def test_a_section_has_its_name():
    before, after = ({"rule": json.dumps({"policy": p})} for p in ("best", "superior"))
    told = reasons.of_parameters(before, after, SECTIONS)
    assert told == ["evaluation.policy best -> superior"]


def test_of_many_edited_files_some_are_named():
    now = source_digest("trainer/run.py")
    before = " ".join(
        word if "==" in word else word[:-1] + ("0" if word[-1] != "0" else "1")
        for word in now.split(" ")
    )
    told = reasons.of_parameters({"source": before}, {"source": now}, {})
    assert told[0] == "contract/__init__.py edited"
    count = sum(":" in word for word in now.split(" "))
    assert told[-1] == f"{count - 3} more files"
    assert len(told) == 4


def test_long_values_are_shown_where_they_part():
    before, after = f"/a/{'long/' * 20}one", f"/a/{'long/' * 20}other"
    (told,) = reasons.of_parameters({"path": before}, {"path": after}, {})
    one, other = told.removeprefix("path ").split(" -> ")
    assert one.startswith("...") and one.endswith("/one")
    assert other.endswith("/other") and len(told) < 80


def test_of_long_texts_the_first_line_that_differs_is_shown():
    text = [f"line {number}" for number in range(50)]
    changed = ["  LINE 7", *text[8:]]
    (told,) = reasons.of_parameters(
        {"text": "\n".join(text)}, {"text": "\n".join([*text[:7], *changed])}, {}
    )
    assert told == "text line 7 -> LINE 7"


def test_what_could_move_a_cursor_is_no_part_of_a_reason():
    (told,) = reasons.of_parameters({"x": "a"}, {"x": "\x1b[2J"}, {})
    assert told.isprintable()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("aa", "bb", ["other data"]),  # of an earlier version
        ("aa a.bin:1 b.bin:2", "bb a.bin:1 b.bin:3", ["data: b.bin changed"]),
        ("aa a.bin:1", "bb a.bin:1 b.bin:3", ["data: b.bin new"]),
        ("aa a.bin:1 b.bin:3", "bb a.bin:1", ["data: b.bin gone"]),
        ("aa a.bin:1", "bb a.bin:1", ["data from another source"]),
        ("aa a%20b.bin:1", "bb a%20b.bin:2", ["data: a b.bin changed"]),
    ],
)
def test_files_of_data_are_named(before, after, told):
    found = reasons.of_parameters({"fingerprint": before}, {"fingerprint": after}, {})
    assert found == told


def test_inputs_are_named():
    before = {"examples": [1], "model": [2], "old": [3], "same": [4]}
    after = {"examples": [7], "model": [8], "other": [5], "same": [4]}
    assert reasons.of_inputs(before, after, {7, 8}) == [
        "new inputs: examples, model", "old: none any more", "other: there is one now",
    ]  # fmt: skip
    assert reasons.of_inputs({"a": [1]}, {"a": [2]}, set()) == ["a: another one"]
    assert reasons.of_inputs({"a": [1]}, {"a": [2]}, {2}) == ["new input: a"]
