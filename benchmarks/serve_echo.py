"""A gRPC server that answers every Predict at once, with the same message.

    python -m benchmarks.serve_echo BYTES

What a call costs in gRPC for Python, whatever is answered: no server in Python spends less.
Prints {"address": ...} as JSON, then serves until stdin ends.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.serve_load import PREDICT
from serving.client import messages

CALLS = 128  # at a time, as `benchmarks.serve` sends them


class _Echo(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes):
        self._handler = grpc.unary_unary_rpc_method_handler(lambda *_: answer)

    def service(self, handler_call_details: Any) -> Any:
        return self._handler if handler_call_details.method == PREDICT else None


def main() -> None:
    """Serves."""
    response = messages.PredictResponse()
    response.model_spec.name = "x" * int(sys.argv[1])  # the load reads a version in it
    answer = response.SerializeToString()
    server = grpc.server(ThreadPoolExecutor(CALLS), handlers=[_Echo(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
