"""Joins concurrent requests into batches, as TensorFlow Serving's batching session does.

Requests come in on their callers' threads; what leaves are calls of `run` with up to
`max_batch_size` rows, and each caller gets exactly its own rows back.

There are no threads of its own. Whoever completes a batch runs it on his own thread and
wakes the others, so a request that meets an idle server is run at once by its caller:
no queue, no change of thread. `num_batch_threads` is the number of batches that may run
at the same time. A caller who finds that many running waits; the one who finishes hands
his place to the first caller of the next batch before he delivers results.

No TensorFlow here: arrays in, arrays out.

Sources: tensorflow/serving, batching/README.md, session_bundle_config.proto and
batching/batching_session.cc (padding, error texts); tensorflow,
core/kernels/batching_util/shared_batch_scheduler.h (defaults, when a batch is ready).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import grpc
import numpy as np

from serving.server import metrics
from serving.server.errors import ServingError, invalid

Arrays = Mapping[str, np.ndarray]
Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]

# How often a waiting caller looks whether it has been cancelled. Such a request costs a
# place in the queue until then, but never a row in a batch.
_CANCELLATION_POLL_SECONDS = 0.2


def _cores() -> int:
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchingParameters:
    """Fields and defaults of TensorFlow Serving's batching parameters file.

    Raises:
        ValueError: A value that TensorFlow Serving refuses too.
    """

    max_batch_size: int = 1000  # rows of one request, and of one batch
    batch_timeout_micros: int = 0  # a batch that is not full waits this long for more
    num_batch_threads: int = dataclasses.field(default_factory=_cores)
    max_enqueued_batches: int = 10  # waiting; further requests are refused
    allowed_batch_sizes: tuple[int, ...] = ()  # batches are padded up to one of these
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0  # with splitting: rows of one batch; 0: as above

    def __post_init__(self) -> None:
        for name, lowest in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("num_batch_threads", 1),
            ("max_enqueued_batches", 1),
            ("max_execution_batch_size", 0),
        ):
            value = getattr(self, name)
            if value < lowest:
                raise ValueError(f"{name} is {value}, but must be at least {lowest}")
        if self.max_execution_batch_size > self.max_batch_size:
            raise ValueError(
                f"max_execution_batch_size is {self.max_execution_batch_size}, more "
                f"than max_batch_size, {self.max_batch_size}"
            )
        sizes = self.allowed_batch_sizes
        if sizes and (
            sizes[0] < 1 or any(a >= b for a, b in zip(sizes, sizes[1:], strict=False))
        ):
            raise ValueError(
                "allowed_batch_sizes entries must be positive and in increasing order, "
                f"but they are {list(sizes)}"
            )
        if sizes and sizes[-1] != self.execution_limit:
            raise ValueError(
                "The final entry of allowed_batch_sizes must equal the largest batch, "
                f"{self.execution_limit}, but it is {sizes[-1]}"
            )

    @property
    def execution_limit(self) -> int:
        """Rows of one call of the model."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded(self, rows: int) -> int:
        """The smallest allowed batch size that holds so many rows."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def row_count(feeds: Arrays) -> int:
    """The common first dimension of a request's arrays.

    Raises:
        ServingError: INVALID_ARGUMENT; there is none.
    """
    rows = -1
    for array in feeds.values():
        if not array.ndim:
            raise invalid(
                "Batching session Run() input tensors must have at least one dimension"
            )
        if rows >= 0 and array.shape[0] != rows:
            raise invalid(
                "Batching session Run() input tensors must have equal 0th-dimension "
                "size"
            )
        rows = array.shape[0]
    if rows < 0:
        raise invalid("Batching session Run() must have at least one input tensor")
    return rows


class _Task:
    """A caller's request, from submit() to its answer. Fields change under the lock."""

    __slots__ = (
        "batch", "cancelled", "deadline", "enqueued", "error", "feeds", "key",
        "outputs", "queued", "rows", "wake",
    )  # fmt: skip

    def __init__(
        self,
        feeds: Arrays,
        rows: int,
        key: object,
        deadline: float | None,
        cancelled: Callable[[], bool] | None,
    ):
        self.feeds = feeds
        self.rows = rows
        self.key = key
        self.deadline = deadline
        self.cancelled = cancelled
        self.enqueued = time.monotonic()
        self.queued = True
        self.batch: list[_Task] | None = None  # set: this caller has to run these
        self.outputs: Arrays = {}
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def gone(self, now: float) -> ServingError | None:
        """Why nobody waits for the answer any more."""
        if self.deadline is not None and now >= self.deadline:
            return ServingError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "Run() timeout exceeded while waiting in batching queue",
            )
        if self.cancelled is not None and self.cancelled():
            return ServingError(
                grpc.StatusCode.CANCELLED, "The caller cancelled the request"
            )
        return None


@dataclasses.dataclass(slots=True)
class _Group:
    """Waiting tasks whose arrays can be joined: same names, types and row shapes."""

    tasks: deque[_Task] = dataclasses.field(default_factory=deque)
    rows: int = 0


