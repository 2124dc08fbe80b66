"""What the server counts, in Prometheus' text format under TensorFlow Serving's names.

TensorFlow Serving turns its own metric "/tensorflow/serving/request_count" into
":tensorflow:serving:request_count", with no "_total" at the end, which no client library
writes for a counter; so the text is made here, and dashboards made for
tensorflow_model_server work unchanged. What belongs to the process (memory, CPU seconds,
open files) comes from prometheus_client and keeps its usual names.

Times are microseconds, as there. Nobody can fill the memory with invented names: callers
give OTHER for a model that is not configured, a label is cut at `_LONGEST_LABEL`
characters, and a family keeps at most `_MOST_SERIES` combinations (a reload may name
models without end) and books the rest under OTHER as well.

Sources: tensorflow/serving, util/prometheus_exporter.cc (format),
servables/tensorflow/util.cc, batching/batching_session.{h,cc}, core/request_logger.cc;
tensorflow, cc/saved_model/loader.cc (names, labels, buckets).
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence

import prometheus_client

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OTHER = "other"
_MOST_SERIES = 1000
_LONGEST_LABEL = 256


class _Counter:
    """A number per combination of label values; only ever grows."""

    kind = "counter"

    def __init__(self, name: str, *labels: str):
        self.name = name
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: float = 1) -> None:
        labels = _cut(labels)
        with self._lock:
            if labels not in self._values and len(self._values) >= _MOST_SERIES:
                labels = (OTHER,) * len(labels)
            self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> list[str]:
        with self._lock:
            values = sorted(self._values.items())
        return [
            f"{self.name}{{{_pairs(self._labels, labels)}}} {value:.17g}"
            for labels, value in values
        ]


class _Histogram:
    """Counts per bucket of a value, exponential limits; like TensorFlow's Sampler."""

    kind = "histogram"

    def __init__(
        self, name: str, *labels: str, scale: float, growth: float, buckets: int
    ):
        self.name = name
        self._labels = labels
        self._limits = [scale * growth**i for i in range(buckets)]
        # Per label values: counts of each bucket, the last without limit; and the sum.
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, values: Sequence[float]) -> None:
        labels = _cut(labels)
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                if len(self._series) >= _MOST_SERIES:
                    labels = (OTHER,) * len(labels)
                series = self._series.setdefault(
                    labels, ([0] * (len(self._limits) + 1), [0.0])
                )
            counts, total = series
            for value in values:
                # A value on a limit belongs to the bucket above in TensorFlow, but
                # Prometheus' "le" says the bucket below; the latter is promised.
                counts[bisect.bisect_left(self._limits, value)] += 1
                total[0] += value

    def lines(self) -> list[str]:
        with self._lock:
            series = sorted(
                (labels, list(counts), total[0])
                for labels, (counts, total) in self._series.items()
            )
        lines = []
        limits = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
        for labels, counts, total in series:
            pairs = _pairs(self._labels, labels)
            comma = "," if pairs else ""
            below = 0
            for limit, count in zip(limits, counts, strict=True):
                below += count
                lines.append(
                    f'{self.name}_bucket{{{pairs}{comma}le="{limit}"}} {below}'
                )
            lines.append(f"{self.name}_sum{{{pairs}}} {total:.17g}")
            lines.append(f"{self.name}_count{{{pairs}}} {below}")
        return lines


def _latency(name: str, *labels: str) -> _Histogram:
    """Microseconds from 10 to 20 minutes."""
    return _Histogram(name, *labels, scale=10, growth=1.8, buckets=33)


_SERVING = ":tensorflow:serving:"
_BATCHING = ":tensorflow:serving:batching_session:"
_LOADER = ":tensorflow:cc:saved_model:"
_REQUEST_COUNT = _Counter(_SERVING + "request_count", "model_name", "status")
_REQUEST_LATENCY = _latency(
    _SERVING + "request_latency", "model_name", "API", "entrypoint"
)
_RUNTIME_LATENCY = _latency(
    _SERVING + "runtime_latency", "model_name", "API", "runtime"
)
_EXAMPLE_COUNTS = _Histogram(
    _SERVING + "request_example_counts", "model", scale=1, growth=2, buckets=15
)
_EXAMPLE_COUNT = _Counter(_SERVING + "request_example_count_total", "model")
_GRAPH_RUNS = _Counter(":tensorflow:core:graph_runs")
_GRAPH_RUN_TIME = _Counter(":tensorflow:core:graph_run_time_usecs")
_LOAD_ATTEMPTS = _Counter(_LOADER + "load_attempt_count", "model_path", "status")
_LOAD_LATENCY = _Counter(_LOADER + "load_latency", "model_path")
_WARMUP_LATENCY = _latency(_SERVING + "model_warmup_latency", "model_path", "status")
_QUEUEING_LATENCY = _Histogram(
    _BATCHING + "queuing_latency", "thread_pool_name", scale=100, growth=1.2, buckets=52
)
_BATCHES = _Counter(_BATCHING + "wrapped_run_count")
# Percentile samplers there, which its exporter cannot write; histograms here.
_BATCH_SIZE = _Histogram(
    _BATCHING + "processed_batch_size", scale=1, growth=2, buckets=12
)
_PADDING_SIZE = _Histogram(
    _BATCHING + "padding_size", "execution_batch_size", scale=1, growth=2, buckets=12
)
_REQUEST_LOG_COUNT = _Counter(
    _SERVING + "request_log_count", "model_name", "status_code"
)
# The two that tensorflow_model_server does not have.
_REFUSALS = _Counter("serving_batching_refused_total", "thread_pool_name")
_LOG_DROPS = _Counter("serving_request_log_dropped_total", "model_name")

