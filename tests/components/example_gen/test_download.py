import socket
import threading
import time

import pytest

from components.example_gen import download


@pytest.fixture
def local_server(monkeypatch):
    """A server that accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    monkeypatch.setattr(download, "URL", f"http://127.0.0.1:{port}/{{archive}}")
    monkeypatch.setenv("no_proxy", "*")
    yield server
    server.close()


@pytest.mark.usefixtures("local_server")
def test_silent_server_costs_no_more_than_the_deadline():
    start = time.monotonic()
    trouble = download.trouble("cifar10", 0.3)
    assert trouble and "127.0.0.1" in trouble
    assert time.monotonic() - start < 1


def test_hanging_name_lookup_costs_no_more_than_the_deadline(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_a, **_k: released.wait(5) and []
    )
    monkeypatch.setenv("no_proxy", "*")
    start = time.monotonic()
    trouble = download.trouble("cifar10", 0.2)
    assert trouble == "no answer from www.cs.toronto.edu in 0.2 s"
    assert time.monotonic() - start < 1
    released.set()


def answer(server, status):
    def serve():
        connection, _ = server.accept()
        connection.recv(10_000)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        connection.close()

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize(
    ("status", "trouble"), [("200 OK", None), ("403 Forbidden", "403")]
)
def test_answer_of_the_server_decides(local_server, status, trouble):
    answer(local_server, status)
    found = download.trouble("cifar10", 5)
    assert found is None if trouble is None else trouble in str(found)
