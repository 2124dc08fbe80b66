"""The serving benchmark: what it prints, what it sends, and that all of it runs."""

import json
import subprocess
import sys
from concurrent import futures

import grpc
import numpy as np
import pytest

from benchmarks import serve, serve_load
from serving.client import messages


@pytest.fixture
def result():
    return {
        "plan": {"largest_batch": 64},
        "throughput": [
            {"network": "preact_resnet20", "rows": 1, "callers": 32,
             "bare_images_per_second": 2000.0,
             "server_ratio": 0.95, "server_ratios": [0.9, 0.95, 1.0],
             "server_images_per_second": 1900.4, "server_cpu_ratio": 0.93,
             "h2load_ratio": 0.97, "h2load_ratios": [0.96, 0.97, 0.99],
             "h2load_images_per_second": 1940.0, "h2load_cpu_ratio": 0.96},
        ],
        "latency": {
            "network": "preact_resnet20",
            "p50": {"server": 2.5, "bare": 2.0, "added": 0.5},
            "p99": {"server": 4.5, "bare": 3.0, "added": 1.5},
        },
        "swap": {"swaps": 3, "rate": 200.0, "failed": 0, "requests": 8000, "ratio": 2.5,
                 "p99_swap": 25.0, "p99_quiet": 10.0},
        "memory": {"requests": 24_000, "rate": 400.0, "growth": 1.25,
                   "growth_second_half": -0.5, "megabytes": [900.0, 901.25]},
        "malformed": {"requests": 1000, "unexpected": [], "growth_megabytes": 0.1},
    }  # fmt: skip


def test_table_has_every_target(result):
    table = serve.markdown(result)
    rate = "0.95 (0.90 to 1.00); 1,900 against 2,000 images/s; by processor time 0.93"
    assert f"{rate} | >= 0.9 |" in table
    assert "sent by h2load: throughput against bare batches of 64 | 0.97 (0.96" in table
    assert "added, p50 | 0.50 ms (2.50 against 2.00) | <= 1.0 ms |" in table
    assert "| 0 of 8,000 | 0 |" in table
    assert "2.5 x (25.0 against 10.0 ms) | <= 3 x |" in table
    assert "+1.2 MB of 900; second half -0.5 MB | no growth |" in table
    assert {line.count("|") for line in table.splitlines()} == {4}


def test_request_is_a_predict_of_images():
    message = messages.PredictRequest.FromString(serve_load.request("m", 3))
    tensor = message.inputs["images"]
    assert [dim.size for dim in tensor.tensor_shape.dim] == [3, 32, 32, 3]
    assert (message.model_spec.name, len(tensor.tensor_content)) == ("m", 3 * 3072)


@pytest.fixture
def channel():
    """A gRPC server without a model: version 4 answers, every seventh call fails."""
    count = 0

    def predict(request, context):
        nonlocal count
        count += 1
        if count % 7 == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        answer = messages.PredictResponse()
        answer.model_spec.version.value = 4
        return answer.SerializeToString()

    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService",
        {"Predict": grpc.unary_unary_rpc_method_handler(predict)},
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    server.stop(0)


@pytest.mark.parametrize("order", [{"callers": 3}, {"rate": 100}])
def test_load_counts_answers_failures_and_versions(channel, order):
    call = channel.unary_unary(serve_load.PREDICT)
    found = serve_load._load(call, b"", order | {"rows": 1, "seconds": 0.5})
    answered = len(found["latencies"])
    assert len(found["at"]) == answered
    assert answered // 7 <= found["failures"]["UNAVAILABLE"] <= answered // 6 + 1
    assert found["versions"] == [4]
    assert min(found["latencies"]) > 0
    if "rate" in order:  # an open loop sends what was asked for, however slow
        assert answered + found["failures"]["UNAVAILABLE"] == 50


def test_published_version_appears_at_once(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "saved_model.pb").write_bytes(b"x")
    base = tmp_path / "base"
    base.mkdir()
    serve.publish(source, base, 12)
    assert [path.name for path in base.iterdir()] == ["12"]
    assert (base / "12" / "saved_model.pb").read_bytes() == b"x"


@pytest.mark.bench
@pytest.mark.tf
@pytest.mark.timeout(900)
def test_quick_run_measures_everything(tmp_path):
    output = tmp_path / "serve.json"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", "--quick", "--output", str(output)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(output.read_text())
    assert result["throughput"][0]["server_ratio"] > 0
    assert 0 < result["throughput"][1]["grpc_limit"] < 1
    assert result["latency"]["p50"]["server"] > 0
    assert result["swap"]["failed"] == 0
    assert result["swap"]["versions"] == [1, 2]
    assert np.isfinite(result["swap"]["ratio"])
    assert result["malformed"]["unexpected"] == []
    assert "| what | measured | target |" in run.stdout
