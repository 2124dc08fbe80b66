"""Hypothesis strategies for what travels between nodes, and for damage to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from contract.comparison import (
    Bin,
    ComparedModel,
    Comparison,
    Decision,
    Difference,
    ErrorRate,
    Measures,
    Slice,
    SliceDifference,
    pairs_of,
)

# As the project wrote them before slices were pairs.
EARLIER = Path(__file__).parent / "earlier"
# The two of every run, two more, and the one in service.
NAMES = ("baseline", "candidate", "alpha", "wide", "in_service")
KINDS = {"comparison.json": Comparison, "decision.json": Decision}

SHARES = st.floats(0, 1)
NUMBERS = st.floats(-1e6, 1e6)
COUNTS = st.integers(0, 10**6)
INTERVALS = st.tuples(NUMBERS, NUMBERS)
SIZES = st.none() | st.floats(0, 1e6)
RATES = st.builds(
    ErrorRate,
    error=SHARES,
    ci95=st.tuples(SHARES, SHARES),
    examples=COUNTS,
    errors=COUNTS,
)
BINS = st.builds(
    Bin, low=SHARES, high=SHARES, examples=st.integers(1, 99),
    confidence=NUMBERS, accuracy=SHARES,
)  # fmt: skip
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)


def earlier(name: str) -> Any:
    with (EARLIER / name).open("rb") as file:
        return KINDS[name].read(file, name)


@st.composite
def comparisons(draw: Any, split: str | None = None) -> Comparison:
    names = draw(st.lists(st.text(), min_size=1, max_size=3))
    classes = len(names)
    parts = st.builds(Slice, st.just("label"), st.integers(0, classes - 1)) | st.builds(
        Slice, st.sampled_from(("brightness", "contrast")), st.text()
    )
    row = st.tuples(*[COUNTS] * classes)
    measured = st.builds(
        Measures,
        error=SHARES, ci95=st.tuples(SHARES, SHARES), examples=COUNTS, errors=COUNTS,
        top5=st.none() | RATES, cross_entropy=NUMBERS, cross_entropy_ci95=INTERVALS,
        ece=SHARES, ece_ci95=INTERVALS,
        reliability=st.lists(BINS, max_size=2).map(tuple),
        slices=st.dictionaries(parts, RATES, max_size=3),
        confusion=st.tuples(*[row] * classes),
    )  # fmt: skip
    told = {
        "network": st.text(),
        "latency_ms": SIZES,
        "images_per_second": SIZES,
        "load_seconds": SIZES,
        "artifact_id": st.none() | COUNTS,
    }
    sound = st.builds(ComparedModel, problem=st.none(), measured=measured, **told)
    broken = st.builds(
        ComparedModel, problem=st.text(min_size=1), measured=st.none(), **told
    )
    models = draw(st.dictionaries(st.sampled_from(NAMES), sound | broken))
    there = [
        pair for pair in pairs_of(models) if all(models[name].measured for name in pair)
    ]
    differences = st.builds(
        Difference,
        difference=NUMBERS, ci95=INTERVALS, bootstrap_ci95=INTERVALS, p_value=SHARES,
        only_first_wrong=COUNTS, only_second_wrong=COUNTS, both_wrong=COUNTS,
        examples=COUNTS, method=st.text(), holm_p_value=st.none() | SHARES,
        joint_ci95=st.none() | INTERVALS,
        slices=st.dictionaries(
            parts,
            st.builds(
                SliceDifference, difference=NUMBERS, interval=INTERVALS, examples=COUNTS
            ),
            max_size=2,
        ),
    )  # fmt: skip
    return Comparison(
        split=draw(st.just(split) if split else st.text()),
        examples=draw(COUNTS),
        class_names=tuple(names),
        constant_error=draw(SHARES),
        models=models,
        pairs={pair: draw(differences) for pair in there},
    )


@st.composite
def decisions(draw: Any) -> Decision:
    comparison = draw(comparisons())
    return Decision(
        policy=draw(st.text()),
        winner=draw(st.sampled_from([None, *comparison.models])),
        reason=draw(st.text()),
        blocked_by=tuple(draw(st.lists(st.text(), max_size=2))),
        comparison=comparison,
    )


@st.composite
def damaged(draw: Any, text: str) -> str:
    """A file after one change: cut, or with one value replaced or gone."""
    if draw(st.integers(0, 9)) == 0:
        return text[: draw(st.integers(0, len(text) - 1))]
    values = json.loads(text)
    place = values
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = draw(st.sampled_from(keys))
        if not place[key] or not isinstance(place[key], (dict, list)) or draw(
            st.integers(0, 3)
        ) == 0:  # fmt: skip
            break
        place = place[key]
    if draw(st.booleans()):
        place[key] = draw(ANY_JSON)
    else:
        del place[key]
    return json.dumps(values)
