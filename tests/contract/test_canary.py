"""canary.json: what is written is read, as it was and as it once was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.canary import CanaryResult, SignatureCheck
from contract.typed_json import RecordError
from tests.contract.comparisons import COUNTS, SIZES, damaged

EARLIER = Path(__file__).parent / "earlier" / "canary.json"
CHECKS = st.builds(
    SignatureCheck,
    ok=st.booleans(),
    max_abs_difference=SIZES,
    reason=st.none() | st.text(),
)


@st.composite
def results(draw: st.DrawFn) -> CanaryResult:
    reasons = tuple(draw(st.lists(st.text(), max_size=2)))
    return CanaryResult(
        passed=not reasons,
        reasons=reasons,
        server=draw(st.none() | st.text()),
        load_seconds=draw(SIZES),
        p50_ms=draw(SIZES),
        p99_ms=draw(SIZES),
        requests=draw(COUNTS),
        latency_ms=draw(st.dictionaries(st.text(), st.floats(0, 1e6), max_size=2)),
        max_abs_difference=draw(SIZES),
        signatures=draw(st.dictionaries(st.text(), CHECKS, max_size=2)),
        versions=draw(st.dictionaries(st.text(), st.text(), max_size=2)),
    )


@settings(max_examples=50, deadline=2000)
@given(results())
def test_what_is_written_is_read(value):
    assert CanaryResult.from_json(value.to_json(allow_nan=False), "x") == value


def test_an_earlier_file_is_read_and_nothing_of_it_moves():
    with EARLIER.open("rb") as file:
        found = CanaryResult.read(file, "canary.json")
    written, before = json.loads(found.to_json()), json.loads(EARLIER.read_text())
    assert written.pop("latency_ms") == {}  # which it did not have
    assert written == before
    assert list(written) == list(before)
    assert found.passed and found.requests == 50
    assert found.signatures["classify"].ok


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_a_damaged_file_is_one_sentence(data):
    text = data.draw(damaged(EARLIER.read_text()))
    try:
        found = CanaryResult.from_json(text, "canary.json")
    except RecordError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        assert str(error).startswith("canary.json: ")
    else:
        found.to_json()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"passed": False}, "passed must be true if there is no reason against the"),
        ({"reasons": ["it is slow"]}, "passed must be true if there is no reason "),
        ({"passed": 1}, "passed=1: must be true or false;"),
        ({"reasons": "slow"}, "reasons=slow: must be a list;"),
        ({"requests": -1}, "requests=-1: must be at least 0"),
        ({"p50_ms": "fast"}, "p50_ms=fast: must be a number;"),
        ({"signatures": {"classify": {"ok": True}}}, "signatures.classify.max_abs"),
    ],
)
def test_the_sentence_names_the_place_and_the_rule(change, says):
    values = json.loads(EARLIER.read_text()) | change
    with pytest.raises(RecordError) as refused:
        CanaryResult.from_json(json.dumps(values), "canary.json")
    assert str(refused.value).startswith(f"canary.json: {says}")
