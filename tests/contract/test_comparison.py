"""Comparison and Decision: what is written is read, as it was and as it once was."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.comparison import (
    BASELINE,
    CANDIDATE,
    IN_SERVICE,
    Comparison,
    Slice,
    pairs_of,
)
from contract.typed_json import RecordError
from tests.contract.comparisons import (
    EARLIER,
    KINDS,
    comparisons,
    damaged,
    decisions,
    earlier,
)


@settings(max_examples=50, deadline=2000)
@given(comparisons() | decisions())
def test_what_is_written_is_read(value):
    assert type(value).from_json(value.to_json(), "x") == value


@pytest.mark.parametrize("name", KINDS)
def test_earlier_files_are_read_and_nothing_of_them_moves(name):
    before = json.loads((EARLIER / name).read_text())
    found = json.loads(earlier(name).to_json())
    assert without_pairs(found) == before
    assert found != before  # slices have gained feature and value


def without_pairs(value):
    """JSON without what slices have gained."""
    if isinstance(value, list):
        return [without_pairs(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {
            name: {k: v for k, v in part.items() if k not in ("feature", "value")}
            for name, part in item.items()
        }
        if key == "slices"
        else without_pairs(item)
        for key, item in value.items()
    }


def test_an_earlier_comparison_says_what_it_said():
    found = earlier("comparison.json")
    candidate = found.models[CANDIDATE]
    assert (candidate.network, candidate.artifact_id) == ("preact_resnet20", 6)
    assert candidate.measured.error == 4 / 60
    assert {part.feature for part in candidate.measured.slices} == {
        "label", "brightness", "contrast",
    }  # fmt: skip
    assert candidate.measured.slices[Slice("label", 0)].examples == sum(
        candidate.measured.confusion[0]
    )
    assert found.pairs[CANDIDATE, BASELINE].difference == pytest.approx(-5 / 60)
    service = found.models[IN_SERVICE]
    assert (service.problem, service.measured) == ("it cannot be run: no file", None)
    assert (CANDIDATE, IN_SERVICE) not in found.pairs
    decision = earlier("decision.json")
    assert (decision.winner, decision.policy) == (CANDIDATE, "best")
    assert decision.comparison == found


def test_slices_are_pairs_in_the_file_too():
    written = json.loads(earlier("comparison.json").to_json())
    for found in (
        written["models"]["baseline"],
        written["pairs"]["candidate_minus_baseline"],
    ):
        assert found["slices"]["label=2"]["feature"] == "label"
        assert found["slices"]["label=2"]["value"] == 2
        assert found["slices"]["brightness=lowest"]["value"] == "lowest"
    # The pair is what counts, not the text.
    slices = written["models"]["baseline"]["slices"]
    slices["anything"] = slices.pop("label=2")
    found = Comparison.from_plain(written, "x").models[BASELINE].measured.slices
    assert Slice("label", 2) in found


def test_a_role_that_is_not_there_is_null():
    """As programs that read report.json know it."""
    found = earlier("comparison.json")
    alone = dataclasses.replace(
        found, models={BASELINE: found.models[BASELINE]}, pairs={}
    )
    written = json.loads(alone.to_json())
    assert list(written["models"]) == ["baseline", "candidate", "in_service"]
    assert written["models"]["in_service"] is None
    assert written["pairs"] == {
        "candidate_minus_baseline": None,
        "candidate_minus_in_service": None,
        "baseline_minus_in_service": None,
    }
    assert Comparison.from_plain(written, "x") == alone


def test_everyone_is_compared_with_the_baseline_and_with_the_model_in_service():
    assert pairs_of(["in_service", "candidate", "baseline"]) == [
        ("candidate", "baseline"),
        ("candidate", "in_service"),
        ("baseline", "in_service"),
    ]
    assert pairs_of({"wide", "baseline", "candidate", "deep"}) == [
        ("candidate", "baseline"),
        ("deep", "baseline"),
        ("wide", "baseline"),
    ]
    assert pairs_of(["wide", "in_service"]) == [("wide", "in_service")]
    assert pairs_of([]) == []


def test_a_correction_is_in_the_file_only_where_there_is_one():
    found = earlier("comparison.json")
    pair = found.pairs[CANDIDATE, BASELINE]
    assert not {"holm_p_value", "joint_ci95"} & pair.plain().keys()
    assert (pair.deciding_p_value, pair.deciding_ci95) == (pair.p_value, pair.ci95)
    several = dataclasses.replace(pair, holm_p_value=0.5, joint_ci95=(-0.5, 0.5))
    assert several.plain()["joint_ci95"] == [-0.5, 0.5]
    assert several.plain()["ci95"] == list(pair.ci95)
    assert (several.deciding_p_value, several.deciding_ci95) == (0.5, (-0.5, 0.5))


def test_words_for_people():
    assert Slice("label", 1).words(("cat", "dog")) == "class dog"
    assert Slice("brightness", "low").words(("cat", "dog")) == "brightness=low"


@settings(max_examples=300, deadline=2000)
@given(st.data())
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_one_sentence(name, data):
    text = data.draw(damaged((EARLIER / name).read_text()))
    try:
        found = KINDS[name].from_json(text, name)
    except RecordError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        assert str(error).startswith(f"{name}: ")
    else:
        found.to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["models"]["baseline"].pop("error"),
            "models.baseline.error is missing",
        ),
        (
            lambda c: c["models"]["baseline"].update(error=1.5),
            "models.baseline.error=1.5: must be at least 0 and at most 1",
        ),
        (
            lambda c: c["models"]["baseline"].update(ece="low"),
            "models.baseline.ece=low: must be a number",
        ),
        (
            lambda c: c["models"]["baseline"].update(cross_entropy=float("nan")),
            "models.baseline.cross_entropy=nan: must be a finite number",
        ),
        (
            lambda c: c["models"]["baseline"]["confusion"].pop(),
            "the confusion of baseline must have 3 rows and columns",
        ),
        (
            lambda c: c["models"]["in_service"].update(problem=None),
            "models.in_service: neither an error rate nor a problem is told",
        ),
        (
            lambda c: c["pairs"].update(candidate_minus_baseline=None),
            "candidate_minus_baseline must be there if both were measured",
        ),
        (
            lambda c: c["models"]["baseline"]["slices"].update(
                {"label=3": c["models"]["baseline"]["slices"]["label=2"]}
            ),
            "the slice label=3 must be of one of 3 classes",
        ),
        (
            lambda c: c["pairs"]["candidate_minus_baseline"].update(ci95=[0.1]),
            "pairs.candidate_minus_baseline.ci95=a list: must be a list of 2",
        ),
        (lambda c: c.update(models=[]), "models=a list: must be an object"),
        (
            lambda c: c["models"].update({str(n): {} for n in range(100)}),
            "models=an object: must have 100 entries at most",
        ),
        (
            lambda c: c["models"]["baseline"].update(network="\ud800"),
            "models.baseline.network='\\ud800': must be text",
        ),
    ],
)
def test_the_sentence_names_the_place_and_the_rule(change, words):
    values = json.loads((EARLIER / "comparison.json").read_text())
    change(values)
    with pytest.raises(RecordError) as refused:
        Comparison.from_json(json.dumps(values), "folder/comparison.json")
    assert str(refused.value).startswith("folder/comparison.json: ")
    assert words in str(refused.value)
    assert str(refused.value).endswith("put back what was written, or make it anew")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"split": ', "[" * 100_000])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(RecordError, match="^comparison.json: "):
        Comparison.from_json(text, "comparison.json")


def test_a_winner_was_compared():
    decision = earlier("decision.json")
    with pytest.raises(ValueError, match="the winner nobody was not compared"):
        dataclasses.replace(decision, winner="nobody")


def test_a_later_version_may_add_keys():
    values = json.loads((EARLIER / "comparison.json").read_text())
    values["models"]["baseline"]["confidence_sum"] = 5
    values["weather"] = "fine"
    assert Comparison.from_plain(values, "x") == earlier("comparison.json")
