"""tensorflow.ProfilerService: a trace of what the server does, for TensorBoard.

TensorFlow's own profiler server listens on a port of its own, and on every interface;
so its Profile method is answered here, on the server's port. What differs: no path from
a request reaches the file system, so a request's repository_root is not written to. The
trace is in the answer; and it is written to --profiler_log_dir, if the server was started
with one, which is where to point TensorBoard after
`tf.profiler.experimental.client.trace`. One trace at a time, of at most a minute. Monitor
is for TPUs, and unimplemented in TensorFlow's server as well.

Source: tsl/profiler/protobuf/profiler_service.proto (names and numbers of fields),
xla/tsl/profiler/rpc/profiler_service_impl.cc.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf

from serving.server import protos
from serving.server.errors import ServingError, invalid, parse

SERVICE = "tensorflow.ProfilerService"
_LONGEST_MS = 60_000

_MESSAGES = protos.declare(
    {
        "ProfileRequest": (("duration_ms", 1, "uint64"),),
        "ProfileResponse": (("empty_trace", 7, "bool"), ("xspace", 8, "bytes")),
    }
)


def methods(log_dir: str = "") -> dict[str, Any]:
    """The service's methods, by their full names; `log_dir` is TensorBoard's, or empty.

    Each takes a serialised message and a grpc.ServicerContext.
    """
    profiler = _Profiler(log_dir)
    return {
        f"/{SERVICE}/Profile": profiler.profile,
        f"/{SERVICE}/Terminate": profiler.terminate,
    }


class _Profiler:
    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir
        self._busy = threading.Lock()
        self._enough = threading.Event()

    def profile(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Collects for the duration asked, and answers with an XSpace."""
        milliseconds = parse(_MESSAGES["ProfileRequest"], data).duration_ms
        if not 0 < milliseconds <= _LONGEST_MS:
            raise invalid(
                f"duration_ms is {milliseconds}, but must be 1 to {_LONGEST_MS}"
            )
        if not self._busy.acquire(blocking=False):
            code = grpc.StatusCode.ALREADY_EXISTS
            raise ServingError(code, "A trace is being collected already")
        try:
            # One for each trace: a call that ends late must not end the next trace.
            self._enough = enough = threading.Event()
            if not context.add_callback(enough.set):
                enough.set()  # the caller has gone
            trace = self._collect(milliseconds / 1e3, enough)
        finally:
            self._busy.release()
        response = _MESSAGES["ProfileResponse"](empty_trace=not trace, xspace=trace)
        return response.SerializeToString()

    def terminate(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Ends the trace that is being collected."""
        del data, context
        self._enough.set()
        return b""

    def _collect(self, seconds: float, enough: threading.Event) -> bytes:
        """A serialized tensorflow.profiler.XSpace."""
        with tempfile.TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                enough.wait(seconds)
            traces = sorted(Path(folder).rglob("*.xplane.pb"))
            if traces and self._log_dir:
                shutil.copytree(folder, self._log_dir, dirs_exist_ok=True)
            return traces[0].read_bytes() if traces else b""
