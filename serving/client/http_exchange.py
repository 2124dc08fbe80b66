"""HTTP with the standard library: kept connections, each exchange within its deadline.

In: an address, TLS choices, headers. Out: status and body, or one of our errors. No
redirects and no proxies: what is sent reaches the given host and nobody else.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    InvalidResponse,
    ServingError,
    from_status,
)
from serving.client.options import TLS, Config

LARGEST_ANSWER = 256 << 20  # bytes
_READ_BYTES = 1 << 16
_IDLE_CONNECTIONS = 256


class Connections:
    """Connections to one host; any number of threads may share them."""

    def __init__(self, config: Config, headers: dict[str, str]) -> None:
        """Connects with the first exchange, not before."""
        self._address = config.address.text
        self._url = urlsplit(config.address.target)
        self._tls = _ssl_context(config) if self._url.scheme == "https" else None
        if self._tls is None and config.tls is not None:
            raise InvalidInput(f"{self._address}: TLS needs an https:// address")
        self._server_name = config.tls.server_name if config.tls else None
        self._connect_seconds = config.timeouts.connect
        self._headers = headers
        self._idle: queue.LifoQueue = queue.LifoQueue(_IDLE_CONNECTIONS)
        self._guard = threading.Lock()
        self._busy: set[_Connection] = set()
        self._closed = False

    def ask(
        self, method: str, path: str, body: bytes | None, end: float
    ) -> tuple[int, bytes]:
        """One exchange; again on a new connection if a kept one had been closed.

        Raises:
            ServingError: By status, and for whatever sockets and HTTP raise.
        """
        try:
            return self._ask(method, path, body, end)
        except ServingError:
            if self._closed:
                raise Cancelled("the client is closed") from None
            raise

    def _ask(
        self, method: str, path: str, body: bytes | None, end: float
    ) -> tuple[int, bytes]:
        address = self._address
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            while True:
                connection, kept = self._connection(end)
                try:
                    connection.request(
                        method, self._url.path + path, body, headers | self._headers
                    )
                    response = connection.getresponse()
                    break
                except (ConnectionError, http.client.BadStatusLine):
                    self._end(connection)
                    if not kept or self._closed:
                        raise
                except BaseException:
                    self._end(connection)
                    raise
            try:
                content = _read(response)
            except BaseException:
                self._end(connection)
                raise
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer from {address} in time", address=address
            ) from None
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            raise from_status("UNAVAILABLE", "connection lost", address) from None
        except http.client.HTTPException as error:
            raise InvalidResponse(
                f"{address} does not answer in HTTP ({type(error).__name__}); a gRPC port "
                "is written without http://",
                address=address,
            ) from None
        except ssl.SSLError as error:
            raise from_status("UNAVAILABLE", f"TLS: {error.reason}", address) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise from_status("UNAVAILABLE", reason, address) from None
        if response.will_close:
            self._end(connection)
        else:
            self._keep(connection)
        return response.status, content

    def close(self) -> None:
        """Closes the connections; exchanges that are under way end with `Cancelled`.

        One that is being opened ends when it is, or by `Timeouts.connect`.
        """
        with self._guard:
            self._closed = True
            for connection in self._busy:
                connection.abort()
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _connection(self, end: float) -> tuple[_Connection, bool]:
        """A connection whose every operation ends by `end`, and whether it was used."""
        try:
            connection, kept = self._idle.get_nowait(), True
        except queue.Empty:
            connection, kept = self._new_connection(), False
        connection.end = end
        with self._guard:
            self._busy.add(connection)
            if self._closed:
                raise Cancelled("the client is closed")
        return connection, kept

    def _new_connection(self) -> _Connection:
        return _Connection(
            self._url.hostname or "",
            self._url.port,
            connect_seconds=self._connect_seconds,
            tls=self._tls,
            server_name=self._server_name,
        )

    def _keep(self, connection: _Connection) -> None:
        with self._guard:
            self._busy.discard(connection)
            if not self._closed:
                with contextlib.suppress(queue.Full):
                    self._idle.put_nowait(connection)
                    return
        connection.close()

    def _end(self, connection: _Connection) -> None:
        with self._guard:
            self._busy.discard(connection)
        connection.close()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection on which `end` bounds a whole exchange.

    A socket's own timeout starts anew with each packet, so a server that sends a byte now
    and then could hold a caller for ever.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        connect_seconds: float,
        tls: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        super().__init__(host, port or (443 if tls else 80))
        self.end = 0.0
        self._aborted = False
        self._connect_seconds = connect_seconds
        self._tls = tls
        self._server_name = server_name or host

    def connect(self) -> None:
        """Opens the socket, encrypted if asked for."""
        seconds = min(self._connect_seconds, _left(self.end))
        try:
            plain = socket.create_connection((self.host, self.port), seconds)
        except TimeoutError:
            raise OSError(f"no connection within {seconds:.3g} s") from None
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                plain.settimeout(_left(self.end))
                plain = self._tls.wrap_socket(plain, server_hostname=self._server_name)
        except BaseException:
            plain.close()
            raise
        self.sock: Any = _TimedSocket(plain, self)
        if self._aborted:  # meanwhile
            self.abort()

    def abort(self) -> None:
        """Wakes, with an end of data, a thread that reads or writes here."""
        self._aborted = True
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.plain.shutdown(socket.SHUT_RDWR)


class _TimedSocket:
    """The part of a socket that http.client uses, with the connection's end."""

    def __init__(self, plain: socket.socket, connection: _Connection) -> None:
        self.plain = plain
        self.connection = connection
        self.readers = 0
        self._closing = False

    def sendall(self, data: Any) -> None:
        self.plain.settimeout(_left(self.connection.end))
        self.plain.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode  # http.client reads only
        return io.BufferedReader(_TimedReader(self), _READ_BYTES)

    def close(self) -> None:
        """Closes when the last reader is done: a response outlives its connection."""
        self._closing = True
        self.reader_closed(0)

    def reader_closed(self, count: int) -> None:
        self.readers -= count
        if self._closing and self.readers <= 0:
            self.plain.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, owner: _TimedSocket) -> None:
        super().__init__()
        self._owner = owner
        owner.readers += 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._owner.plain.settimeout(_left(self._owner.connection.end))
        return self._owner.plain.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.reader_closed(1)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body, but not more than the limit.

    Raises:
        InvalidResponse: It is larger.
    """
    content = bytearray()
    while piece := response.read1(_READ_BYTES):
        content += piece
        if len(content) > LARGEST_ANSWER:
            raise InvalidResponse(
                f"the answer is larger than {LARGEST_ANSWER >> 20} MiB"
            )
    if response.length:  # what Content-Length promised beyond what came
        raise http.client.IncompleteRead(b"", response.length)
    response.close()  # read1 does not notice the end; the connection waits for it
    return bytes(content)


def _ssl_context(config: Config) -> ssl.SSLContext:
    tls = config.tls or TLS()
    authorities = tls.read("ca")
    try:
        context = ssl.create_default_context(
            cadata=authorities.decode("ascii") if authorities else None
        )
        if tls.certificate is not None and tls.key is not None:
            for name in ("certificate", "key"):
                tls.read(name)  # for its message
            context.load_cert_chain(tls.certificate, tls.key)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"TLS: the certificates cannot be used ({error})") from None
    return context
