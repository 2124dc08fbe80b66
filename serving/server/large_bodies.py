"""Large JSON bodies, read by a process of its own: unpacked, parsed, made into arrays.

To parse a body is one call that holds Python's lock until it returns, for a quarter of a
second if the body has 64 MiB: nobody else is answered meanwhile. So it happens elsewhere,
at a lower priority than the server's, in bounded memory. What comes back are arrays' bytes,
which are received right into arrays and without that lock.

The process starts with the first such body, and again after it has died.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import resource
import signal
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson

from serving.server import json_arrays
from serving.server.errors import ServingError, invalid

_NICE = 10  # it gets a tenth of a core that the server wants
# Lists of lists take twenty times their text; they, and an array made of them, have to fit.
_MEMORY_PER_BYTE = 40
_STEP_SECONDS = 30.0  # no client waits longer, as a rule; then the process is ended
_HEADER = struct.Struct("!I")
_GZIP = 31  # zlib's window bits

_log = logging.getLogger(__name__)


class TooLarge(ServingError):
    """A body's own limit; in HTTP, 413."""

    def __init__(self, most: int):
        super().__init__(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"The body has more than {most} bytes"
        )
        self.most = most


def unpack(data: bytes | bytearray, most: int) -> bytearray:
    """What gzip has packed, in one part or several.

    Args:
        data: As it came.
        most: Bytes of the result; no more are made.

    Raises:
        TooLarge: There would be more.
        ServingError: INVALID_ARGUMENT; it is no gzip, or not all of it.
    """
    unpacked = bytearray()
    while data:
        part = zlib.decompressobj(_GZIP)
        try:
            # No limit is 0; one more than the most shows that there is more.
            unpacked += part.decompress(data, most + 1 - len(unpacked))
        except zlib.error as error:
            raise invalid(f"The body cannot be read: {error}") from None
        if len(unpacked) > most:
            raise TooLarge(most)
        if not part.eof:
            raise invalid("The body cannot be read: its gzip is cut short")
        data = part.unused_data
    return unpacked


class Reader:
    """The functions of json_arrays, run in the process, for one body at a time.

    Whose turn it is has the process until the body is decoded.

    Args:
        most_bytes: Of a body when it is unpacked.
    """

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._process: Any = None
        self._connection: socket.socket | None = None
        self._documents = itertools.count(1)
        self._turn = threading.Lock()
        self._held = 0  # the document that the process has, and whoever has the turn

    @contextlib.contextmanager
    def parse(
        self,
        body: bytes | bytearray,
        *,
        packed: bool,
        check: Callable[[], object] = lambda: None,
    ) -> Iterator[int]:
        """Parses a body; in `with`, at whose end nothing is left of it.

        Args:
            body: JSON.
            packed: Whether by gzip.
            check: Asked when it is this body's turn; raises if nobody waits any more.

        Yields:
            The document, for the other methods.

        Raises:
            ServingError: See `unpack` and `json_arrays.parse`; RESOURCE_EXHAUSTED: it takes
                too much memory, or too long.
        """
        self._turn.acquire()
        document = self._held = next(self._documents)
        try:
            check()
            self._ask_to_parse(body, packed=packed)
            yield document
        finally:
            if document == self._held:
                if self._process is not None:
                    with contextlib.suppress(ServingError):
                        self._ask({"do": "release"})
                self._end_turn(document)

    def signature_name(self, document: int) -> str:
        """See json_arrays."""
        return self._ask(self._about(document, "signature_name"))["name"]

    def decode(
        self, document: int, inputs: Mapping[str, str]
    ) -> tuple[dict[str, np.ndarray], bool]:
        """See json_arrays; the last that is done with a document."""
        try:
            order = self._about(document, "decode") | {"inputs": dict(inputs)}
            answer = self._ask(order)
            feeds = {
                name: self._receive_array(dtype, shape)
                for name, dtype, shape in answer["arrays"]
            }
        finally:
            self._end_turn(document)
        return feeds, answer["rows"]

    def examples(self, document: int) -> bytes:
        """See json_arrays; the last that is done with a document."""
        try:
            answer = self._ask(self._about(document, "examples"))
            return bytes(self._receive_bytes(answer["bytes"]))
        finally:
            self._end_turn(document)

    def _ask_to_parse(self, body: bytes | bytearray, *, packed: bool) -> None:
        self._start()
        self._ask({"do": "parse", "bytes": len(body), "packed": packed}, body)

    def _end_turn(self, document: int) -> None:
        if document == self._held:
            self._held = 0
            self._turn.release()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """Ends the process; any thread may call."""
        self._end()

    def _start(self) -> None:
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(_STEP_SECONDS)
        with theirs:
            self._process = context.Process(
                target=_serve, args=(theirs, self._most_bytes), daemon=True
            )
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            self._process.start()
            # multiprocessing's resource tracker unblocks SIGTERM and SIGINT in the thread
            # that starts it; the server's signals.py wants them blocked in all.
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._connection is not None:
            process.kill()  # who waits for it learns that it is gone
            process.join()
            process.close()
            self._connection.close()

    def _about(self, document: int, function: str) -> dict[str, Any]:
        if document != self._held or self._process is None:  # it died with that
            raise _exhausted()
        return {"do": function}

    def _ask(self, order: dict[str, Any], body: Any = b"") -> dict[str, Any]:
        try:
            assert self._connection is not None  # `parse` has come before
            _send(self._connection, order)
            self._connection.sendall(body)
            answer = _receive(self._connection)
        except (OSError, EOFError):
            self._end()
            _log.warning("a large body took too much memory or time, and was given up")
            raise _exhausted() from None
        if "most" in answer:
            raise TooLarge(answer["most"])
        if "code" in answer:
            raise ServingError(grpc.StatusCode[answer["code"]], answer["text"])
        return answer

    def _receive_array(self, dtype: str, shape: list[int]) -> np.ndarray:
        if dtype != "object":
            array = np.empty(shape, dtype)
            self._receive_into(array.reshape(-1).view(np.uint8).data)
            return array
        strings = np.empty(shape, object)
        ends = np.cumsum(self._receive_array("int64", [strings.size]))
        data = self._receive_bytes(int(ends[-1]) if len(ends) else 0)
        start = 0
        for place, end in enumerate(ends):
            strings.flat[place] = bytes(data[start:end])
            start = end
        return strings

    def _receive_bytes(self, count: int) -> memoryview:
        data = memoryview(bytearray(count))
        self._receive_into(data)
        return data

    def _receive_into(self, view: memoryview) -> None:
        assert self._connection is not None
        try:
            _receive_into(self._connection, view)
        except (OSError, EOFError):
            self._end()
            raise _exhausted() from None


