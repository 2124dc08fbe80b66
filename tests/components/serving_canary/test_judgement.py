"""The canary's rule on recorded answers."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.serving_canary.judgement import (
    SIGNATURES,
    Answer,
    Expected,
    NotComparable,
    Observed,
    beyond_doubt,
    judge,
    read_expected,
)
from contract.canary import CanaryResult
from contract.config.canary import CanaryConfig
from contract.datasets import Dataset

NAMES = ("cat", "dog", "ship")
TOY = Dataset(name="toy", title="Toy", image_shape=(32, 32, 3), labels={"label": NAMES})
PROBABILITIES = np.array(
    [[0.12, 0.80, 0.08], [0.50, 0.25, 0.25], [0.05, 0.05, 0.90]], np.float32
)
IMAGES = np.arange(3 * 3072, dtype=np.uint8).reshape(3, 32, 32, 3)
EXPECTED = Expected(images=IMAGES, probabilities=PROBABILITIES, class_names=NAMES)
CONFIG = CanaryConfig()


def answer(probabilities=PROBABILITIES, rows=(0, 1, 2), names=NAMES) -> Answer:
    labels = probabilities.argmax(axis=1)
    return Answer(
        rows=rows,
        probabilities=probabilities,
        labels=labels,
        class_names=tuple(names[label] for label in labels),
    )


def classified(probabilities=PROBABILITIES, names=NAMES) -> Answer:
    return Answer(
        rows=range(3), probabilities=probabilities, all_class_names=(names,) * 3
    )


SOUND = Observed(
    load_seconds=8.0,
    answers={
        name: classified() if name == "classify" else answer() for name in SIGNATURES
    },
    singles=answer(PROBABILITIES[[0, 1, 2, 0]], rows=(0, 1, 2, 0)),
    latencies_ms=(3.0, 1.0, 2.0, 10.0),
)


def observed(signature=None, given=None, **changes) -> Observed:
    if signature:
        changes["answers"] = {**SOUND.answers, signature: given}
    return dataclasses.replace(SOUND, **changes)


def reasons(what: Observed, config: CanaryConfig = CONFIG) -> list[str]:
    found = judge(EXPECTED, what, config, "candidate")
    assert found.passed == (not found.reasons)
    # canary.json takes no NaN and nothing of NumPy.
    assert CanaryResult.from_json(found.to_json(allow_nan=False), "x") == found
    return list(found.reasons)


def test_a_sound_model_passes_with_its_figures():
    found = judge(EXPECTED, SOUND, CONFIG, "candidate")
    assert found.passed
    assert found.p50_ms == 2.5
    assert found.p99_ms == pytest.approx(np.percentile([1, 2, 3, 10], 99))
    assert found.requests == 4
    assert found.max_abs_difference == 0
    assert {name: entry.ok for name, entry in found.signatures.items()} == (
        dict.fromkeys(SIGNATURES, True)
    )


def changed(row: int, column: int, value: float) -> np.ndarray:
    probabilities = PROBABILITIES.copy()
    probabilities[row, column] = value
    return probabilities


@pytest.mark.parametrize("signature", SIGNATURES)
def test_another_answer_than_in_training_is_refused(signature):
    make = classified if signature == "classify" else answer
    (reason,) = reasons(observed(signature, make(changed(0, 0, 0.91))))
    assert reason == (
        f"{signature} answers 0.91 for class cat where training answered 0.12 "
        "(tolerance 0.01): the serving signature differs from the training path"
    )


def test_single_requests_are_held_against_training_too():
    wrong = answer(changed(0, 0, 0.91)[[1, 0]], rows=(1, 0))
    (reason,) = reasons(observed(singles=wrong))
    assert "one image at a time, answers 0.91 for class cat" in reason


def test_small_differences_are_shown_with_enough_digits():
    (reason,) = reasons(
        observed("serving_default", answer(changed(1, 0, 0.5006))),
        dataclasses.replace(CONFIG, answer_tolerance=0.0005),
    )
    assert "0.501 for class cat where training answered 0.500" in reason


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_answers_that_are_no_numbers_are_refused(value, word):
    given = answer(changed(2, 2, value))
    (reason,) = reasons(observed("encoded_images", given))
    assert reason == f"encoded_images answers {word} for 1 of 3 images"


@pytest.mark.parametrize("signature", SIGNATURES)
def test_class_names_in_another_order_are_refused(signature):
    make = classified if signature == "classify" else answer
    (reason,) = reasons(observed(signature, make(names=("dog", "cat", "ship"))))
    assert signature in reason
    assert "wrong or in another order" in reason
    assert "cat" in reason and "dog" in reason


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("NOT_FOUND: no such signature", "fails: NOT_FOUND: no such signature"),
        (None, "was not tried"),
        (
            dataclasses.replace(answer(), labels=np.array([1, 1, 2])),
            "answers label 1 where its own probabilities say 0",
        ),
        (
            dataclasses.replace(answer(), labels=np.array([1, 7, 2])),
            "answers label 7 where its own probabilities say 0",
        ),
        (
            dataclasses.replace(answer(), labels=np.array([[1], [0], [2]])),
            "labels of shape [3, 1]",
        ),
        (
            dataclasses.replace(answer(), probabilities=PROBABILITIES[:, :2]),
            "shape [3, 2], must be [3, 3]",
        ),
    ],
)
def test_what_a_signature_can_do_wrong(given, words):
    (reason,) = reasons(observed("serialized_examples", given))
    assert reason.startswith("serialized_examples ")
    assert words in reason


def test_a_tie_may_go_to_either_class():
    # With 0.25 for dog and for ship of the second image, neither is the largest.
    tied = changed(1, 1, 0.5)
    expected = dataclasses.replace(EXPECTED, probabilities=tied)
    for label, name in ((0, "cat"), (1, "dog")):
        either = dataclasses.replace(
            answer(tied),
            labels=np.array([1, label, 2]),
            class_names=("dog", name, "ship"),
        )
        what = observed(
            answers=dict.fromkeys(SIGNATURES, either) | {"classify": classified(tied)},
            singles=None,
        )
        assert judge(expected, what, CONFIG, "candidate").passed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"load_seconds": 121.0}, "ready after 121.0 s; the budget is 120 s"),
        (
            {"latencies_ms": (1500.0,) * 4},
            "p50 of 4 requests with one image is 1,500.0",
        ),
        ({"latencies_ms": (1.0,) * 3 + (9000.0,)}, "p99 of 4 requests"),
        ({"failure": "request 3 fails"}, "request 3 fails"),
    ],
)
def test_budgets(changes, words):
    (reason,) = reasons(observed(**changes))
    assert words in reason


def test_a_server_that_ended_is_one_reason():
    gone = Observed(failure="the server ended while loading the model (signal 9): x")
    assert reasons(gone) == [gone.failure]


def test_every_fault_is_told():
    what = observed(
        "classify",
        "UNIMPLEMENTED: x",
        load_seconds=999.0,
        latencies_ms=(99_999.0,),
    )
    assert len(reasons(what)) == 4  # classify, load, p50, p99


@given(
    st.lists(st.floats(0, 100), max_size=40),
    st.integers(1, 60),
    st.floats(0.01, 99),
    st.floats(0.01, 99),
)
def test_measuring_stops_early_only_when_nothing_can_save_the_model(
    latencies, requests, p50, p99
):
    config = CanaryConfig(max_p50_ms=p50, max_p99_ms=p99, requests=requests)
    latencies = latencies[:requests]
    # The best that can still come: all others in no time at all.
    whole = [*latencies, *[0.0] * (requests - len(latencies))]
    missed = np.percentile(whole, 50) > p50 or np.percentile(whole, 99) > p99
    if beyond_doubt(latencies, config):
        assert missed
    # And it does stop where half of all requests were too slow.
    if sum(value > p50 for value in latencies) > requests / 2:
        assert beyond_doubt(latencies, config)


def model_with(tmp_path: Path, **arrays) -> Path:
    (tmp_path / "assets.extra").mkdir()
    stored = {
        "images": IMAGES,
        "probabilities": PROBABILITIES,
        "class_names": np.array(NAMES),
    } | arrays
    np.savez(
        tmp_path / "assets.extra/expected_answers.npz",
        **{name: array for name, array in stored.items() if array is not None},
    )
    return tmp_path


def test_expected_answers_are_read_back(tmp_path):
    found = read_expected(model_with(tmp_path), TOY)
    assert found.class_names == NAMES
    np.testing.assert_array_equal(found.images, IMAGES)
    np.testing.assert_array_equal(found.probabilities, PROBABILITIES)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": None}, "cannot be read"),
        ({"images": np.array([{}], dtype=object)}, "cannot be read"),  # a pickle
        ({"images": np.uint8(3)}, "do not fit"),
        ({"class_names": np.array("cat")}, "class_names is <U3 []"),
        ({"class_names": np.array([1, 2, 3])}, "class_names is int64"),
        ({"images": np.zeros((30_000, 32, 32, 3), np.uint8)}, "more than 67,108,864"),
        (
            {"class_names": np.array(["\x1b[2J\n", "dog", "ship"])},
            "class 0 of the model is named '\\x1b[2J\\n', of the data set cat",
        ),
        ({"images": IMAGES[:0], "probabilities": PROBABILITIES[:0]}, "do not fit"),
        ({"images": IMAGES[:2]}, "do not fit"),
        ({"images": IMAGES.astype(np.float32)}, "do not fit"),
        (
            {"probabilities": changed(1, 1, np.nan)},
            "training itself answered NaN for 1",
        ),
        (
            {"class_names": np.array(["dog", "cat", "ship"])},
            "class 0 of the model is named dog, of the data set cat",
        ),
    ],
)
def test_expected_answers_that_cannot_be_used(tmp_path, arrays, words):
    with pytest.raises(NotComparable, match=re.escape(words)):
        read_expected(model_with(tmp_path, **arrays), TOY)


def test_class_names_of_another_data_set_are_refused(tmp_path):
    with pytest.raises(NotComparable, match="3 class names, the data set 2"):
        two = dataclasses.replace(TOY, labels={"label": NAMES[:2]})
        read_expected(model_with(tmp_path), two)


def test_images_of_another_shape_are_refused(tmp_path):
    grey = dataclasses.replace(TOY, image_shape=(8, 8, 1))
    with pytest.raises(NotComparable, match=r"do not fit .* images \[8, 8, 1\]"):
        read_expected(model_with(tmp_path), grey)


def test_missing_or_damaged_expected_answers(tmp_path):
    with pytest.raises(NotComparable, match="train it again"):
        read_expected(tmp_path, TOY)
    file = model_with(tmp_path) / "assets.extra/expected_answers.npz"
    content = file.read_bytes()
    for damaged in (b"", b"PK\x03\x04", content[: len(content) // 2], b"no zip"):
        file.write_bytes(damaged)
        with pytest.raises(NotComparable, match="cannot be read"):
            read_expected(tmp_path, TOY)


def test_the_rule_loads_no_tensorflow():
    code = (
        "import sys, components.serving_canary.canary\n"
        "print(sorted({'tensorflow', 'tfx', 'keras', 'apache_beam'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("limits", "in_turns", "words"),
    [
        ({}, {"candidate": 9.0}, None),
        ({}, {}, None),
        (
            {"max_latency_ms": 3.0},
            {"candidate": 4.0, "baseline": 4.0},
            "one image takes 4.0 ms (canary.max_latency_ms allows 3 ms)",
        ),
        (
            {},
            {"candidate": 20.0, "in_service": 2.0},
            "one image takes 20.0 ms, 10.0 times as long as with the model in service, "
            "2.0 ms (canary.max_latency_ratio allows 5 times)",
        ),
        (
            {"max_latency_ratio": 2.0},
            {"candidate": 4.2, "baseline": 2.0},
            "one image takes 4.2 ms, 2.1 times as long as with the baseline, 2.0 ms "
            "(canary.max_latency_ratio allows 2 times)",
        ),
        ({"max_latency_ratio": 2.0}, {"candidate": 4.0, "baseline": 2.0}, None),
        ({"max_latency_ratio": None}, {"candidate": 900.0, "baseline": 1.0}, None),
        # Of the winner alone: the other may be as slow as it likes.
        ({"max_latency_ms": 3.0}, {"candidate": 2.0, "baseline": 400.0}, None),
    ],
)
def test_slower_than_what_it_may_replace(limits, in_turns, words):
    config = dataclasses.replace(CONFIG, **limits)
    found = reasons(observed(in_turns=in_turns), config)
    assert found == ([words] if words else [])
