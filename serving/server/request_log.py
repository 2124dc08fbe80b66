"""Keeps a sample of answered requests as TFRecords of PredictionLog.

Opt-in. A request is never delayed, let alone failed, by its log: it is put into a short
queue, one thread writes, and what does not fit into the queue is dropped and counted.

    <directory>/predictions-<milliseconds since 1970>-<pid>-<number>.tfrecord

Files are rotated, the oldest are removed, and all of them together never exceed
`max_bytes`. Each record reaches the operating system before the next one is made, so a
killed server loses those in the queue and may leave one cut record at the end of its
last file; nothing is ever appended to an older file. `read` skips such an end.

The logs hold what users sent: the files are readable for their owner only, whatever the
umask, and so is the folder if it is made here. One that is there keeps its mode.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving.server import metrics

_log = logging.getLogger(__name__)

# Segments per directory: what rotation removes is at most such a part of it.
_SEGMENTS = 10
_MOST_QUEUED = 256
_MOST_QUEUED_BYTES = 64 << 20
_RECORD_OVERHEAD = 16  # length and two checksums
_PAUSE_AFTER_ERROR_SECONDS = 10.0
_NAME = re.compile(r"predictions-\d+-\d+-\d+\.tfrecord")


class RequestLog:
    """Writes to one folder; `record` may be called from any thread.

    Args:
        directory: Made if absent, and again if it is removed meanwhile.
        sampling_rate: Share of requests kept, 0 to 1.
        max_bytes: Limit on all files of the folder together.
        max_per_minute: Requests kept within one minute, the first of it; 0: no limit.
        inputs: Whether what was asked is kept, or what was answered alone.

    Raises:
        OSError: `directory` is no folder and none can be made there; the message is one
            sentence for whoever starts the server.
    """

    def __init__(
        self,
        directory: str,
        sampling_rate: float,
        max_bytes: int,
        *,
        max_per_minute: int = 0,
        inputs: bool = True,
    ):
        self._directory = Path(directory)
        self._rate = sampling_rate
        self._max_bytes = max_bytes
        self._max_per_minute, self._inputs = max_per_minute, inputs
        self._minute, self._taken = -1, 0  # requests taken in that minute
        self._queue: queue.Queue[tuple[str, Callable[[], Any], int] | None]
        self._queue = queue.Queue(_MOST_QUEUED)
        self._queued_bytes = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._writer: Any = None
        self._file = self._directory  # the current file, while there is a writer
        self._written = 0  # bytes in the current file
        self._closed = False
        try:
            _make_folder(self._directory)
        except OSError as error:
            raise OSError(
                f"--request_log_dir={directory} must be a folder, or a path at which "
                f"one can be made: {error.strerror}."
            ) from error
        self._thread = threading.Thread(
            target=self._work, name="request-log", daemon=True
        )
        self._thread.start()

    def record(
        self,
        model: str,
        make: Callable[[], Any],
        size: int,
        sampling_rate: float | None = None,
    ) -> None:
        """Perhaps keeps a request. Returns at once and never raises.

        Args:
            model: Label of the metrics.
            make: Gives the PredictionLog; called later, on the writing thread, so what
                it holds must not change any more.
            size: About how many bytes `make` keeps alive.
            sampling_rate: This model's own, from its logging_config.
        """
        rate = self._rate if sampling_rate is None else sampling_rate
        if not random.random() < rate:  # also if the rate is not a number
            return
        with self._lock:
            if self._max_per_minute and not self._is_due():
                return
            fits = not self._closed and self._queued_bytes + size <= _MOST_QUEUED_BYTES
            if fits:
                try:
                    self._queue.put_nowait((model, make, size))
                    self._queued_bytes += size
                except queue.Full:
                    fits = False
        if not fits:
            metrics.observe_log(model, kept=False)

    def _is_due(self) -> bool:
        """Whether this minute may have one more; under the lock."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._taken = minute, 0
        self._taken += 1
        return self._taken <= self._max_per_minute

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Writes what is queued, within the time given."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout_seconds)
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        resume_at = 0.0  # after an error of the disk
        failing = False
        while (item := self._queue.get()) is not None:
            model, make, size = item
            kept = False
            if time.monotonic() >= resume_at:
                try:
                    log = make()
                    if not self._inputs:
                        _forget_inputs(log)
                    kept = self._write(log.SerializeToString())
                    if failing and kept:
                        _log.info("the request log goes on")
                        failing = False
                except Exception as error:  # whatever it is, serving goes on
                    # Once, however long it lasts: the counter of dropped ones goes on.
                    if not failing:
                        _log.warning(
                            "the request log pauses, and tries again every %.0f s; "
                            "requests go on: %s",
                            _PAUSE_AFTER_ERROR_SECONDS,
                            error,
                        )
                    failing = True
                    resume_at = time.monotonic() + _PAUSE_AFTER_ERROR_SECONDS
                    self._end_file()
            with self._lock:
                self._queued_bytes -= size
            metrics.observe_log(model, kept=kept)
        self._end_file()

    def _write(self, record: bytes) -> bool:
        size = len(record) + _RECORD_OVERHEAD
        segment = max(self._max_bytes // _SEGMENTS, size)
        if size > self._max_bytes:
            return False
        writer = self._writer
        # What is written to a file that somebody has removed is lost without an error.
        if writer is None or self._written + size > segment or not self._file.exists():
            self._end_file()
            _make_folder(self._directory)
            self._make_room(segment)
            writer = self._begin_file()
        writer.write(record)
        writer.flush()
        self._written += size
        return True

    def _begin_file(self) -> Any:
        import tensorflow as tf  # the server has loaded it long ago

        # Another server may share the folder: of this process, or of a container whose
        # process has the same number. Of two that begin at once, one counts on.
        for number in self._numbers:
            began = time.time_ns() // 10**6
            name = f"predictions-{began}-{os.getpid()}-{number}.tfrecord"
            self._file = self._directory / name
            with contextlib.suppress(FileExistsError):
                _create(self._file)
                break
        self._writer = tf.io.TFRecordWriter(str(self._file))
        self._written = 0
        return self._writer

    def _end_file(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.close()

    def _make_room(self, size: int) -> None:
        """Removes the oldest files until so many bytes fit under the limit."""
        present = files(self._directory)
        sizes = {path: path.stat().st_size for path in present}
        total = sum(sizes.values())
        for path in present:
            if total + size <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= sizes[path]


def _make_folder(folder: Path) -> None:
    """Makes a folder for its owner only; one that is there is left as it is."""
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o700)  # of mkdir's mode the umask has taken its part


def _create(path: Path) -> None:
    """Makes an empty file for its owner only; TensorFlow's writer keeps its mode."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.fchmod(file, 0o600)  # as for the folder
    finally:
        os.close(file)


def predict_log(
    spec: Any, feeds: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> Any:
    """The PredictionLog of a Predict call, whatever transport it came by.

    Args:
        spec: The ModelSpec that answered, with version and signature.
        feeds: The inputs by name; strings are object arrays of bytes.
        outputs: What the model gave.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.CopyFrom(spec)
    log.log_metadata.timestamp_secs = int(time.time())
    call = log.predict_log
    call.request.model_spec.CopyFrom(spec)
    call.response.model_spec.CopyFrom(spec)
    for arrays, tensors in (
        (feeds, call.request.inputs),
        (outputs, call.response.outputs),
    ):
        for name, array in arrays.items():
            tensors[name].CopyFrom(tf.make_tensor_proto(array))
    return log


def _forget_inputs(log: Any) -> None:
    """Leaves of what was asked the model alone."""
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    request = getattr(log, kind).request
    for field in ("inputs", "input"):
        if field in request.DESCRIPTOR.fields_by_name:
            request.ClearField(field)


def files(directory: str | os.PathLike[str]) -> list[Path]:
    """The log files of a folder, oldest first."""
    found = [path for path in Path(directory).iterdir() if _NAME.fullmatch(path.name)]
    return sorted(
        found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)]
    )


def read_file(path: str | os.PathLike[str], skip: int = 0) -> Iterator[Any]:
    """The PredictionLogs of a file; its damaged end is skipped, or all if it has gone.

    Args:
        path: Of TFRecords, written by this or another server.
        skip: So many records at its begin are not wanted.

    Raises:
        OSError: It may not be read.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    found = tf.data.TFRecordDataset(os.fspath(path))
    records = iter(found.skip(skip) if skip else found)
    while True:
        try:
            record = next(records, None)
        except tf.errors.DataLossError:
            _log.warning("%s ends in a record that is not whole", path)
            return
        except tf.errors.NotFoundError:
            return  # the server has just removed it
        except tf.errors.PermissionDeniedError as error:
            code = errno.EACCES
            raise PermissionError(code, os.strerror(code), str(path)) from error
        if record is None:
            return
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        except Exception:  # protobuf's DecodeError
            # Its checksum holds, so it was written like this: not by a server.
            _log.warning("%s holds a record that is no PredictionLog", path)
            return
        yield log