def _exhausted() -> ServingError:
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "To read the body takes too much memory or time",
    )


def _send(connection: socket.socket, header: Mapping[str, Any]) -> None:
    text = orjson.dumps(header)
    connection.sendall(_HEADER.pack(len(text)) + text)


def _receive(connection: socket.socket) -> dict[str, Any]:
    head = bytearray(_HEADER.size)
    _receive_into(connection, memoryview(head))
    text = bytearray(_HEADER.unpack(head)[0])
    _receive_into(connection, memoryview(text))
    return orjson.loads(text)


def _receive_into(connection: socket.socket, view: memoryview) -> None:
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


# From here on the process.


def _serve(connection: socket.socket, most_bytes: int) -> None:
    """Until the server hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    _limit_memory(_MEMORY_PER_BYTE * most_bytes)
    document: Any = None
    with connection, contextlib.suppress(OSError, EOFError):
        while True:
            order = _receive(connection)
            parts: list[Any] = []
            answer: dict[str, Any] = {}
            try:
                if order["do"] == "parse":
                    document = None
                    body = bytearray(order["bytes"])
                    _receive_into(connection, memoryview(body))
                    if order["packed"]:
                        body = unpack(body, most_bytes)
                    document = json_arrays.parse(body)
                    del body
                elif order["do"] == "signature_name":
                    answer["name"] = json_arrays.signature_name(document)
                elif order["do"] == "decode":
                    feeds, rows = json_arrays.decode(document, order["inputs"])
                    answer |= {"rows": rows, "arrays": []}
                    for name, array in feeds.items():
                        kind = array.dtype.name
                        answer["arrays"].append((name, kind, array.shape))
                        parts += _bytes_of(array)
                elif order["do"] == "examples":
                    parts = [json_arrays.examples(document)]
                    answer["bytes"] = len(parts[0])
            except TooLarge as error:
                answer = {"most": error.most}
            except ServingError as error:
                answer = {"code": error.code.name, "text": error.message}
            except MemoryError:
                return  # what it holds is given back best by its end
            if order["do"] not in ("parse", "signature_name"):
                document = None
            _send(connection, answer)
            for part in parts:
                connection.sendall(part)


def _bytes_of(array: np.ndarray) -> list[Any]:
    if array.dtype != object:
        return [np.ascontiguousarray(array).reshape(-1).view(np.uint8)]
    strings = array.reshape(-1).tolist()
    sizes = np.fromiter(map(len, strings), np.int64, len(strings))
    return [sizes.view(np.uint8), b"".join(strings)]


def _limit_memory(more: int) -> None:
    """To so many bytes above what the process has now."""
    with contextlib.suppress(OSError, ValueError):  # no Linux
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
