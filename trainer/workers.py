"""Several processes, mostly on machines of their own, that train one network together.

Comes in: the strategy in whose scope a training runs. Goes out: what this process reads of
each batch, whether it writes, and what all processes decide together. With one process
everything here is what it would be without.

tf.distribute.MultiWorkerMirroredStrategy has every process run the same program; where they
exchange numbers they wait for one another. So whatever one of them alone may come to know
(a request to stop, the time) must be told to all before it changes what they do next.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import contextlib
import functools
import logging
import signal
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

# Of a dataset of global batches, what this process's replicas get, one after the other.
Share = Callable[[tf.data.Dataset], tf.data.Dataset]

# What a collective operation ends with where another process is gone, or a new one is in
# its place.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


# Status with which a worker ends because another one does, like that of a program which
# aborts. For it Vertex AI begins the job again, up to three times; 1 and 143 are the end of
# the whole job (table "Handle common errors" of
# https://cloud.google.com/vertex-ai/docs/training/understanding-training-service).
BEGIN_AGAIN = 128 + signal.SIGABRT


class WorkerLost(SystemExit):
    """Another worker of this training has ended, or cannot be reached any more."""


def whole(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The `Share` of a process that is alone."""
    return batches


def several() -> bool:
    """Whether the strategy in scope has other processes than this one."""
    return isinstance(
        tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy
    )


def is_chief() -> bool:
    """Whether this process writes what a training leaves: the only one, or the first."""
    if not several():
        return True
    resolver = tf.distribute.get_strategy().cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def distributed(batches: Callable[[Share], tf.data.Dataset]) -> Any:
    """Batches as the strategy in scope takes them.

    Args:
        batches: Makes the dataset. It applies the `Share` to elements that are still cheap,
            tensors [global batch, ...] or scalars that hold for all of a batch, and loads
            images from what is left.
    """
    strategy = tf.distribute.get_strategy()
    if several():
        return strategy.distribute_datasets_from_function(
            lambda context: batches(lambda all_of_it: _parts(all_of_it, context))
        )
    if tf.distribute.has_strategy():
        return strategy.experimental_distribute_dataset(batches(whole))
    return batches(whole)


def _parts(
    batches: tf.data.Dataset, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """[global batch, ...] -> for each replica of this process [replica's batch, ...]."""
    replicas = context.num_replicas_in_sync
    own = replicas // context.num_input_pipelines
    first = context.input_pipeline_id * own

    def part(column: tf.Tensor) -> tf.Tensor:
        if column.shape.rank == 0:
            return tf.repeat(column, own)
        size = column.shape[0] // replicas
        parts = tf.reshape(column, [replicas, size, *column.shape[1:]])
        return parts[first : first + own]

    parts = tf.autograph.experimental.do_not_convert(
        lambda *columns: tuple(map(part, columns))
    )
    return batches.map(parts).unbatch()


def any_of(*flags: bool) -> list[bool]:
    """Which of the flags are true in any process; all must ask, and they meet here."""
    if not several():
        return [*flags]
    return [total > 0 for total in _sums(tf.distribute.get_strategy(), *flags)]


def meet() -> None:
    """Waits for the other processes."""
    any_of(False)


def agree(number: int) -> bool:
    """Whether all processes have the same number; they meet here."""
    if not several():
        return True
    total, replicas = _sums(tf.distribute.get_strategy(), number, 1)
    return not any(any_of(total != number * replicas))


def _sums(strategy: tf.distribute.Strategy, *values: float) -> list[float]:
    """Over all replicas of all processes."""
    return _summed(strategy)(tf.constant(values, tf.float64)).numpy().tolist()


@functools.cache
def _summed(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(reduce_retracing=True, autograph=False)
    def summed(values: tf.Tensor) -> tf.Tensor:
        own = strategy.run(lambda: tf.identity(values))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, own, axis=None)

    return summed


@contextlib.contextmanager
def said_if_lost() -> Iterator[None]:
    """Says in a sentence what TensorFlow says of a process that is gone.

    Inside of the strategy's scope.

    Raises:
        WorkerLost: It is.
    """
    try:
        yield
    except _LOST as error:
        if not several():
            raise
        logging.getLogger(__name__).error(
            "train.strategy=multi_worker: another worker has ended or cannot be reached; its "
            "log says why; start all workers again, and they go on from the newest checkpoint"
        )
        raise WorkerLost(BEGIN_AGAIN) from error
