"""The request log's files, read back with TensorFlow's own reader, and their limits."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from tensorflow_serving.apis import model_pb2, prediction_log_pb2  # noqa: E402

from serving.server import metrics, request_log  # noqa: E402

pytestmark = pytest.mark.tf

LONG = 30.0


def make_log(number, size=0):
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name = "m" * size
    log.log_metadata.model_spec.version.value = number
    return log


def read(directory):
    for path in request_log.files(directory):
        yield from request_log.read_file(path)


def numbers(directory):
    return [log.log_metadata.model_spec.version.value for log in read(directory)]


def total(directory):
    size = 0
    for path in directory.iterdir():
        with contextlib.suppress(
            FileNotFoundError
        ):  # the log removes old files meanwhile
            size += path.stat().st_size
    return size


def counted(name, model):
    """A counter of the metrics for one model."""
    for line in metrics.render().decode().splitlines():
        if line.startswith(name + "{") and f'"{model}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0


def mode(path):
    return os.stat(path).st_mode & 0o777


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


def test_everything_is_kept_in_order_at_rate_one(tmp_path):
    log = request_log.RequestLog(str(tmp_path / "a" / "log"), 1.0, 1 << 20)
    for i in range(50):
        log.record("order", lambda i=i: make_log(i), 10)
    log.close(LONG)
    assert numbers(tmp_path / "a" / "log") == list(range(50))
    assert counted(":tensorflow:serving:request_log_count", "order") == 50


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_only_the_owner_reads_the_log(tmp_path, umask, mask):
    there, made = tmp_path / "there", tmp_path / "made"
    there.mkdir()
    there.chmod(0o755)
    umask(mask)
    for folder in (there, made):
        log = request_log.RequestLog(str(folder), 1.0, 5000)
        for i in range(3):  # a file each
            log.record("mode", lambda i=i: make_log(i, 400), 1)
        log.close(LONG)
        assert [mode(path) for path in request_log.files(folder)] == [0o600] * 3
    assert (mode(there), mode(made)) == (0o755, 0o700)


@pytest.mark.parametrize("path", ["file", "file/log"])
def test_where_no_folder_can_be_says_which_flag(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        request_log.RequestLog(str(tmp_path / path), 1.0, 1 << 20)
    assert str(caught.value).startswith(
        f"--request_log_dir={tmp_path / path} must be a folder, or a path at which one "
        "can be made: "
    )


@pytest.mark.parametrize("max_bytes", [1 << 20, 1000])  # the same file, or a new one
def test_removed_folder_is_made_again(tmp_path, caplog, max_bytes):
    folder = tmp_path / "log"
    model = f"removed{max_bytes}"
    log = request_log.RequestLog(str(folder), 1.0, max_bytes)
    log.record(model, lambda: make_log(1, 200), 1)
    end = time.monotonic() + LONG
    while not counted(":tensorflow:serving:request_log_count", model):
        assert time.monotonic() < end
        time.sleep(0.01)
    shutil.rmtree(folder)
    log.record(model, lambda: make_log(2, 200), 1)
    log.record(model, lambda: make_log(3, 200), 1)
    log.close(LONG)
    assert numbers(folder) == [2, 3]
    assert mode(folder) == 0o700
    assert caplog.text == ""


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.3, 200, 400)])
def test_sample_has_the_rate(tmp_path, rate, low, high):
    log = request_log.RequestLog(str(tmp_path), rate, 1 << 20)
    made = []
    for i in range(1000):
        log.record("sample", lambda i=i: made.append(i) or make_log(i), 1)
        if i % 50 == 0:
            time.sleep(0.01)  # lets the writer follow
    log.close(LONG)
    assert low <= len(numbers(tmp_path)) <= high
    assert len(made) <= high  # nothing is made of a request that is not sampled


def test_a_models_own_rate_counts(tmp_path):
    log = request_log.RequestLog(str(tmp_path), 0.0, 1 << 20)
    log.record("own", lambda: make_log(7), 1, sampling_rate=1.0)
    log.close(LONG)
    assert numbers(tmp_path) == [7]


def test_disk_use_is_bounded_and_the_newest_survive(tmp_path):
    limit = 20_000
    log = request_log.RequestLog(str(tmp_path), 1.0, limit)
    largest = 0
    for i in range(200):
        log.record("bounded", lambda i=i: make_log(i, 900), 1)
        if i % 20 == 19:
            time.sleep(0.02)
            largest = max(largest, total(tmp_path))
    log.close(LONG)
    kept = numbers(tmp_path)
    assert 0 < max(largest, total(tmp_path)) <= limit
    assert kept == list(range(kept[0], 200))
    assert len(kept) >= 15
    assert len(request_log.files(tmp_path)) > 5


def test_limit_holds_over_restarts_and_leaves_other_files_alone(tmp_path):
    (tmp_path / "predictions-notes.txt").write_text("mine")
    for start in (0, 100, 200):
        log = request_log.RequestLog(str(tmp_path), 1.0, 10_000)
        for i in range(start, start + 100):
            log.record("restart", lambda i=i: make_log(i, 400), 1)
        log.close(LONG)
    assert total(tmp_path) <= 10_000 + 4
    assert numbers(tmp_path)[-1] == 299
    assert (tmp_path / "predictions-notes.txt").read_text() == "mine"


def test_logs_that_begin_in_the_same_millisecond_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000 * 10**9)
    for number in range(3):  # as processes of the same number, in containers, would
        log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20)
        log.record("m", lambda number=number: make_log(number), 1)
        log.close(LONG)
    assert numbers(tmp_path) == [0, 1, 2]


def test_record_larger_than_the_limit_is_dropped(tmp_path):
    log = request_log.RequestLog(str(tmp_path), 1.0, 1000)
    log.record("large", lambda: make_log(1, 5000), 1)
    log.record("large", lambda: make_log(2), 1)
    log.close(LONG)
    assert numbers(tmp_path) == [2]
    assert counted("serving_request_log_dropped_total", "large") == 1


def test_full_queue_drops_and_counts_and_never_waits(tmp_path):
    log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20)
    gate, running = threading.Event(), threading.Event()

    def held():
        running.set()
        assert gate.wait(LONG)
        return make_log(0)

    log.record("full", held, 1)
    assert running.wait(LONG)
    for i in range(1, 1001):  # while the writer stands still
        log.record("full", lambda i=i: make_log(i), 1)
    assert counted("serving_request_log_dropped_total", "full") == 1000 - 256
    gate.set()
    log.close(LONG)
    assert numbers(tmp_path) == list(range(257))


def test_queued_bytes_are_bounded(tmp_path):
    log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20)
    log.record("heavy", lambda: make_log(1), 65 << 20)
    log.record("heavy", lambda: make_log(2), 60 << 20)
    log.close(LONG)
    assert numbers(tmp_path) == [2]


def test_errors_of_disk_and_data_fail_no_request(tmp_path, caplog):
    blocked = tmp_path / "log"
    log = request_log.RequestLog(str(blocked), 1.0, 1 << 20)
    blocked.rmdir()
    blocked.write_text("a file where the folder was")
    log.record("broken", lambda: make_log(1), 1)
    log.record("broken", lambda: 1 / 0, 1)
    log.close(LONG)
    assert counted("serving_request_log_dropped_total", "broken") == 2
    assert "the request log pauses" in caplog.text


def test_a_full_disk_is_said_once_and_the_log_goes_on_when_there_is_room(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(request_log, "_PAUSE_AFTER_ERROR_SECONDS", 0.0)
    caplog.set_level("INFO", request_log.__name__)
    full = threading.Event()
    full.set()
    begin = request_log.RequestLog._begin_file

    class Writer:
        """TensorFlow's, on a disk that may be full."""

        def __init__(self, writer):
            self.writer = writer

        def write(self, record):
            if full.is_set():
                raise tf.errors.ResourceExhaustedError(None, None, "No space left")
            self.writer.write(record)

        def __getattr__(self, name):
            return getattr(self.writer, name)

    def begin_file(self):
        self._writer = Writer(begin(self))
        return self._writer

    monkeypatch.setattr(request_log.RequestLog, "_begin_file", begin_file)
    log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20)
    for i in range(5):
        log.record("disk", lambda i=i: make_log(i), 1)
    end = time.monotonic() + LONG
    while counted("serving_request_log_dropped_total", "disk") < 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    full.clear()
    log.record("disk", lambda: make_log(5), 1)
    log.close(LONG)
    assert numbers(tmp_path) == [5]
    assert caplog.text.count("the request log pauses") == 1
    assert "No space left" in caplog.text
    assert caplog.text.count("the request log goes on") == 1