_FAMILIES = (
    _LOAD_ATTEMPTS, _LOAD_LATENCY, _GRAPH_RUN_TIME, _GRAPH_RUNS, _QUEUEING_LATENCY,
    _BATCHES, _BATCH_SIZE, _PADDING_SIZE, _WARMUP_LATENCY, _REQUEST_COUNT,
    _EXAMPLE_COUNT, _EXAMPLE_COUNTS, _REQUEST_LATENCY, _REQUEST_LOG_COUNT,
    _RUNTIME_LATENCY, _REFUSALS, _LOG_DROPS,
)  # fmt: skip

_REGISTRY = prometheus_client.CollectorRegistry()
prometheus_client.ProcessCollector(registry=_REGISTRY)


def observe_request(
    model: str, api: str, entrypoint: str, status: str, seconds: float
) -> None:
    """Books an answered request.

    Args:
        model: As the request named it, if it is configured; else OTHER.
        api: "Predict", "Classify", "Regress", "MultiInference" or "GetModelMetadata"
            over gRPC; the same in lower case over REST.
        entrypoint: "GRPC" or "REST".
        status: Name of the status code, "OK" or "INVALID_ARGUMENT", ...
        seconds: From receipt to answer.
    """
    _REQUEST_COUNT.add(model, status)
    _REQUEST_LATENCY.add(model, api, entrypoint, values=(seconds * 1e6,))


def observe_runtime(model: str, api: str, runtime: str, seconds: float) -> None:
    """Books a call of a model; `runtime` is "TF1" or "TF2"."""
    _RUNTIME_LATENCY.add(model, api, runtime, values=(seconds * 1e6,))
    _GRAPH_RUNS.add()
    _GRAPH_RUN_TIME.add(amount=int(seconds * 1e6))


def observe_examples(model: str, count: int) -> None:
    """Books the number of tf.Examples of a Classify or Regress request."""
    _EXAMPLE_COUNTS.add(model, values=(count,))
    _EXAMPLE_COUNT.add(model, amount=count)


def observe_load(path: str, seconds: float, *, succeeded: bool) -> None:
    """Books an attempt to load a version's folder."""
    _LOAD_ATTEMPTS.add(path, "success" if succeeded else "fail")
    if succeeded:
        _LOAD_LATENCY.add(path, amount=int(seconds * 1e6))


def observe_warmup(path: str, seconds: float, status: str) -> None:
    """Books the replay of a version's warm-up requests."""
    _WARMUP_LATENCY.add(path, status, values=(seconds * 1e6,))


def observe_queueing(name: str, seconds: Sequence[float]) -> None:
    """Books how long the requests of a batch waited."""
    _QUEUEING_LATENCY.add(name, values=[wait * 1e6 for wait in seconds])


def observe_batch(rows: int, padded_rows: int) -> None:
    """Books a batch that is about to run."""
    _BATCHES.add()
    _BATCH_SIZE.add(values=(padded_rows,))
    _PADDING_SIZE.add(str(padded_rows), values=(padded_rows - rows,))


def observe_refusal(name: str) -> None:
    """Books a request that a full batching queue refused."""
    _REFUSALS.add(name)


def observe_log(model: str, *, kept: bool) -> None:
    """Books a request that the request log took, or dropped because it was busy."""
    if kept:
        _REQUEST_LOG_COUNT.add(model, "OK")
    else:
        _LOG_DROPS.add(model)


def render() -> bytes:
    """All of it in Prometheus' text format; its type is CONTENT_TYPE."""
    lines = []
    for family in _FAMILIES:
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += family.lines()
    text = "\n".join(lines) + "\n"
    return text.encode() + prometheus_client.generate_latest(_REGISTRY)


def _cut(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(label[:_LONGEST_LABEL] for label in labels)


def _pairs(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
