"""gRPC answers made to fill a client's memory or to keep it busy: refused in a line."""

import subprocess
import sys
from concurrent import futures
from pathlib import Path

import grpc
import pytest

ASK = """
import resource
import sys

resource.setrlimit(resource.RLIMIT_CPU, (15, 15))
from serving.client import Classifier, InvalidInput, InvalidResponse

with Classifier(sys.argv[1]) as classifier:
    try:
        print(getattr(classifier, sys.argv[2])())
    except (InvalidInput, InvalidResponse) as error:
        print(error)
"""


ANSWERS = {
    "entries": (lambda: b"\x0a\x00" * (100 << 20), "status", "answered 209,715,200"),
    "metadata": (lambda: b"\x12\x00" * (9 << 20), "metadata", "answered 18,874,368"),
    "compressed": (lambda: bytes(300 << 20), "status", "larger than max"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_that_would_fill_the_memory_are_refused(kind):
    make, question, words = ANSWERS[kind]
    answer = make()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details):  # noqa: ARG002
            return grpc.unary_unary_rpc_method_handler(lambda *_: answer)

    server = grpc.server(
        futures.ThreadPoolExecutor(1),
        options=[("grpc.max_send_message_length", -1)],
        compression=grpc.Compression.Gzip if kind == "compressed" else None,
    )
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK, f"127.0.0.1:{port}", question],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        server.stop(0).wait()
    assert done.returncode == 0, done.stderr[-1000:]
    assert words in done.stdout and done.stdout.count("\n") == 1