def test_a_minute_keeps_so_many_requests_and_no_more(tmp_path, monkeypatch):
    now = 120.0
    monkeypatch.setattr(request_log.time, "monotonic", lambda: now)
    log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20, max_per_minute=3)
    for i in range(10):
        log.record("minute", lambda i=i: make_log(i), 1)
    now = 179.9
    log.record("minute", lambda: make_log(10), 1)
    now = 180.1
    for i in range(11, 13):
        log.record("minute", lambda i=i: make_log(i), 1)
    log.close(LONG)
    assert numbers(tmp_path) == [0, 1, 2, 11, 12]
    # Not kept by rule is not dropped for want of time.
    assert counted("serving_request_log_dropped_total", "minute") == 0


def test_without_inputs_the_answers_are_kept_alone(tmp_path):
    spec = model_pb2.ModelSpec(name="m", signature_name="s")
    images = {"images": np.zeros((1, 8, 8, 3), np.uint8)}
    answer = {"class_name": np.array([b"cat"], object)}
    classified = prediction_log_pb2.PredictionLog()
    call = classified.classify_log
    call.request.model_spec.CopyFrom(spec)
    call.request.input.example_list.examples.add()
    call.response.result.classifications.add().classes.add(label="cat", score=1)
    log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20, inputs=False)
    predicted = request_log.predict_log(spec, images, answer)
    for made in (predicted, classified, make_log(3)):
        log.record("alone", lambda made=made: made, 1)
    log.close(LONG)
    first, second, third = read(tmp_path)
    assert not first.predict_log.request.inputs
    assert first.predict_log.response.outputs["class_name"].string_val == [b"cat"]
    assert first.predict_log.request.model_spec.signature_name == "s"
    assert not second.classify_log.request.HasField("input")
    assert len(second.classify_log.response.result.classifications) == 1
    assert third.log_metadata.model_spec.version.value == 3


