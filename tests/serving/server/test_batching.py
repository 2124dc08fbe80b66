"""Batches of many callers: whose rows come back, what is padded, refused, skipped.

The function that is batched is plain numpy; what it was called with is recorded, and the
truth is what it gives for each request alone.
"""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server import batching
from serving.server.batching import Batcher, BatchingParameters
from serving.server.errors import ServingError

LONG = 20.0  # seconds that nothing here takes, unless it hangs


def half_plus_two(feeds):
    return {"y": feeds["x"] / 2 + 2}


class Recorder:
    """Wraps a function: keeps the batches, and can hold them at a gate."""

    def __init__(self, function=half_plus_two):
        self.function = function
        self.batches = []
        self.running = threading.Semaphore(0)  # released when a batch has begun
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, feeds):
        self.batches.append({name: array.copy() for name, array in feeds.items()})
        self.running.release()
        assert self.gate.wait(LONG)
        return self.function(feeds)

    @property
    def sizes(self):
        return [len(next(iter(batch.values()))) for batch in self.batches]


def rows(*values):
    return {"x": np.array(values, np.float32)}


def submit(batcher, *arguments):
    return batcher.submit(*arguments)


def parameters(**changes):
    return BatchingParameters(**{"num_batch_threads": 1} | changes)


@contextlib.contextmanager
def occupied(recorder, batcher, pool):
    """The batcher's only place is taken until the block ends."""
    recorder.gate.clear()
    first = pool.submit(submit, batcher, rows(-1))
    assert recorder.running.acquire(timeout=LONG)
    try:
        yield
    finally:
        recorder.gate.set()
        first.result(LONG)


def wait_until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(64) as pool:
        yield pool


def test_request_that_meets_nobody_runs_on_the_callers_thread():
    threads = []

    def run(feeds):
        threads.append(threading.get_ident())
        return half_plus_two(feeds)

    outputs = submit(Batcher(run, parameters()), rows(2, 4))
    assert outputs["y"].tolist() == [3, 4]
    assert threads == [threading.get_ident()]


def test_a_caller_takes_no_place_that_is_taken(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=8))
    with occupied(recorder, batcher, pool):
        later = [pool.submit(submit, batcher, rows(i)) for i in range(2)]
        wait_until(lambda: batcher._rows == 2)
        assert len(recorder.batches) == 1
    assert [f.result(LONG)["y"].item() for f in later] == [2, 2.5]
    assert recorder.sizes == [1, 2]


def test_waiting_requests_share_a_batch(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=8))
    with occupied(recorder, batcher, pool):
        futures = [pool.submit(submit, batcher, rows(i, i)) for i in range(4)]
        wait_until(lambda: batcher._rows == 8)
    for i, future in enumerate(futures):
        assert future.result(LONG)["y"].tolist() == [i / 2 + 2] * 2
    assert recorder.sizes == [1, 8]


def test_full_batch_does_not_wait_for_the_timeout(pool):
    recorder = Recorder()
    an_hour = 3600 * 10**6
    batcher = Batcher(
        recorder, parameters(max_batch_size=4, batch_timeout_micros=an_hour)
    )
    futures = [pool.submit(submit, batcher, rows(i, i)) for i in range(2)]
    assert [f.result(LONG)["y"].tolist() for f in futures] == [[2, 2], [2.5, 2.5]]
    assert recorder.sizes == [4]


def test_batch_closes_when_the_next_request_does_not_fit(pool):
    recorder = Recorder()
    an_hour = 3600 * 10**6
    batcher = Batcher(
        recorder, parameters(max_batch_size=4, batch_timeout_micros=an_hour)
    )
    first = pool.submit(submit, batcher, rows(0, 0, 0))
    wait_until(lambda: batcher._rows == 3)
    second = pool.submit(submit, batcher, rows(1, 1, 1))
    assert first.result(LONG)["y"].tolist() == [2, 2, 2]
    batcher.close()
    assert second.result(LONG)["y"].tolist() == [2.5, 2.5, 2.5]
    assert recorder.sizes == [3, 3]


def test_partial_batch_waits_for_its_timeout():
    recorder = Recorder()
    batcher = Batcher(
        recorder, parameters(max_batch_size=4, batch_timeout_micros=60_000)
    )
    start = time.monotonic()
    assert submit(batcher, rows(2))["y"].tolist() == [3]
    assert time.monotonic() - start >= 0.06


def test_batches_run_side_by_side_but_no_more_than_threads(pool):
    recorder = Recorder()
    recorder.gate.clear()
    batcher = Batcher(recorder, parameters(max_batch_size=1, num_batch_threads=3))
    futures = [pool.submit(submit, batcher, rows(i)) for i in range(5)]
    for _ in range(3):
        assert recorder.running.acquire(timeout=LONG)
    wait_until(lambda: batcher._rows == 2)
    assert len(recorder.batches) == 3
    recorder.gate.set()
    values = [future.result(LONG)["y"].item() for future in futures]
    assert values == [i / 2 + 2 for i in range(5)]