class Batcher:
    """Batches the calls of one function of arrays.

    Args:
        run: From arrays with a common first dimension to arrays with the same first
            dimension. Called from several threads, at most `num_batch_threads` at once.
        parameters: When a batch is full, waits, or is refused.
        name: Label of the metrics, as TensorFlow Serving's thread_pool_name.
    """

    def __init__(self, run: Run, parameters: BatchingParameters, name: str = ""):
        self._run = run
        self._parameters = parameters
        self._name = name
        self._timeout = parameters.batch_timeout_micros / 1e6
        self._limit = parameters.execution_limit
        self._capacity = self._limit * parameters.max_enqueued_batches
        self._lock = threading.Lock()
        # All waiting tasks by age, and some that wait no more: those go when they are
        # first. By age is by readiness, since all wait equally long.
        self._by_age: deque[_Task] = deque()
        self._groups: dict[object, _Group] = {}
        self._full: dict[object, None] = {}  # keys of groups that fill a batch, by age
        self._rows = 0  # waiting
        self._free = parameters.num_batch_threads
        self._closed = False

    def submit(
        self,
        feeds: Arrays,
        deadline: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Arrays:
        """Runs the request as part of some batch; blocks until it is done.

        Args:
            feeds: Arrays with a common first dimension; not changed. Strings are object
                arrays of bytes.
            deadline: In seconds of time.monotonic(). Afterwards the request is not run,
                but what runs is not interrupted.
            cancelled: Whether the caller has gone; asked now and then.

        Returns:
            This request's rows of the outputs: views of the batch's arrays.

        Raises:
            ServingError: INVALID_ARGUMENT for what cannot be batched or is too large,
                UNAVAILABLE when the queue is full or the batcher closed,
                DEADLINE_EXCEEDED, CANCELLED, FAILED_PRECONDITION if the outputs are not
                rows. What `run` raises for this request is passed on.
        """
        rows = row_count(feeds)
        if rows > self._parameters.max_batch_size:
            raise invalid(
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        if rows <= self._limit:
            return self._submit(feeds, rows, deadline, cancelled)
        with self._lock:
            self._admit(rows, time.monotonic())
        parts = []
        for start in range(0, rows, self._limit):
            part = {k: v[start : start + self._limit] for k, v in feeds.items()}
            size = min(self._limit, rows - start)
            parts.append(self._submit(part, size, deadline, cancelled))
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    def close(self) -> None:
        """Refuses new requests. Those that wait are run without further waiting."""
        with self._lock:
            self._closed = True
            self._dispatch(time.monotonic())

    def _submit(
        self,
        feeds: Arrays,
        rows: int,
        deadline: float | None,
        cancelled: Callable[[], bool] | None,
    ) -> Arrays:
        task = _Task(feeds, rows, self._key(feeds, rows), deadline, cancelled)
        with self._lock:
            self._admit(rows, task.enqueued)
            self._enqueue(task)
            self._dispatch(task.enqueued)
        self._wait(task)
        if task.batch is not None:
            self._lead(task.batch)
            task.batch = None  # it holds this task: no cycle for the collector
        if task.error is not None:
            raise task.error
        return task.outputs

    def _key(self, feeds: Arrays, rows: int) -> object:
        """Equal for requests that may share a batch."""
        # With padding, only the rank has to agree. Without any row there is none to
        # repeat, so such requests keep to themselves.
        padding = self._parameters.pad_variable_length_inputs
        shapes = [
            (name, array.dtype, array.ndim if padding else array.shape[1:])
            for name, array in feeds.items()
        ]
        if len(shapes) > 1:
            shapes.sort(key=lambda item: item[0])
        return tuple(shapes), not rows

    # The methods from here to _dispatch are called with the lock held.

    def _admit(self, rows: int, now: float) -> None:
        if self._closed:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE, "This version is being unloaded"
            )
        if self._rows + rows <= self._capacity:
            return
        for task in [task for task in self._by_age if task.queued]:
            if error := task.gone(now):
                self._remove(task)
                task.error = error
                task.wake.release()
        if self._rows + rows > self._capacity:
            waiting = -(-self._rows // self._limit)
            metrics.observe_refusal(self._name)
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {waiting} batches enqueued and max_enqueued_batches is "
                f"{self._parameters.max_enqueued_batches}",
            )

    def _enqueue(self, task: _Task) -> None:
        group = self._groups.get(task.key)
        if group is None:
            group = self._groups[task.key] = _Group()
        group.tasks.append(task)
        group.rows += task.rows
        self._rows += task.rows
        self._by_age.append(task)
        if group.rows >= self._limit:
            self._full.setdefault(task.key)

    def _remove(self, task: _Task) -> None:
        group = self._groups[task.key]
        group.tasks.remove(task)
        self._account(task, group)

    def _account(self, task: _Task, group: _Group) -> None:
        """Books that a task has left its group."""
        task.queued = False
        group.rows -= task.rows
        self._rows -= task.rows
        if group.rows < self._limit:
            self._full.pop(task.key, None)
        if not group.tasks:
            del self._groups[task.key]

    def _ready_key(self, now: float) -> object | None:
        while self._by_age and not self._by_age[0].queued:
            self._by_age.popleft()
        if not self._by_age:
            return None
        oldest = self._by_age[0]
        if self._closed or now >= oldest.enqueued + self._timeout:
            return oldest.key
        return next(iter(self._full), None)

    def _dispatch(self, now: float) -> None:
        """Gives every batch that may run now to its first caller."""
        while self._free and (key := self._ready_key(now)) is not None:
            group = self._groups[key]
            batch: list[_Task] = []
            rows = 0
            while group.tasks and rows + group.tasks[0].rows <= self._limit:
                task = group.tasks.popleft()
                rows += task.rows
                batch.append(task)
                self._account(task, group)
            self._free -= 1
            batch[0].batch = batch
            batch[0].wake.release()

    def _wait(self, task: _Task) -> None:
        """Returns when the task is answered or has a batch to run."""
        ready = task.enqueued + self._timeout
        while True:
            now = time.monotonic()
            until = [] if task.deadline is None else [task.deadline]
            if task.cancelled is not None:
                until.append(now + _CANCELLATION_POLL_SECONDS)
            if ready > now:
                until.append(ready)
            timeout = max(0.0, min(until) - now) if until else -1
            if task.wake.acquire(timeout=timeout):
                return
            now = time.monotonic()
            with self._lock:
                if task.batch is not None or task.outputs or task.error is not None:
                    return
                if error := task.gone(now):
                    if task.queued:
                        self._remove(task)
                    raise error  # if its batch runs already, nobody reads the result
                if now >= ready:
                    self._dispatch(now)

    def _lead(self, batch: list[_Task]) -> None:
        """Runs a batch, gives the place to the next one and wakes the callers."""
        try:
            self._answer(batch)
        finally:
            with self._lock:
                self._free += 1
                self._dispatch(time.monotonic())
            for task in batch:
                if task.batch is None:
                    task.wake.release()

    def _answer(self, batch: list[_Task]) -> None:
        """Sets outputs or error of every task."""
        now = time.monotonic()
        present: list[_Task] = []
        for task in batch:
            task.error = task.gone(now)
            if task.error is None:
                present.append(task)
        if not present:
            return
        metrics.observe_queueing(self._name, [now - task.enqueued for task in present])
        error = self._attempt(present)
        if error is None:
            return
        if len(present) == 1:
            present[0].error = error
            return
        if isinstance(error, _NotRows):  # the model's fault, and the same for all
            for task in present:
                task.error = _NotRows(error.message)
            return
        for task in present:  # somebody's data broke it: each for himself
            task.error = task.gone(time.monotonic()) or self._attempt([task])

    def _attempt(self, tasks: Sequence[_Task]) -> BaseException | None:
        try:
            self._execute(tasks)
        except BaseException as error:
            return error  # raised again on the thread of the caller it belongs to
        return None

    def _execute(self, tasks: Sequence[_Task]) -> None:
        rows = sum(task.rows for task in tasks)
        size = self._parameters.padded(rows) if rows else 0
        metrics.observe_batch(rows, size)
        padding = self._parameters.pad_variable_length_inputs
        outputs = self._run(
            _merge([task.feeds for task in tasks], size - rows, padding)
        )
        for array in outputs.values():
            if not array.ndim:
                raise _NotRows("Batched output tensor has 0 dimensions")
            if array.shape[0] != size:
                raise _NotRows(
                    "Batched output tensor's 0th dimension does not equal the sum of "
                    "the 0th dimension sizes of the input tensors"
                )
        if len(tasks) == 1 and size == rows:
            tasks[0].outputs = outputs
            return
        start = 0
        for task in tasks:
            end = start + task.rows
            task.outputs = {name: array[start:end] for name, array in outputs.items()}
            start = end


class _NotRows(ServingError):
    """The model's outputs have no rows to give back."""

    def __init__(self, message: str):
        super().__init__(grpc.StatusCode.FAILED_PRECONDITION, message)


def _merge(
    requests: Sequence[Arrays], extra_rows: int, pad_variable_length: bool
) -> dict[str, np.ndarray]:
    """Joins requests along the first dimension.

    Args:
        requests: The same names, types and ranks in each.
        extra_rows: How often the last request's first row is repeated at the end; it is
            data that the model is known to accept.
        pad_variable_length: Enlarges every other dimension to its maximum, with the
            first element of the array, as TensorFlow Serving does.

    Raises:
        ServingError: INVALID_ARGUMENT; an empty array cannot be enlarged.
    """
    merged = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        if pad_variable_length and len(arrays) > 1:
            shape = np.max([array.shape for array in arrays], axis=0)
            arrays = [_enlarged(array, shape) for array in arrays]
        if extra_rows:
            first = arrays[-1][:1]
            arrays.append(np.broadcast_to(first, (extra_rows, *first.shape[1:])))
        merged[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return merged


def _enlarged(array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    target = (array.shape[0], *(int(size) for size in shape[1:]))
    if array.shape == target:
        return array
    if not array.size:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    result = np.full(target, array.flat[0], array.dtype)
    result[tuple(slice(size) for size in array.shape)] = array
    return result