def test_cut_and_garbled_ends_are_skipped(tmp_path, caplog):
    log = request_log.RequestLog(str(tmp_path), 1.0, 1 << 20)
    for i in range(3):
        log.record("cut", lambda i=i: make_log(i, 100), 1)
    log.close(LONG)
    (first,) = request_log.files(tmp_path)
    whole = first.read_bytes()
    for number, data in enumerate((whole[:-5], whole[:-30] + b"\0" * 30, whole, b"")):
        (tmp_path / f"predictions-1-2-{number}.tfrecord").write_bytes(data)
    first.unlink()
    assert numbers(tmp_path) == [0, 1, 0, 1, 0, 1, 2]
    assert caplog.text.count("a record that is not whole") == 2


def test_what_is_no_prediction_log_is_skipped(tmp_path, caplog):
    for number, first in enumerate((b"\xff" * 9, make_log(1).SerializeToString())):
        path = str(tmp_path / f"predictions-1-2-{number}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(first)
    assert numbers(tmp_path) == [1]
    assert caplog.text.count("a record that is no PredictionLog") == 1


def test_forbidden_file_is_an_error_of_the_system(tmp_path, monkeypatch):
    path = tmp_path / "predictions-1-2-3.tfrecord"
    path.touch()

    def forbid(name):
        raise tf.errors.PermissionDeniedError(None, None, name)
        yield

    monkeypatch.setattr(tf.data, "TFRecordDataset", forbid)  # root may read all
    with pytest.raises(PermissionError, match=str(path)):
        numbers(tmp_path)


def test_killed_server_leaves_a_readable_log(tmp_path):
    program = f"""
        from tensorflow_serving.apis import prediction_log_pb2
        from serving.server import request_log
        log = request_log.RequestLog({str(tmp_path)!r}, 1.0, 1 << 24)
        def make(i):
            if i == 2000: print("enough", flush=True)
            made = prediction_log_pb2.PredictionLog()
            made.log_metadata.model_spec.version.value = i
            made.log_metadata.model_spec.name = "m" * 3000
            return made
        import itertools, time
        for i in itertools.count():
            while log._queue.full(): time.sleep(0.001)
            log.record("k", lambda i=i: make(i), 1)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.stdout.readline() == b"enough\n"
    process.send_signal(signal.SIGKILL)
    process.wait(LONG)
    process.stdout.close()
    kept = numbers(tmp_path)
    assert len(kept) > 1900  # what is still in the writer's hands goes with it
    assert kept == list(range(len(kept)))


def test_arrays_become_the_log_of_a_predict_call():
    spec = model_pb2.ModelSpec(name="m", signature_name="s")
    feeds = {"x": np.array([[1, 2]], np.uint8), "t": np.array([b"a\xff"], object)}
    log = request_log.predict_log(spec, feeds, {"y": np.array([0.5], np.float32)})
    assert log.log_metadata.model_spec == spec
    request, response = log.predict_log.request, log.predict_log.response
    for name, array in feeds.items():
        np.testing.assert_array_equal(tf.make_ndarray(request.inputs[name]), array)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [0.5]