@pytest.mark.parametrize(("size", "padded"), [(1, 2), (2, 2), (3, 8), (8, 8)])
def test_pads_with_the_first_row_up_to_an_allowed_size(size, padded):
    recorder = Recorder()
    allowed = parameters(max_batch_size=8, allowed_batch_sizes=(2, 8))
    request = rows(*range(7, 7 + size))
    outputs = submit(Batcher(recorder, allowed), request)
    batch = recorder.batches[0]["x"]
    assert batch.tolist() == request["x"].tolist() + [7.0] * (padded - size)
    np.testing.assert_array_equal(outputs["y"], half_plus_two(request)["y"])


def test_request_larger_than_a_batch_is_refused():
    with pytest.raises(ServingError) as caught:
        submit(Batcher(half_plus_two, parameters(max_batch_size=2)), rows(1, 2, 3))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == (
        "Task size 3 is larger than maximum input batch size 2"
    )


def test_request_larger_than_a_batch_is_split_if_allowed():
    recorder = Recorder()
    split = parameters(
        max_batch_size=100,
        max_execution_batch_size=4,
        enable_large_batch_splitting=True,
        allowed_batch_sizes=(2, 4),
    )
    request = rows(*range(9))
    outputs = submit(Batcher(recorder, split), request)
    np.testing.assert_array_equal(outputs["y"], half_plus_two(request)["y"])
    assert recorder.sizes == [4, 4, 2]
    with pytest.raises(ServingError) as caught:
        submit(Batcher(recorder, split), rows(*range(100), 0))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_split_request_fails_when_all_its_parts_have_ended():
    running, started = set(), threading.Event()

    def run(feeds):
        first = feeds["x"][0]
        running.add(first)
        try:
            if first == 0:
                assert started.wait(LONG)
                raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "the first part")
            started.set()
            time.sleep(0.05)
            return half_plus_two(feeds)
        finally:
            running.remove(first)

    split = parameters(
        max_batch_size=100,
        max_execution_batch_size=2,
        enable_large_batch_splitting=True,
        num_batch_threads=2,
    )
    with pytest.raises(ServingError, match="the first part"):
        submit(Batcher(run, split), rows(*range(6)))
    assert not running


def test_split_request_that_never_fits_the_queue_is_refused_before_it_runs():
    recorder = Recorder()
    split = parameters(
        max_batch_size=100,
        max_execution_batch_size=2,
        enable_large_batch_splitting=True,
        max_enqueued_batches=3,
    )
    with pytest.raises(ServingError) as caught:
        submit(Batcher(recorder, split), rows(*range(7)))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert recorder.batches == []


def test_full_queue_refuses_and_serves_what_it_took(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=2, max_enqueued_batches=2))
    with occupied(recorder, batcher, pool):
        futures = [pool.submit(submit, batcher, rows(i)) for i in range(4)]
        wait_until(lambda: batcher._rows == 4)
        with pytest.raises(ServingError) as caught:
            submit(batcher, rows(9))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; "
        "currently 2 batches enqueued and max_enqueued_batches is 2"
    )
    assert [f.result(LONG)["y"].item() for f in futures] == [2, 2.5, 3, 3.5]
    assert submit(batcher, rows(2))["y"].tolist() == [3]


def test_expired_request_is_never_run(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=8))
    with occupied(recorder, batcher, pool):
        start = time.monotonic()
        late = pool.submit(submit, batcher, rows(111), start + 0.05)
        kept = pool.submit(submit, batcher, rows(6), start + LONG)
        wait_until(lambda: batcher._rows == 2)
        wait_until(lambda: time.monotonic() > start + 0.05)
    with pytest.raises(ServingError) as caught:
        late.result(LONG)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert kept.result(LONG)["y"].tolist() == [5]
    assert [batch["x"].tolist() for batch in recorder.batches] == [[-1], [6]]


def test_deadline_in_the_past_is_not_run():
    recorder = Recorder()
    with pytest.raises(ServingError) as caught:
        submit(Batcher(recorder, parameters()), rows(1), time.monotonic() - 1)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert recorder.batches == []


def test_cancelled_request_is_never_run(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=8))
    cancelled = threading.Event()
    with occupied(recorder, batcher, pool):
        gone = pool.submit(submit, batcher, rows(111), None, cancelled.is_set)
        kept = pool.submit(submit, batcher, rows(6), None, lambda: False)
        wait_until(lambda: batcher._rows == 2)
        cancelled.set()
    with pytest.raises(ServingError) as caught:
        gone.result(LONG)
    assert caught.value.code is grpc.StatusCode.CANCELLED
    assert kept.result(LONG)["y"].tolist() == [5]
    assert [batch["x"].tolist() for batch in recorder.batches] == [[-1], [6]]


