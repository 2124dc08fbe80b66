"""Joins concurrent requests into batches, as TensorFlow Serving's batching session does.

Requests come from many threads, which wait; what leaves are calls of `run` with up to
`max_batch_size` rows, and each caller gets exactly its own rows back.

At most `num_batch_threads` batches run at the same time. A free thread takes at once what
waits, so batches grow with the load. A caller that meets an idle batcher runs its request
itself.

A request whose deadline has passed, or whose caller has gone, is never run.

No TensorFlow here: arrays in, arrays out.

Sources: tensorflow/serving, batching/README.md, session_bundle_config.proto and
batching/{batching_session.cc,batching_util.h} (padding, error texts); tensorflow,
core/kernels/batching_util/shared_batch_scheduler.h (defaults, when a batch is ready).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future

import grpc
import numpy as np

from serving.server import metrics
from serving.server.errors import ServingError, invalid

Arrays = Mapping[str, np.ndarray]
Run = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]


def processors() -> int:
    """How many this process may use."""
    available = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(available(0)) if available else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchingParameters:
    """Fields and defaults of TensorFlow Serving's batching parameters file.

    Raises:
        ValueError: A value that TensorFlow Serving refuses too.
    """

    max_batch_size: int = 1000  # rows of one request, and of one batch
    batch_timeout_micros: int = 0  # a batch that is not full waits this long for more
    num_batch_threads: int = dataclasses.field(default_factory=processors)
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
                "Batching Run() input tensors must have at least one dimension"
            )
        if rows >= 0 and array.shape[0] != rows:
            raise invalid(
                "Batching Run() input tensors must have equal 0th-dimension size"
            )
        rows = array.shape[0]
    if rows < 0:
        raise invalid("Batching Run() must have at least one input tensor")
    return rows


class _Task(Future[Arrays]):
    """Rows of one caller that are run in one batch."""

    def __init__(
        self,
        feeds: Arrays,
        rows: int,
        key: object,
        deadline: float | None,
        cancelled: Callable[[], bool] | None,
    ):
        super().__init__()
        self.feeds = feeds
        self.rows = rows
        self.key = key
        self.deadline = deadline
        self.left = cancelled  # Future's own `cancelled` is another thing
        self.enqueued = time.monotonic()
        self.queued = True
        self.outputs: Arrays | None = None
        self.error: BaseException | None = None

    def gone(self, now: float) -> bool:
        """Whether nobody waits for the answer any more; then its error says why."""
        if self.deadline is not None and now >= self.deadline:
            self.error = ServingError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "Run() timeout exceeded while waiting in batching queue",
            )
        elif self.left is not None and self.left():
            self.error = ServingError(
                grpc.StatusCode.CANCELLED, "The caller cancelled the request"
            )
        return self.error is not None

    def settle(self) -> None:
        """Wakes the caller."""
        if self.error is not None:
            self.set_exception(self.error)
        else:
            self.set_result(self.outputs or {})


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
        self._changed = threading.Condition(threading.Lock())
        # All waiting tasks by age, and some that wait no more: those go when they are
        # first. By age is by readiness, since all wait equally long.
        self._by_age: deque[_Task] = deque()
        self._groups: dict[object, _Group] = {}
        self._full: dict[object, None] = {}  # keys of groups that fill a batch, by age
        self._rows = 0  # waiting
        self._running = 0  # batches
        self._closed = False
        for number in range(parameters.num_batch_threads):
            threading.Thread(
                target=self._work, name=f"batch-{name}-{number}", daemon=True
            ).start()

    def submit(
        self,
        feeds: Arrays,
        deadline: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Arrays:
        """Runs the request as part of some batch, and waits for that.

        Args:
            feeds: Arrays with a common first dimension; not changed. Strings are object
                arrays of bytes.
            deadline: In seconds of time.monotonic(). Afterwards the request is not run,
                but what runs is not interrupted.
            cancelled: Whether the caller has gone; asked before the request is run.

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
        tasks = [
            _Task(part, size, self._key(part, size), deadline, cancelled)
            for part, size in self._parts(feeds, rows)
        ]
        if self._take(tasks, rows):
            self._answer(tasks)
        if len(tasks) == 1:
            return tasks[0].result()
        parts: list[Arrays] = []
        errors: list[BaseException] = []
        for task in tasks:  # all of them: a part that runs has to end before its caller
            try:
                parts.append(task.result())
            except BaseException as error:
                errors.append(error)
                for other in tasks:
                    other.left = lambda: True
        if errors:
            raise errors[0]
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    def close(self) -> None:
        """Refuses new requests. Those that wait are run without further waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _parts(self, feeds: Arrays, rows: int) -> Iterator[tuple[Arrays, int]]:
        """A request, cut into pieces if it is larger than a batch may be."""
        if rows <= self._limit:
            yield feeds, rows
            return
        for start in range(0, rows, self._limit):
            part = {k: v[start : start + self._limit] for k, v in feeds.items()}
            yield part, min(self._limit, rows - start)

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

    def _take(self, tasks: list[_Task], rows: int) -> bool:
        """Puts a request into the queue, whole or not at all.

        Returns:
            Whether the caller is to run it instead, with a place for it taken.
        """
        gone: list[_Task] = []
        try:
            with self._changed:
                self._admit(rows, gone)
                here = (
                    len(tasks) == 1
                    and not self._groups
                    and self._running < self._parameters.num_batch_threads
                    and (not self._timeout or rows == self._limit)
                )
                if here:
                    self._running += 1
                else:
                    for task in tasks:
                        self._enqueue(task)
                return here
        finally:
            for task in gone:
                task.settle()

    # The methods from here to _ready are called with the lock held.

    def _admit(self, rows: int, gone: list[_Task]) -> None:
        """Makes room, by those who do not wait any more, and refuses if there is none."""
        if self._closed:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE, "This version is being unloaded"
            )
        if self._rows + rows <= self._capacity:
            return
        now = time.monotonic()
        gone += [task for task in self._by_age if task.queued and task.gone(now)]
        for task in gone:
            group = self._groups[task.key]
            group.tasks.remove(task)
            self._account(task, group)
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
        first = not self._groups
        group = self._groups.get(task.key)
        if group is None:
            group = self._groups[task.key] = _Group()
        group.tasks.append(task)
        group.rows += task.rows
        self._rows += task.rows
        self._by_age.append(task)
        full = group.rows >= self._limit
        if full:
            self._full.setdefault(task.key)
        # Else some thread waits for the oldest task's time, and this one changes nothing.
        if first or full or not self._timeout:
            self._changed.notify()

    def _account(self, task: _Task, group: _Group) -> None:
        """Books that a task has left its group."""
        task.queued = False
        group.rows -= task.rows
        self._rows -= task.rows
        if group.rows < self._limit:
            self._full.pop(task.key, None)
        if not group.tasks:
            del self._groups[task.key]

    def _ready(self, now: float) -> tuple[object | None, float | None]:
        """Key of a group to take a batch from; if there is none, when to look again."""
        while self._by_age and not self._by_age[0].queued:
            self._by_age.popleft()
        if not self._by_age or self._running == self._parameters.num_batch_threads:
            return None, None
        oldest = self._by_age[0]
        wait = oldest.enqueued + self._timeout - now
        if self._closed or wait <= 0:
            return oldest.key, None
        return next(iter(self._full), None), wait

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)
            del batch  # nothing is kept while waiting for the next one

    def _next(self) -> list[_Task]:
        """Waits for a batch that may run; empty when closed and nothing is left."""
        with self._changed:
            while True:
                key, wait = self._ready(time.monotonic())
                if key is not None:
                    break
                if self._closed and not self._groups:
                    return []
                self._changed.wait(wait)
            group = self._groups[key]
            batch: list[_Task] = []
            rows = 0
            while group.tasks and rows + group.tasks[0].rows <= self._limit:
                task = group.tasks.popleft()
                rows += task.rows
                batch.append(task)
                self._account(task, group)
            self._running += 1
            if self._groups:
                self._changed.notify()  # somebody has to watch what is left
            return batch

    def _answer(self, batch: list[_Task]) -> None:
        """Runs a batch, gives its place to the next one and tells the callers."""
        now = time.monotonic()
        present = [task for task in batch if not task.gone(now)]
        if present:
            waits = [now - task.enqueued for task in present]
            metrics.observe_queueing(self._name, waits)
            self._fill(present)
        with self._changed:
            self._running -= 1
            self._changed.notify()
        for task in batch:
            task.settle()

    def _fill(self, tasks: list[_Task]) -> None:
        """Sets outputs or error of every task."""
        error = self._attempt(tasks)
        if error is None:
            return
        if len(tasks) == 1:
            tasks[0].error = error
            return
        if isinstance(error, _NotRows):  # the model's fault, and the same for all
            for task in tasks:
                task.error = _NotRows(error.message)
            return
        for task in tasks:  # somebody's data broke it: each for himself
            if not task.gone(time.monotonic()):
                task.error = self._attempt([task])

    def _attempt(self, tasks: Sequence[_Task]) -> BaseException | None:
        try:
            self._execute(tasks)
        except ServingError as error:
            return error.with_traceback(None)  # its frames hold the tasks: a cycle
        except BaseException as error:
            return error  # raised again in the caller that it belongs to
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
