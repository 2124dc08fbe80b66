"""predictions.npz: its form is fixed, what is written is read, damage is one sentence."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import predictions
from contract.predictions import Predictions
from contract.typed_json import RecordError

CLASSES = 3
# As it was before it had a type: written out by hand.
ARRAYS = {
    "ids": np.array([b"eval/0001", b"eval/2"]),
    "labels": np.array([2, 0]),
    "band/brightness_band": np.array([3, 0]),
    "band/contrast_band": np.array([1, 1]),
    "probabilities/baseline": np.array([[0, 0.25, 0.75], [1, 0, 0]], np.float32),
    "probabilities/in_service": np.full((2, 3), 1 / 3, np.float32),
}


def saved(**changes) -> bytes:
    """An .npz file; None: without this array."""
    buffer = io.BytesIO()
    arrays = {k: a for k, a in (ARRAYS | changes).items() if a is not None}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read(content: bytes, classes: int = CLASSES) -> Predictions:
    return Predictions.read(io.BytesIO(content), "predictions.npz", classes)


def test_an_earlier_file_is_read():
    found = read(saved(later=np.array(["of a later version"])))
    assert found.ids.tolist() == [b"eval/0001", b"eval/2"]
    assert found.labels.tolist() == [2, 0]
    assert found.bands.keys() == {"brightness_band", "contrast_band"}
    assert found.bands["brightness_band"].tolist() == [3, 0]
    assert found.probabilities.keys() == {"baseline", "in_service"}
    np.testing.assert_array_equal(
        found.probabilities["baseline"], ARRAYS["probabilities/baseline"], strict=True
    )


class Unseekable(io.BytesIO):
    """As TensorFlow's files in object stores, whose errors zipfile does not know."""

    def seek(self, *_: int) -> int:
        raise RuntimeError("seek")


def test_what_is_written_is_what_numpy_reads():
    """Ids also as TensorFlow gives them: an array of Python's bytes."""
    found = read(saved())
    changed = Predictions(
        ids=found.ids.astype(object),
        labels=found.labels,
        bands=found.bands,
        probabilities=found.probabilities,
    )
    sizes = np.array([16, 768])
    for told, arrays in (
        (changed, ARRAYS),
        (dataclasses.replace(changed, sizes=sizes), ARRAYS | {"sizes": sizes}),
    ):
        file = Unseekable()
        told.write(file)
        with np.load(io.BytesIO(file.getvalue()), allow_pickle=False) as written:
            assert set(written) == set(arrays)
            for name, array in arrays.items():
                np.testing.assert_array_equal(written[name], array, strict=True)
    assert found.sizes is None
    np.testing.assert_array_equal(read(file.getvalue()).sizes, sizes, strict=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ids": None}, "ids is missing;"),
        ({"labels": None}, "labels is missing;"),
        (
            {"ids": np.array([1, 2])},
            "ids=int64 [2]: must be bytes [2], and not empty;",
        ),
        (
            {"ids": np.array([b"one"])},
            "ids=|S3 [1]: must be bytes [2], and not empty;",
        ),
        (
            {"labels": np.array([2.0, 0.0])},
            "labels=float64 [2]: must be whole numbers [2], and not empty;",
        ),
        (
            {"labels": np.array([[2, 0]])},
            "labels=int64 [1, 2]: must be whole numbers [2], and not empty;",
        ),
        ({"labels": np.array([2, 3])}, "labels=3: must be at least 0 and at most 2;"),
        ({"labels": np.array([-1, 2])}, "labels=-1: must be at least 0 and at most 2;"),
        (
            {"band/contrast_band": np.array([4, 0])},
            "band/contrast_band=4: must be at least 0 and at most 3;",
        ),
        (
            {"band/contrast_band": np.array([0])},
            "band/contrast_band=int64 [1]: must be whole numbers [2], and not empty;",
        ),
        (
            {"sizes": np.array([16, -1])},
            "sizes=-1: must be at least 0 and at most 2.14748e+09;",
        ),
        (
            {"sizes": np.array([16.0, 17.0])},
            "sizes=float64 [2]: must be whole numbers [2], and not empty;",
        ),
        (
            {"probabilities/baseline": np.zeros((2, 4), np.float32)},
            "probabilities/baseline=float32 [2, 4]: must be numbers [2, 3], and not empty;",
        ),
        (
            {"probabilities/baseline": np.zeros((2, 3), int)},
            "probabilities/baseline=int64 [2, 3]: must be numbers [2, 3], and not empty;",
        ),
        *(
            (
                {"probabilities/in_service": np.array([[0, 0, 1], [0, 0, wrong]])},
                f"probabilities/in_service={wrong}: must be at least 0 and at most 1.01;",
            )
            for wrong in (float("nan"), float("inf"), -0.5, 1.5)
        ),
        (
            {name: array[:0] for name, array in ARRAYS.items()},
            "ids=|S9 [0]: must be bytes [0], and not empty;",
        ),
    ],
)
def test_the_sentence_names_array_value_and_rule(changes, says):
    with pytest.raises(RecordError) as refused:
        read(saved(**changes))
    assert str(refused.value).startswith(f"predictions.npz: {says}")
    assert str(refused.value).endswith("put back what was written, or make it anew")


def test_a_file_beyond_bounds_is_refused(monkeypatch):
    """At the file's own size, and at what its arrays unpack to."""
    content = saved()
    monkeypatch.setattr(predictions, "_MOST_BYTES", len(content) - 1)
    with pytest.raises(RecordError, match="predictions.npz: it has more than 1,"):
        read(content)
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **ARRAYS, x=np.zeros(10_000))
    monkeypatch.setattr(predictions, "_MOST_BYTES", len(packed.getvalue()))
    with pytest.raises(RecordError, match=r"npz: its arrays have 8\d,\d+ bytes, more"):
        read(packed.getvalue())


@settings(max_examples=300, deadline=2000)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.binary(max_size=12)),
        min_size=1,
        max_size=4,
    ),
    cut=st.booleans(),
)
def test_no_damage_is_more_than_one_sentence(edits, cut):
    content = bytearray(saved())
    for place, piece in edits:
        place %= len(content)
        content[place : place + len(piece)] = piece
    if cut:
        del content[edits[0][0] % len(content) :]
    try:
        found = read(bytes(content))
    except RecordError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        assert str(error).startswith("predictions.npz: ")
    else:
        for array in found.probabilities.values():
            assert array.argmax(axis=1).shape == found.labels.shape == found.ids.shape