def test_cancelled_requests_make_room_in_a_full_queue(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=1, max_enqueued_batches=2))
    cancelled = threading.Event()
    with occupied(recorder, batcher, pool):
        gone = [
            pool.submit(submit, batcher, rows(i), None, cancelled.is_set)
            for i in range(2)
        ]
        wait_until(lambda: batcher._rows == 2)
        cancelled.set()
        kept = pool.submit(submit, batcher, rows(6))
        for future in gone:
            with pytest.raises(ServingError):
                future.result(LONG)
    assert kept.result(LONG)["y"].tolist() == [5]
    assert recorder.sizes == [1, 1]


def test_bad_request_in_a_batch_harms_only_itself(pool):
    def picky(feeds):
        if 13 in feeds["x"]:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "no 13")
        return half_plus_two(feeds)

    recorder = Recorder(picky)
    batcher = Batcher(recorder, parameters(max_batch_size=8))
    with occupied(recorder, batcher, pool):
        futures = [pool.submit(submit, batcher, rows(i)) for i in (2, 13, 4)]
        wait_until(lambda: batcher._rows == 3)
    assert futures[0].result(LONG)["y"].tolist() == [3]
    assert futures[2].result(LONG)["y"].tolist() == [4]
    with pytest.raises(ServingError, match="no 13"):
        futures[1].result(LONG)
    assert sorted(recorder.sizes) == [1, 1, 1, 1, 3]


def test_other_exceptions_reach_their_caller_and_free_the_place():
    def broken(feeds):
        raise ZeroDivisionError("out of order")

    batcher = Batcher(broken, parameters())
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="out of order"):
            submit(batcher, rows(1))


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (np.zeros(3), "0th dimension does not equal the sum of the 0th dimension"),
    ],
)
def test_outputs_that_are_no_rows_are_an_error(outputs, text):
    with pytest.raises(ServingError, match=text) as caught:
        submit(Batcher(lambda _: {"y": outputs}, parameters()), rows(1, 2))
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "at least one input tensor"),
        ({"x": np.float32(1)}, "must have at least one dimension"),
        ({"x": np.zeros(2), "z": np.zeros(3)}, "must have equal 0th-dimension size"),
    ],
)
def test_what_cannot_be_batched_is_refused(feeds, text):
    with pytest.raises(ServingError, match=text) as caught:
        submit(Batcher(half_plus_two, parameters()), feeds)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_no_rows_are_answered_with_no_rows():
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=4, allowed_batch_sizes=(4,)))
    assert submit(batcher, rows())["y"].shape == (0,)
    assert recorder.sizes == [0]


def test_different_row_shapes_and_types_never_share_a_batch(pool):
    recorder = Recorder()
    batcher = Batcher(recorder, parameters(max_batch_size=8))
    requests = [np.ones((1, 3)), np.ones((1, 2)), np.ones((1, 3), int), np.ones((1, 2))]
    with occupied(recorder, batcher, pool):
        futures = [pool.submit(submit, batcher, {"x": array}) for array in requests]
        wait_until(lambda: batcher._rows == 4)
    for future, array in zip(futures, requests, strict=True):
        np.testing.assert_array_equal(future.result(LONG)["y"], array / 2 + 2)
    assert sorted(recorder.sizes[1:]) == [1, 1, 2]


def test_variable_length_is_padded_with_each_arrays_first_element(pool):
    recorder = Recorder(lambda feeds: {"sum": feeds["x"].sum(axis=(1, 2))})
    batcher = Batcher(
        recorder, parameters(max_batch_size=8, pad_variable_length_inputs=True)
    )
    recorder.gate.clear()
    first = pool.submit(submit, batcher, {"x": np.zeros((1, 1, 1))})
    assert recorder.running.acquire(timeout=LONG)
    short = pool.submit(submit, batcher, {"x": np.full((1, 1, 3), 5.0)})
    wait_until(lambda: batcher._rows == 1)
    long = pool.submit(submit, batcher, {"x": np.full((2, 2, 1), 7.0)})
    wait_until(lambda: batcher._rows == 3)
    recorder.gate.set()
    first.result(LONG)
    assert short.result(LONG)["sum"].tolist() == [30]
    assert long.result(LONG)["sum"].tolist() == [42, 42]
    assert recorder.batches[1]["x"].shape == (3, 2, 3)


