"""The facts of a run: what the runner writes, and what an earlier one wrote."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.config.run import RunConfig
from contract.fields import to_dict
from contract.run_facts import RunFacts, RunRecord
from contract.typed_json import RecordError
from pipeline.report.facts import run_facts
from tests.contract.comparisons import damaged

EARLIER = Path(__file__).parent / "earlier" / "run_configuration.json"


def test_the_facts_of_this_run_are_read_as_they_were():
    facts = run_facts(to_dict(RunConfig()), "a test", 1.7e9, 75.0)
    assert RunFacts.from_json(facts.to_json(), "x") == facts
    # A limit may be switched off so.
    facts = dataclasses.replace(facts, config={"drift": {"labels": float("inf")}})
    record = RunRecord(run_id="r", facts=facts, overrides={"train.steps": "5"})
    assert RunRecord.from_json(record.to_json(), "x") == record


def test_an_earlier_file_is_read_and_nothing_of_it_moves():
    with EARLIER.open("rb") as file:
        found = RunRecord.read(file, "run.json")
    assert json.loads(found.to_json()) == json.loads(EARLIER.read_text())
    assert found.facts.config["baseline"]["network"] == "resnet8"
    assert found.facts.seconds > 0


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_a_damaged_file_is_one_sentence(data):
    try:
        RunRecord.from_json(data.draw(damaged(EARLIER.read_text())), "run.json")
    except RecordError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        assert str(error).startswith("run.json: ")


def test_the_sentence_names_the_place_and_the_rule():
    values = json.loads(EARLIER.read_text())
    values["facts"]["started"] = "today"
    with pytest.raises(
        RecordError, match="^run.json: facts.started=today: must be a num"
    ):
        RunRecord.from_json(json.dumps(values), "run.json")
