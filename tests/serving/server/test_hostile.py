"""What those who mean harm send: each attack is bounded in time, and in memory."""

import http.client
import re
import time

import grpc
import pytest

tf = pytest.importorskip("tensorflow")
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.serving.server import processes  # noqa: E402

pytestmark = pytest.mark.tf

SECONDS = 30.0  # for what an honest request does in some milliseconds
MIB = 1 << 20
CALLS = {
    "PredictionService/Predict": predict_pb2.PredictRequest,
    "PredictionService/Classify": classification_pb2.ClassificationRequest,
    "PredictionService/Regress": regression_pb2.RegressionRequest,
    "PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}


def rest_port(process):
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", process.ready)[1])


def get(process, path, method="GET", body=None):
    connection = http.client.HTTPConnection(
        "127.0.0.1", rest_port(process), timeout=SECONDS
    )
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_names_without_end_are_no_labels(process):
    get(process, "/metrics")
    page = len(get(process, "/metrics")[1])
    memory = processes.resident_bytes(process.popen.pid)
    began = time.monotonic()
    with grpc.insecure_channel(process.address) as channel:
        for number in range(3):
            name = f"{number}" * (2 * MIB)
            requests = {
                path: kind(model_spec={"name": name}) for path, kind in CALLS.items()
            } | {
                "PredictionService/MultiInference": inference_pb2.MultiInferenceRequest(
                    tasks=[inference_pb2.InferenceTask(model_spec={"name": name})]
                )
            }
            requests["PredictionService/GetModelMetadata"].metadata_field.append(
                "signature_def"
            )
            for path, request in requests.items():
                call = channel.unary_unary(f"/tensorflow.serving.{path}")
                with pytest.raises(grpc.RpcError) as caught:
                    call(request.SerializeToString(), timeout=SECONDS)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert caught.value.details() == (
                    "The model's name has 2097152 characters; no model's has more "
                    "than 256"
                )
    for number in range(1200):
        name = f"{number}".ljust(4000 if number < 50 else 10, "x")
        status, _ = get(process, f"/v1/models/{name}:predict", "POST", b'{"inputs":1}')
        assert status == (400 if number < 50 else 404)
    text = get(process, "/metrics")[1].decode()
    assert time.monotonic() - began < SECONDS
    assert processes.resident_bytes(process.popen.pid) - memory < 64 * MIB
    assert len(text) - page < 64 << 10
    request_count = ':tensorflow:serving:request_count{model_name="%s",status="%s"} '
    assert request_count % ("other", "NOT_FOUND") + "1150" in text
    for name in re.findall(r'model_name="([^"]*)"', text):
        assert name in {"tf2", "tf1", "images", "other"}