def test_strings_are_batched(pool):
    recorder = Recorder(lambda feeds: {"y": feeds["x"]})
    batcher = Batcher(recorder, parameters(max_batch_size=4, allowed_batch_sizes=(4,)))
    request = {"x": np.array([b"a\0", b"\xff" * 9, b""], object)}
    assert submit(batcher, request)["y"].tolist() == [b"a\0", b"\xff" * 9, b""]
    assert recorder.batches[0]["x"].tolist() == [b"a\0", b"\xff" * 9, b"", b"a\0"]


def test_closed_batcher_finishes_what_waits_and_refuses_more(pool):
    recorder = Recorder()
    an_hour = 3600 * 10**6
    batcher = Batcher(recorder, parameters(batch_timeout_micros=an_hour))
    waiting = pool.submit(submit, batcher, rows(2))
    wait_until(lambda: batcher._rows == 1)
    batcher.close()
    assert waiting.result(LONG)["y"].tolist() == [3]
    with pytest.raises(ServingError) as caught:
        submit(batcher, rows(1))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros is -1"),
        ({"num_batch_threads": 0}, "num_batch_threads is 0"),
        ({"max_enqueued_batches": 0}, "max_enqueued_batches is 0"),
        ({"max_batch_size": 8, "allowed_batch_sizes": (2, 4)}, "must equal"),
        ({"max_batch_size": 4, "allowed_batch_sizes": (4, 2, 4)}, "increasing order"),
        ({"max_batch_size": 4, "allowed_batch_sizes": (0, 4)}, "must be positive"),
        ({"max_batch_size": 4, "max_execution_batch_size": 5}, "more than"),
    ],
)
def test_impossible_parameters_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        parameters(**changes)


def test_defaults_are_tensorflow_servings():
    defaults = BatchingParameters()
    assert (defaults.max_batch_size, defaults.max_enqueued_batches) == (1000, 10)
    assert defaults.batch_timeout_micros == 0
    assert defaults.num_batch_threads == batching.processors()


# What a caller does: its rows, its row width, and whether the model chokes on it, it has
# no time at all, or it has gone before it starts.
request_kinds = st.tuples(
    st.integers(0, 5),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from(["good"] * 5 + ["bad", "late", "gone"]),
)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(request_kinds, min_size=1, max_size=24),
    threads=st.integers(1, 3),
    timeout=st.sampled_from([0, 0, 500, 3000]),
    allowed=st.sampled_from([(), (2, 4, 6), (6,)]),
    pad=st.booleans(),
)
def test_any_interleaving_gives_everyone_exactly_his_own(
    requests, threads, timeout, allowed, pad
):
    def run(feeds):
        if (feeds["x"] < 0).any():
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "negative")
        # Depends on every number of the row, and on nothing else.
        x = feeds["x"]
        return {"sum": x.sum(axis=1), "first": x[:, :1].astype(np.int64)}

    recorder = Recorder(run)
    batcher = Batcher(
        recorder,
        BatchingParameters(
            max_batch_size=6,
            batch_timeout_micros=timeout,
            num_batch_threads=threads,
            max_enqueued_batches=100,
            allowed_batch_sizes=allowed,
            pad_variable_length_inputs=pad,
        ),
    )
    start = threading.Barrier(len(requests))

    def call(number, size, width, kind):
        x = 1000.0 * number + np.arange(size)[:, None] + np.zeros(width)
        if kind == "bad":
            x = -x - 1
        start.wait(LONG)
        now = time.monotonic()
        deadline = now - 1 if kind == "late" else now + LONG
        return x, submit(batcher, {"x": x}, deadline, lambda: kind == "gone")

    with ThreadPoolExecutor(len(requests)) as pool:
        futures = [pool.submit(call, i, *r) for i, r in enumerate(requests)]
    codes = {
        "bad": grpc.StatusCode.INVALID_ARGUMENT,
        "late": grpc.StatusCode.DEADLINE_EXCEEDED,
        "gone": grpc.StatusCode.CANCELLED,
    }
    for future, (size, _, kind) in zip(futures, requests, strict=True):
        if kind in ("late", "gone") or (kind == "bad" and size):
            with pytest.raises(ServingError) as caught:
                future.result()
            assert caught.value.code is codes[kind]
            continue
        x, outputs = future.result()
        np.testing.assert_array_equal(outputs["first"][:, 0], x[:, 0])
        if not pad:  # else the sum includes the filling
            np.testing.assert_array_equal(outputs["sum"], x.sum(axis=1))
    unwanted = [i for i, r in enumerate(requests) if r[2] in ("late", "gone")]
    for batch in recorder.batches:
        assert len(batch["x"]) <= 6
        assert not allowed or not len(batch["x"]) or len(batch["x"]) in allowed
        for number in unwanted:  # never rows of those who do not wait
            assert not ((batch["x"] // 1000) == number)[:, :1].any()
    assert (batcher._rows, batcher._running, batcher._groups) == (0, 0, {})
    batcher.close()
