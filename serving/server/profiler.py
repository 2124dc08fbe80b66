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

import logging
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import grpc
from tensorflow.python.profiler.internal import _pywrap_profiler

from serving.server import grpc_core, pending, protos
from serving.server.errors import INTERNAL, parse

SERVICE = "tensorflow.ProfilerService"
_LONGEST_MS = 60_000

_log = logging.getLogger(__name__)

_MESSAGES = protos.declare(
    {
        "ProfileRequest": (("duration_ms", 1, "uint64"),),
        "ProfileResponse": (("empty_trace", 7, "bool"), ("xspace", 8, "bytes")),
    }
)


def methods(log_dir: str = "") -> dict[str, grpc_core.Method]:
    """The service's methods, by their full names; `log_dir` is TensorBoard's, or empty."""
    profiler = _Profiler(log_dir)
    return {
        f"/{SERVICE}/Profile": lambda data, call: pending.start(
            profiler.profile(parse(_MESSAGES["ProfileRequest"], data), call)
        ),
        f"/{SERVICE}/Terminate": profiler.terminate,
    }


class _Profiler:
    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir
        self._busy = threading.Lock()
        self._enough = threading.Event()

    async def profile(self, request: Any, call: grpc_core.Call) -> None:
        """Collects for the duration asked, and answers with an XSpace."""
        milliseconds = request.duration_ms
        if not 0 < milliseconds <= _LONGEST_MS:
            call.finish(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"duration_ms is {milliseconds}, but must be 1 to {_LONGEST_MS}",
            )
            return
        if not self._busy.acquire(blocking=False):
            code = grpc.StatusCode.ALREADY_EXISTS
            call.finish(code, "A trace is being collected already")
            return
        try:
            # One for each trace: a call that ends late must not end the next trace.
            self._enough = enough = threading.Event()
            call.on_end(enough.set)
            trace = await pending.in_thread(self._collect, milliseconds / 1e3, enough)
        except Exception:
            _log.exception("no trace could be collected")
            call.finish(grpc.StatusCode.INTERNAL, INTERNAL)
            return
        finally:
            self._busy.release()
        response = _MESSAGES["ProfileResponse"](empty_trace=not trace, xspace=trace)
        call.reply(response.SerializeToString())

    def terminate(self, data: bytes, call: grpc_core.Call) -> None:
        """Ends the trace that is being collected."""
        del data
        self._enough.set()
        call.reply(b"")

    def _collect(self, seconds: float, enough: threading.Event) -> bytes:
        """A serialized tensorflow.profiler.XSpace."""
        with tempfile.TemporaryDirectory() as folder:
            session: Any = _pywrap_profiler.ProfilerSession()
            session.start(folder, {})
            enough.wait(seconds)
            session.export_to_tb()
            traces = sorted(Path(folder).rglob("*.xplane.pb"))
            if traces and self._log_dir:
                shutil.copytree(folder, self._log_dir, dirs_exist_ok=True)
            return traces[0].read_bytes() if traces else b""
