"""tensorflow.ProfilerService: a trace of what the server does, for TensorBoard.

TensorFlow's own profiler server listens on a port of its own, and on every interface;
so its Profile method is answered here, on the server's port. What differs: no path from
a request reaches the file system, so a request's repository_root is not written to. The
trace is in the answer; and it is written to --profiler_log_dir, if the server was started
with one, which is where to point TensorBoard after
`tf.profiler.experimental.client.trace`. One trace at a time, of at most a minute.

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
from google.protobuf.message import DecodeError
from tensorflow.python.profiler.internal import _pywrap_profiler

from serving.server import protos

SERVICE = "tensorflow.ProfilerService"
_LONGEST_MS = 60_000

_MESSAGES = protos.declare(
    {
        "ProfileRequest": (("duration_ms", 1, "uint64"),),
        "ProfileResponse": (("empty_trace", 7, "bool"), ("xspace", 8, "bytes")),
    }
)


def generic_handler(log_dir: str = "") -> grpc.GenericRpcHandler:
    """The service's methods; `log_dir` is TensorBoard's, or empty."""
    profiler = _Profiler(log_dir)
    methods = {"Profile": profiler.profile, "Terminate": profiler.terminate}
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(method)
            for name, method in methods.items()
        },
    )


class _Profiler:
    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir
        self._busy = threading.Lock()
        self._enough = threading.Event()

    def profile(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Collects for the duration asked, and answers with an XSpace."""
        try:
            milliseconds = _MESSAGES["ProfileRequest"].FromString(data).duration_ms
        except DecodeError:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "The request is not a ProfileRequest"
            )
        if not 0 < milliseconds <= _LONGEST_MS:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"duration_ms is {milliseconds}, but must be 1 to {_LONGEST_MS}",
            )
        if not self._busy.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.ALREADY_EXISTS, "A trace is being collected already"
            )
        try:
            self._enough.clear()
            context.add_callback(self._enough.set)
            trace = self._collect(milliseconds / 1e3)
        finally:
            self._busy.release()
        response = _MESSAGES["ProfileResponse"](empty_trace=not trace, xspace=trace)
        return response.SerializeToString()

    def terminate(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Ends the trace that is being collected."""
        del data, context
        self._enough.set()
        return b""

    def _collect(self, seconds: float) -> bytes:
        """A serialized tensorflow.profiler.XSpace."""
        with tempfile.TemporaryDirectory() as folder:
            session: Any = _pywrap_profiler.ProfilerSession()
            session.start(folder, {})
            self._enough.wait(seconds)
            session.export_to_tb()
            traces = sorted(Path(folder).rglob("*.xplane.pb"))
            if traces and self._log_dir:
                shutil.copytree(folder, self._log_dir, dirs_exist_ok=True)
            return traces[0].read_bytes() if traces else b""
