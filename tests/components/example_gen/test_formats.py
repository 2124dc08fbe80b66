import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.example_gen import formats
from components.example_gen.errors import DataError
from tests.components.example_gen import official


def test_text_keys_and_other_array_types_of_labels_are_read():
    pixels, labels, _ = official.images(1, 4)
    entries = official.content(pixels, np.array(labels, np.dtype(">i8")))
    entries = {key.decode(): value for key, value in entries.items()}
    (records,) = formats.parse_python(pickle.dumps(entries), "cifar10", "f")
    assert records.labels.tolist() == labels


@given(
    st.integers(1, 4), st.integers(0, 2**32), st.sampled_from(["cifar10", "cifar100"])
)
@settings(max_examples=20, deadline=None)
def test_binary_records_round_trip_in_chunks(count, seed, dataset):
    pixels, labels, coarse = official.images(seed, count, dataset)
    payload = official.binary(pixels, labels, coarse if dataset == "cifar100" else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "CHUNK_RECORDS", 2)
        chunks = list(formats.parse_binary(payload, dataset, "f"))
    assert all(len(chunk.labels) <= 2 for chunk in chunks)
    joined = np.concatenate([chunk.pixels for chunk in chunks])
    np.testing.assert_array_equal(joined.reshape(-1, 32, 32, 3), pixels)
    assert np.concatenate([chunk.labels for chunk in chunks]).tolist() == labels


@given(st.integers(1, 3 * 3073 - 1).filter(lambda n: n % 3073))
@settings(deadline=None)
def test_any_truncation_names_the_record(length):
    payload = bytes(3 * 3073)[:length]
    with pytest.raises(DataError, match=f"^f: .*record {length // 3073} is cut off"):
        list(formats.parse_binary(payload, "cifar10", "f"))


@given(st.binary(max_size=3 * 3074))
@settings(deadline=None)
def test_random_bytes_are_refused_or_valid(payload):
    for parse in (formats.parse_binary, formats.parse_python):
        for dataset, classes in (("cifar10", 10), ("cifar100", 100)):
            try:
                chunks = list(parse(payload, dataset, "f"))
            except DataError as refused:
                assert str(refused).startswith("f: ") and "\n" not in str(refused)
                continue
            assert all(c.labels.min() >= 0 and c.labels.max() < classes for c in chunks)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_pickles_are_refused_or_valid(data):
    dump = data.draw(st.sampled_from(list(official.DUMPS.values())))
    pixels, labels, _ = official.images(0, 2)
    payload = bytearray(dump(official.content(pixels, labels)))
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of the payload is pixels: aim at the structure around them.
        near = st.one_of(st.integers(0, 250), st.integers(1, 250).map(lambda n: -n))
        payload[data.draw(near) % len(payload)] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.sampled_from([len(payload), len(payload) - 9]))]
    try:
        chunks = list(formats.parse_python(bytes(payload), "cifar10", "f"))
    except DataError as refused:
        assert str(refused).startswith("f: ") and "\n" not in str(refused)
    else:
        for chunk in chunks:
            assert chunk.pixels.dtype == np.uint8 and chunk.pixels.shape[1] == 3072
            assert chunk.labels.min() >= 0 and chunk.labels.max() < 10


@given(st.integers(0, 4), st.integers(10, 255))
@settings(max_examples=20, deadline=None)
def test_label_out_of_range_names_the_record(record, label):
    payload = bytearray(5 * 3073)
    payload[record * 3073] = label
    with pytest.raises(
        DataError, match=f"record {record} has label {label}, must be 0 t"
    ):
        list(formats.parse_binary(bytes(payload), "cifar10", "f"))


def test_coarse_label_out_of_range_is_refused():
    payload = bytes([20, 99]) + bytes(3072)
    with pytest.raises(
        DataError, match="record 0 has coarse label 20, must be 0 to 19"
    ):
        list(formats.parse_binary(payload, "cifar100", "f"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": np.full((2, 3072), np.nan)}, r"data is float64\[2, 3072\]"),
        ({b"data": np.zeros((2, 3071), np.uint8)}, r"data is uint8\[2, 3071\]"),
        (
            {b"data": np.zeros((2, 32, 32, 3), np.uint8)},
            r"data is uint8\[2, 32, 32, 3\]",
        ),
        ({b"data": np.zeros((0, 3072), np.uint8)}, "no records"),
        ({b"data": b"xyz"}, "'data' is a bytes"),
        ({b"data": np.array([None, "x"])}, "type .O8. is not read"),
        ({b"labels": [1]}, "must be 2 whole numbers"),
        ({b"labels": [1, 1.0]}, "record 1 has labels 1.0, must be a whole number"),
        ({b"labels": [1, True]}, "record 1 has labels True"),
        ({b"labels": [1, 2**70]}, "record 1 has labels 1180591620717411303424"),
        ({b"labels": [1, -1]}, "record 1 has label -1"),
        ({b"labels": np.array([0.0, np.nan])}, "must be 2 whole numbers"),
        ({b"labels": None}, "must be 2 whole numbers"),
    ],
)
def test_wrong_python_content_is_named(change, message):
    pixels, labels, _ = official.images(1, 2)
    payload = pickle.dumps(official.content(pixels, labels) | change)
    with pytest.raises(DataError, match=message):
        list(formats.parse_python(payload, "cifar10", "f"))


@pytest.mark.parametrize("value", [[1], None, {}, {b"data": 1}, {1: 2}])
def test_pickles_of_something_else_are_refused(value):
    with pytest.raises(DataError, match="^f: .*official file"):
        list(formats.parse_python(pickle.dumps(value), "cifar10", "f"))


class Evil:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch PWNED",)),
        (eval, ("1",)),
        (np.zeros, (10**12,)),
        (np.fromfile, ("/etc/passwd",)),
        (np.ndarray, ((2**50,), "u1")),
        (np.dtype, ("O",)),
    ],
    ids=lambda call: call[0].__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_run_nothing(tmp_path, monkeypatch, call, protocol):
    monkeypatch.chdir(tmp_path)
    pixels, labels, _ = official.images(1, 2)
    entries = official.content(pixels, labels) | {b"batch_label": Evil(call)}
    payload = pickle.dumps(entries, protocol=protocol)
    with pytest.raises(DataError, match="only arrays and plain containers are read"):
        list(formats.parse_python(payload, "cifar10", "f"))
    assert not list(tmp_path.iterdir())
