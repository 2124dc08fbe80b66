"""The server as a process: what it prints, how it stops, and what a kill leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.server import models, processes

pytestmark = pytest.mark.tf
SECONDS = 60


def predict_request(signature: str = "", **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tf2"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def predict(address: str, signature: str = "", **inputs: Any) -> Any:
    request = predict_request(signature, **inputs)
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, timeout=SECONDS)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (
            path.stat().st_mtime_ns,
            path.stat().st_ino,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_one_line_tells_what_is_served_and_where(process):
    lines = [line for line in process.lines if line.startswith("serving ")]
    assert len(lines) == 1
    # Nothing of what TensorFlow says of processors and missing GPUs.
    before = process.lines[: process.lines.index(lines[0])]
    assert all(re.match(r"\d{4}-\d\d-\d\d .* (INFO|WARNING) ", li) for li in before)
    assert "tf2 version(s) 1, 3" in lines[0]
    assert re.search(r" on 127\.0\.0\.1:\d+ \(gRPC\), unix:/", lines[0])
    assert f", unix:{process.socket_path}, http://127.0.0.1:" in lines[0]
    one = np.ones(1, np.float32)
    for address in (process.address, process.socket):
        assert list(predict(address, x=one).outputs["y"].float_val) == [3.5]


def test_it_may_open_as_many_files_as_the_hard_limit_allows(process):
    limits = Path(f"/proc/{process.popen.pid}/limits").read_text()
    soft, hard = re.search(r"^Max open files +(\d+) +(\d+)", limits, re.M).groups()
    assert int(soft) == min(int(hard), 65_536) > 512


def test_it_listens_on_loopback_only(process):
    port = int(process.address.split(":")[1])
    listening = {
        line.split()[1].split(":")[0]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == port
    }
    # 127.0.0.1, or the same as an IPv6 address.
    assert listening <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening


def test_signals_end_a_server_that_has_not_started(model_root, tmp_path):
    """While TensorFlow is loaded, at once; and while a model is warmed up."""
    shutil.copytree(model_root / "tf2" / "1", tmp_path / "1")
    log = prediction_log_pb2.PredictionLog()
    endless = predict_request("slow", turns=np.int64(10**12))
    log.predict_log.request.CopyFrom(endless)
    with tf.io.TFRecordWriter(str(tmp_path / "record")) as writer:
        writer.write(log.SerializeToString())
    models.write_warmup(tmp_path / "1", (tmp_path / "record").read_bytes())
    loading = "INFO Loading servable version {name: tf2 version: 1}"
    for moment in (None, loading):
        child = processes.start(
            "--port=-1", "--model_name=tf2", f"--model_base_path={tmp_path}", wait=False
        )
        try:
            if moment is None:
                processes.wait_for(lambda pid=child.popen.pid: has_loaded(pid, "numpy"))
            else:
                processes.wait_for(
                    lambda lines=child.lines: any(loading in li for li in lines),
                    processes.START_SECONDS,
                )
            assert processes.end(child, 30) == 0
            assert not any("Traceback" in line for line in child.lines)
        finally:
            if child.popen.poll() is None:
                child.popen.kill()
                child.popen.wait()


def has_loaded(pid: int, package: str) -> bool:
    return package in Path(f"/proc/{pid}/maps").read_text()


def test_a_kill_leaves_models_as_they_were_and_a_restart_serves_them(
    process, model_root, tmp_path
):
    before = tree(model_root)
    turns = np.int64(10**9)

    def ask() -> None:
        with pytest.raises(grpc.RpcError):
            predict(process.address, "slow", turns=turns)

    asking = threading.Thread(target=ask)
    asking.start()
    process.popen.send_signal(signal.SIGKILL)
    assert process.popen.wait(SECONDS) == -signal.SIGKILL
    asking.join(SECONDS)
    assert tree(model_root) == before

    # The socket's file is still there, as after a power failure.
    socket = process.socket_path
    assert os.path.exists(socket)
    child = processes.start(
        "--model_name", "tf2", "--model_base_path", str(model_root / "tf2"),
        "--port=0", f"--grpc_socket_path={socket}", "--num_unload_threads=1",
    )  # fmt: skip
    try:
        assert any("--num_unload_threads has no effect" in li for li in child.lines)
        answers: list[int] = []

        def slow() -> None:
            answer = predict(process.socket, "slow", turns=np.int64(150_000))
            answers.append(int(tf.make_ndarray(answer.outputs["count"])))

        predict(process.socket, "slow", turns=np.int64(1))
        calls = [threading.Thread(target=slow) for _ in range(4)]
        for call in calls:
            call.start()
        # All four run, when a request sent after them has been answered.
        predict(process.socket, x=np.ones(1, np.float32))
        assert processes.end(child) == 0
        for call in calls:
            call.join(SECONDS)
        assert answers == [150_000] * 4  # calls in flight were finished
        with pytest.raises(grpc.RpcError):
            predict(process.socket, x=np.ones(1, np.float32))
        assert tree(model_root) == before
    finally:
        if child.popen.poll() is None:
            child.popen.kill()
            child.popen.wait()
