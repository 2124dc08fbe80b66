"""TensorFlow Serving's behaviour, through its official stubs over real channels."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.tsl.profiler.protobuf import xplane_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.server import application, profiler
from serving.server.errors import ServingError
from serving.server.flags import Flags
from serving.server.handlers import Call
from tests.serving.server import models, processes

pytestmark = pytest.mark.tf
SECONDS = 60
Code = grpc.StatusCode


def connect(address: str, credentials: Any = None) -> SimpleNamespace:
    channel = (
        grpc.secure_channel(address, credentials)
        if credentials
        else grpc.insecure_channel(address)
    )
    return SimpleNamespace(
        channel=channel,
        predict=prediction_service_pb2_grpc.PredictionServiceStub(channel),
        models=model_service_pb2_grpc.ModelServiceStub(channel),
    )


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    client = connect(server.address)
    yield client
    client.channel.close()


@pytest.fixture
def start() -> Any:
    """Starts further servers, and stops them."""
    running: list[Any] = []

    def start(**flags: Any) -> Any:
        running.append(application.start(Flags(port=0, **flags)))
        return running[-1]

    yield start
    for server in running:
        server.stop(0)


def predict_request(model: str, signature: str = "", **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def x(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def refusal(call: Callable[..., Any], request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=SECONDS)
    return caught.value.code(), caught.value.details()


# Predict


def test_predict_tells_which_version_answered(client):
    answer = client.predict.Predict(predict_request("tf2", x=x(1, 2)), timeout=SECONDS)
    assert answer.model_spec.name == "tf2"
    assert answer.model_spec.version.value == 3
    assert answer.model_spec.signature_name == "serving_default"
    assert set(answer.outputs) == {"y", "twice"}
    # Typed values, as tensorflow_model_server's clients read them.
    assert list(answer.outputs["y"].float_val) == [3.5, 4.0]
    assert list(tf.make_ndarray(answer.outputs["twice"])) == [7.0, 8.0]


def test_tf1_models_have_their_variables_and_tables(client):
    request = predict_request("tf1", x=[[1.0], [2.0]])
    answer = client.predict.Predict(request, timeout=SECONDS)
    assert tf.make_ndarray(answer.outputs["y"]).tolist() == [[2.5], [3.0]]
    assert tf.make_ndarray(answer.outputs["label"]).tolist() == [[b"zero"], [b"one"]]


def test_strings_and_scalars(client):
    request = predict_request("tf2", "strings", text=[b"", b"\xff\0\xff", b"abc"])
    answer = client.predict.Predict(request, timeout=SECONDS)
    assert tf.make_ndarray(answer.outputs["length"]).tolist() == [0, 3, 3]
    assert list(answer.outputs["text"].string_val) == [b"", b"\xff\0\xff", b"abc"]
    request = predict_request("tf2", "scalar", x=np.float32(4))
    answer = client.predict.Predict(request, timeout=SECONDS)
    assert tf.make_ndarray(answer.outputs["y"]) == 5.0


def test_pixels_agree_with_tensorflow(client, model_root):
    loaded = tf.saved_model.load(str(model_root / "images" / "1"))
    pixels = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    expected = loaded.signatures["serving_default"](images=tf.constant(pixels))
    request = predict_request("images", images=pixels)
    answer = client.predict.Predict(request, timeout=SECONDS)
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["features"]),
        expected["features"].numpy(),
        rtol=1e-4,
        atol=1e-2,
    )


def test_output_filter_chooses_and_orders_nothing_else(client):
    request = predict_request("tf2", x=x(1))
    request.output_filter.append("twice")
    answer = client.predict.Predict(request, timeout=SECONDS)
    assert set(answer.outputs) == {"twice"}


def test_shapes_need_not_be_the_signatures(client):
    answer = client.predict.Predict(
        predict_request("tf2", x=[[1.0], [2.0]]), timeout=SECONDS
    )
    assert tf.make_ndarray(answer.outputs["y"]).tolist() == [[3.5], [4.0]]


def test_empty_batches_are_answered(client):
    answer = client.predict.Predict(
        predict_request("tf2", x=np.zeros(0, np.float32)), timeout=SECONDS
    )
    assert tf.make_ndarray(answer.outputs["y"]).shape == (0,)
    answer = client.predict.Predict(
        predict_request("images", images=np.zeros((0, 32, 32, 3), np.uint8)),
        timeout=SECONDS,
    )
    assert tf.make_ndarray(answer.outputs["features"]).shape == (0, 32, 32, 4)


def test_nan_is_a_number_like_any_other(client):
    request = predict_request("tf2", x=x(np.nan, np.inf, 1))
    answer = client.predict.Predict(request, timeout=SECONDS)
    np.testing.assert_array_equal(
        tf.make_ndarray(answer.outputs["y"]), x(np.nan, np.inf, 3.5)
    )


def named(version: int | None = None, label: str = "") -> Any:
    request = predict_request("tf2", x=x(0))
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    return request


@pytest.mark.parametrize(
    ("request_", "version"),
    [
        (named(), 3),
        (named(1), 1),
        (named(3), 3),
        (named(label="stable"), 1),
        (named(label="canary"), 3),
    ],
)
def test_versions_and_labels(client, request_, version: int):
    answer = client.predict.Predict(request_, timeout=SECONDS)
    assert answer.model_spec.version.value == version
    assert list(answer.outputs["y"].float_val) == [{1: 2.0, 3: 3.0}[version]]


def without_spec() -> Any:
    request = predict_request("tf2", x=x(0))
    request.ClearField("model_spec")
    return request


def filtered(*aliases: str) -> Any:
    request = predict_request("tf2", x=x(0))
    request.output_filter.extend(aliases)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (without_spec(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (
            predict_request("", x=x(0)),
            Code.INVALID_ARGUMENT,
            "ModelSpec has no name specified.",
        ),
        (
            predict_request("nobody", x=x(0)),
            Code.NOT_FOUND,
            "Servable not found for request: Latest(nobody)",
        ),
        (named(2), Code.NOT_FOUND, "Servable not found for request: Specific(tf2, 2)"),
        (
            named(label="future"),
            Code.NOT_FOUND,
            "Servable not found for request: Specific(tf2, 9)",
        ),
        (
            named(label="nope"),
            Code.INVALID_ARGUMENT,
            "Unrecognized servable version label: nope",
        ),
        (
            predict_request("tf2", "nope", x=x(0)),
            Code.FAILED_PRECONDITION,
            'Serving signature key "nope" not found.',
        ),
        (
            predict_request("tf2"),
            Code.INVALID_ARGUMENT,
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: "
            "{}. Missing but required: {x}.",
        ),
        (
            predict_request("tf2", x=x(0), z=x(0)),
            Code.INVALID_ARGUMENT,
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent "
            "extra: {z}. Missing but required: {}.",
        ),
        (
            predict_request("tf2", z=x(0)),
            Code.INVALID_ARGUMENT,
            "Signature input alias: x(feed name: ",
        ),
        (
            filtered("w"),
            Code.INVALID_ARGUMENT,
            "output tensor alias not found in signature: w Outputs expected to be in the "
            "set {twice,y}.",
        ),
        (
            filtered("y", "y"),
            Code.INVALID_ARGUMENT,
            "duplicate output tensor alias: y",
        ),
        (
            predict_request("tf2", x=[1, 2]),
            Code.INVALID_ARGUMENT,
            "Expects arg[0] to be float but int32 is provided",
        ),
        (
            predict_request("images", images=np.zeros((32, 32, 3), np.uint8)),
            Code.INVALID_ARGUMENT,
            'input "images" has the shape [32,32,3], the signature\'s is [?,32,32,3]',
        ),
        (
            predict_request(
                "tf2",
                "divide",
                a=np.ones((1, 2), np.int64),
                b=np.zeros((1, 2), np.int64),
            ),
            Code.INVALID_ARGUMENT,
            "division by zero",
        ),
    ],
)
def test_codes_and_texts_of_predict(client, request_, code, text: str):
    got, details = refusal(client.predict.Predict, request_)
    assert (got, text in details) == (code, True), details


# Classify, Regress, MultiInference


def examples_request(kind: Any, model: str, signature: str, *values: float) -> Any:
    request = kind()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.input.example_list.examples.extend(models.examples(values))
    return request


def test_classify(client):
    answer = client.predict.Classify(
        examples_request(
            classification_pb2.ClassificationRequest, "tf2", "classify", 1, 2
        ),
        timeout=SECONDS,
    )
    assert answer.model_spec.version.value == 3
    assert answer.model_spec.signature_name == "classify"
    rows = answer.result.classifications
    assert [[c.label for c in row.classes] for row in rows] == [["low", "high"]] * 2
    assert [[c.score for c in row.classes] for row in rows] == [[-3.5, 3.5], [-4, 4]]


@pytest.mark.parametrize(("model", "shift"), [("tf1", 2.0), ("tf2", 3.0)])
def test_regress(client, model: str, shift: float):
    request = examples_request(
        regression_pb2.RegressionRequest, model, "regress", 1, 2, 3
    )
    answer = client.predict.Regress(request, timeout=SECONDS)
    values = [regression.value for regression in answer.result.regressions]
    assert values == [shift + 0.5, shift + 1, shift + 1.5]


def test_context_is_shared_by_all_examples(client):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "tf2", "regress"
    listed = request.input.example_list_with_context
    listed.context.CopyFrom(models.examples([8])[0])
    listed.examples.extend([tf.train.Example(), tf.train.Example()])
    answer = client.predict.Regress(request, timeout=SECONDS)
    assert [regression.value for regression in answer.result.regressions] == [7.0, 7.0]


def multi_request(*tasks: tuple[str, str, str]) -> Any:
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = model, signature
    request.input.example_list.examples.extend(models.examples([1]))
    return request


BOTH = (("tf1", "regress", "regress"), ("tf1", "classify", "classify"))


@pytest.mark.parametrize(
    ("model", "version", "value", "classes"),
    [
        ("tf1", 1, 2.5, [("zero", 2.5)]),
        # TF2 gives each signature a placeholder of its own. Until 2020 that was refused,
        # see input_tensor_name_set in servables/tensorflow/multi_inference.cc.
        ("tf2", 3, 3.5, [("low", -3.5), ("high", 3.5)]),
    ],
)
def test_multi_inference(client, model, version, value, classes):
    request = multi_request(
        (model, "regress", "regress"), (model, "classify", "classify")
    )
    answer = client.predict.MultiInference(request, timeout=SECONDS)
    regress, classify = answer.results
    assert regress.model_spec.signature_name == "regress"
    assert regress.model_spec.version.value == version
    assert [r.value for r in regress.regression_result.regressions] == [value]
    (row,) = classify.classification_result.classifications
    assert [(c.label, c.score) for c in row.classes] == classes


def without_examples(request: Any) -> Any:
    request.ClearField("input")
    return request


@pytest.mark.parametrize(
    ("method", "request_", "code", "text"),
    [
        ("Classify", classification_pb2.ClassificationRequest(), Code.INVALID_ARGUMENT,
         "Missing ModelSpec"),
        ("Classify",
         examples_request(classification_pb2.ClassificationRequest, "tf2", "no", 1),
         Code.INVALID_ARGUMENT, "No signature was found with the name: no"),
        ("Classify",
         examples_request(classification_pb2.ClassificationRequest, "tf2", "divide", 1),
         Code.INVALID_ARGUMENT, "Expected one input Tensor."),
        ("Classify",
         examples_request(classification_pb2.ClassificationRequest, "tf2", "", 1),
         Code.FAILED_PRECONDITION, "No classification inputs found in SignatureDef: "),
        ("Regress",
         without_examples(
             examples_request(regression_pb2.RegressionRequest, "tf2", "regress")),
         Code.INVALID_ARGUMENT, "Input is empty."),
        ("Regress",
         examples_request(regression_pb2.RegressionRequest, "tf2", "classify", 1),
         Code.INVALID_ARGUMENT, "Expected one output Tensor."),
        ("Regress",
         examples_request(regression_pb2.RegressionRequest, "gone", "regress", 1),
         Code.NOT_FOUND, "Servable not found for request: Latest(gone)"),
        ("MultiInference", multi_request(), Code.INVALID_ARGUMENT,
         "ModelSpec has no name specified."),
        ("MultiInference", multi_request(BOTH[0], BOTH[0]), Code.INVALID_ARGUMENT,
         "Duplicate evaluation of signature: regress"),
        ("MultiInference", multi_request(BOTH[0], ("tf2", "classify", "classify")),
         Code.INVALID_ARGUMENT, "must access the same model name."),
        ("MultiInference", multi_request(("tf1", "regress", "predict")),
         Code.UNIMPLEMENTED, "Unsupported signature method_name: "),
        ("MultiInference", multi_request(("tf1", "no", "regress")),
         Code.INVALID_ARGUMENT, "Requested signature not found in model graph: no"),
        ("GetModelMetadata", get_model_metadata_pb2.GetModelMetadataRequest(),
         Code.INVALID_ARGUMENT, "Missing ModelSpec"),
    ],
)  # fmt: skip
def test_codes_and_texts_of_the_others(client, method, request_, code, text: str):
    got, details = refusal(getattr(client.predict, method), request_)
    assert (got, text in details) == (code, True), details


def test_method_names_are_checked_if_wanted(start, model_root):
    server = start(
        model_base_path=str(model_root / "tf2"), enable_signature_method_name_check=True
    )
    request = examples_request(
        classification_pb2.ClassificationRequest, "default", "classify", 1
    )
    code, details = refusal(connect(server.address).predict.Classify, request)
    assert code == Code.INVALID_ARGUMENT
    assert "signature method_name to be tensorflow/serving/classify. Was: " in details


# Metadata and status


def test_metadata_is_the_saved_models(client, model_root):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "tf1"
    request.metadata_field.append("signature_def")
    answer = client.predict.GetModelMetadata(request, timeout=SECONDS)
    assert answer.model_spec.version.value == 1
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    model = saved_model_pb2.SavedModel.FromString(
        (model_root / "tf1" / "1" / "saved_model.pb").read_bytes()
    )
    for name, definition in found.signature_def.items():
        assert definition == model.meta_graphs[0].signature_def[name]
    assert set(found.signature_def) == {"serving_default", "regress", "classify"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["nonsense"], "Metadata field nonsense is not supported"),
    ],
)
def test_metadata_fields_are_checked(client, fields: list[str], text: str):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "tf1"
    code, details = refusal(client.predict.GetModelMetadata, request)
    assert (code, details) == (Code.INVALID_ARGUMENT, text)


def test_status_of_all_versions_and_of_one(client):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "tf2"
    answer = client.models.GetModelStatus(request, timeout=SECONDS)
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    states = {s.version: s.state for s in answer.model_version_status}
    assert states == {1: available, 3: available}
    assert all(s.status.error_code == 0 for s in answer.model_version_status)
    request.model_spec.version_label = "stable"
    (status,) = client.models.GetModelStatus(request).model_version_status
    assert status.version == 1


@pytest.mark.parametrize(
    ("name", "version", "code", "text"),
    [
        ("tf2", 2, Code.NOT_FOUND, "Could not find version 2 of model tf2"),
        ("no", None, Code.NOT_FOUND, "Could not find any versions of model no"),
        (None, None, Code.INVALID_ARGUMENT, "Missing ModelSpec"),
    ],
)
def test_codes_and_texts_of_status(client, name, version, code, text: str):
    request = get_model_status_pb2.GetModelStatusRequest()
    if name:
        request.model_spec.name = name
    if version:
        request.model_spec.version.value = version
    assert refusal(client.models.GetModelStatus, request) == (code, text)


# Reload


def reload_request(*entries: dict[str, Any]) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    for entry in entries:
        request.config.model_config_list.config.add(
            model_platform="tensorflow", **entry
        )
    return request


def test_reload_adds_and_removes_models(start, tmp_path):
    models.write_tf2(tmp_path / "a" / "1")
    models.write_tf2(tmp_path / "b" / "1")
    server = start(
        model_name="a",
        model_base_path=str(tmp_path / "a"),
        reload_roots=str(tmp_path),
        file_system_poll_wait_seconds=1,
    )
    client = connect(server.address)
    a = {"name": "a", "base_path": str(tmp_path / "a")}
    b = {"name": "b", "base_path": str(tmp_path / "b")}
    answer = client.models.HandleReloadConfigRequest(reload_request(a, b))
    assert answer.status.error_code == 0
    for name in ("a", "b"):  # a new model is available when the answer comes
        client.predict.Predict(predict_request(name, x=x(1)), timeout=SECONDS)
    client.models.HandleReloadConfigRequest(reload_request(b))
    code, _ = refusal(client.predict.Predict, predict_request("a", x=x(1)))
    assert code == Code.NOT_FOUND
    client.predict.Predict(predict_request("b", x=x(1)), timeout=SECONDS)
    code, details = refusal(
        client.models.HandleReloadConfigRequest, reload_request(b, b)
    )
    assert code == Code.INVALID_ARGUMENT
    assert details == "Illegal to list model b multiple times in config list"


def count_calls(monkeypatch, target, name):
    """A list with an entry for each call that has not returned yet."""
    running, call = [], getattr(target, name)

    def counted(*arguments):
        running.append(arguments)
        try:
            return call(*arguments)
        finally:
            running.pop()

    monkeypatch.setattr(target, name, counted)
    return running


def test_reloads_that_are_given_up_leave_nothing(start, tmp_path, monkeypatch):
    """Neither a thread that waits, nor a model once it could be loaded; not even one that
    has no folder yet.
    """
    models.write_tf2(tmp_path / "a" / "1")
    slow = models.write_tf2(tmp_path / "slow" / "1")
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(
        predict_request("slow", "slow", turns=np.int64(300_000))
    )
    models.write_warmup(slow, tf_record(log.SerializeToString()))
    server = start(
        model_name="a", model_base_path=str(tmp_path / "a"), reload_roots=str(tmp_path)
    )
    client = connect(server.address)
    entries = [
        {"name": name, "base_path": f"{tmp_path}/{name}"} for name in ("a", "slow")
    ]
    missing = {"name": "missing", "base_path": f"{tmp_path}/missing"}
    waiting = count_calls(monkeypatch, server.service.manager, "reload")
    calls = []
    for _ in range(20):
        calls += [
            client.models.HandleReloadConfigRequest.future(
                reload_request(*entries, *more), timeout=0.05
            )
            for more in ((), (missing,))
        ]
        time.sleep(0.01)
    assert [call.code() for call in calls].count(Code.OK) == 0
    cancelled = client.models.HandleReloadConfigRequest.future(reload_request(*entries))
    time.sleep(0.05)
    cancelled.cancel()
    processes.wait_for(lambda: not waiting)
    models.write_tf2(tmp_path / "missing" / "1")
    time.sleep(2.5)  # the folders are looked at every second
    assert server.service.manager.available().get("a") == [1]
    assert not server.service.manager.available().get("slow")
    assert not server.service.manager.available().get("missing")
    answer = client.models.HandleReloadConfigRequest(
        reload_request(*entries), timeout=SECONDS
    )
    assert answer.status.error_code == 0
    client.predict.Predict(predict_request("slow", x=x(1)), timeout=SECONDS)


@pytest.mark.parametrize(
    "path", ["/", "/etc", "{root}/..", "{root}/tf2/../../x", "gs://b"]
)
def test_reload_reaches_no_other_folder(client, model_root: Path, path: str):
    entry = {"name": "evil", "base_path": path.format(root=model_root / "tf2")}
    code, details = refusal(
        client.models.HandleReloadConfigRequest, reload_request(entry)
    )
    assert code == Code.PERMISSION_DENIED
    assert "--reload_roots" in details
    client.predict.Predict(predict_request("tf2", x=x(1)), timeout=SECONDS)


def test_reload_takes_nothing_but_a_list(client):
    code, details = refusal(
        client.models.HandleReloadConfigRequest,
        model_management_pb2.ReloadConfigRequest(),
    )
    assert code == Code.INVALID_ARGUMENT
    assert "Only ModelConfigList is currently supported" in details


def test_a_configuration_file_is_read_again(start, tmp_path):
    models.write_tf2(tmp_path / "m" / "1")
    models.write_tf2(tmp_path / "m" / "2", shift=5.0)
    config = model_server_config_pb2.ModelServerConfig()
    entry = config.model_config_list.config.add(
        name="m", base_path=str(tmp_path / "m"), model_platform="tensorflow"
    )
    entry.model_version_policy.specific.versions.append(1)
    file = tmp_path / "models.txt"
    file.write_text(str(config))
    server = start(model_config_file=str(file), model_config_file_poll_wait_seconds=1)
    client = connect(server.address)
    request = predict_request("m", x=x(0))
    assert client.predict.Predict(request).model_spec.version.value == 1
    entry.model_version_policy.specific.versions[:] = [2]
    file.write_text(str(config))
    until = time.monotonic() + SECONDS
    while client.predict.Predict(request).model_spec.version.value != 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    file.write_text("model_config_list { nonsense")  # keeps what it has
    time.sleep(1.2)
    assert client.predict.Predict(request).model_spec.version.value == 2


# Transport


def test_health(server, client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    code, text = refusal(stub.Check, health_pb2.HealthCheckRequest(service="no.Such"))
    assert (code, text) == (Code.NOT_FOUND, "unknown service no.Such")
    check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert refusal(check, b"\xff")[0] == Code.INVALID_ARGUMENT
    watch = stub.Watch(
        health_pb2.HealthCheckRequest(service="no.Such"), timeout=SECONDS
    )
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_watchers_of_the_health_are_told_of_the_stop_and_do_not_delay_it(
    start, model_root
):
    server = start(
        model_base_path=str(model_root / "tf1"), enable_grpc_healthcheck_service=True
    )
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=SECONDS
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        server.stop(SECONDS)
        assert time.monotonic() - began < SECONDS / 2
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() == Code.UNAVAILABLE


def test_models_that_run_for_long_hold_up_nothing_else(start, model_root):
    server = start(
        model_name="tf2",
        model_base_path=str(model_root / "tf2"),
        grpc_max_threads=1,
        enable_grpc_healthcheck_service=True,
    )
    client = connect(server.address)
    slow = predict_request("tf2", "slow", turns=np.int64(400_000))
    calls = [client.predict.Predict.future(slow, timeout=SECONDS) for _ in range(8)]
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "tf2"
    # More than there are threads that may run a model.
    for _ in range(20):
        health_pb2_grpc.HealthStub(client.channel).Check(
            health_pb2.HealthCheckRequest(), timeout=SECONDS
        )
        client.models.GetModelStatus(status, timeout=SECONDS)
    assert not all(call.done() for call in calls)
    for call in calls[4:]:
        call.cancel()  # those that wait are not run
    assert [int(tf.make_ndarray(c.result().outputs["count"])) for c in calls[:4]] == (
        [400_000] * 4
    )
    client.channel.close()


def test_requests_may_be_compressed(client):
    request = predict_request("tf2", x=x(*range(1000)))
    answer = client.predict.Predict(
        request, timeout=SECONDS, compression=grpc.Compression.Gzip
    )
    assert len(answer.outputs["y"].float_val) == 1000


def test_no_health_service_unless_asked_for(start, model_root):
    server = start(model_base_path=str(model_root / "tf1"))
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
    code, _ = refusal(stub.Check, health_pb2.HealthCheckRequest())
    assert code == Code.UNIMPLEMENTED


def test_unix_socket_alone(start, model_root, tmp_path):
    server = start(
        model_base_path=str(model_root / "tf1"), grpc_socket_path=str(tmp_path / "s")
    )
    assert server.address == ""
    client = connect(f"unix:{tmp_path}/s")
    client.predict.Predict(predict_request("default", x=[[1.0]]), timeout=SECONDS)


def test_message_limits_and_channel_arguments(start, model_root):
    server = start(
        model_base_path=str(model_root / "tf2"),
        grpc_channel_arguments="grpc.max_receive_message_length=2000,grpc.x=y",
    )
    client = connect(server.address)
    client.predict.Predict(predict_request("default", x=x(*range(100))))
    code, _ = refusal(
        client.predict.Predict, predict_request("default", x=x(*range(1000)))
    )
    assert code == Code.RESOURCE_EXHAUSTED


def authority() -> Any:
    """A certificate authority: issue(name) -> (key, certificate), as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(subject: str, key: Any, issuer: str, signer: Any, ca: bool) -> Any:
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(signer, hashes.SHA256())
        )

    def pem(thing: Any) -> bytes:
        if hasattr(thing, "public_bytes"):
            return thing.public_bytes(serialization.Encoding.PEM)
        return thing.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    root = ec.generate_private_key(ec.SECP256R1())

    def issue(subject: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        return pem(key), pem(certificate(subject, key, "root", root, False))

    return SimpleNamespace(
        certificate=pem(certificate("root", root, "root", root, True)), issue=issue
    )


def quoted(text: bytes) -> str:
    return '"' + text.decode().replace("\n", "\\n") + '"'


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(start, model_root, tmp_path, mutual: bool):
    ours, stranger = authority(), authority()
    key, certificate = ours.issue("server")
    config = tmp_path / "ssl.txt"
    config.write_text(
        f"server_key: {quoted(key)} server_cert: {quoted(certificate)} "
        f"custom_ca: {quoted(ours.certificate)} client_verify: {str(mutual).lower()}"
    )
    server = start(model_base_path=str(model_root / "tf1"), ssl_config_file=str(config))
    assert "TLS" in server.ready_line()
    request = predict_request("default", x=[[1.0]])

    def attempt(root: bytes, *identity: bytes) -> grpc.StatusCode:
        credentials = grpc.ssl_channel_credentials(root, *identity)
        client = connect(server.address, credentials)
        try:
            client.predict.Predict(request, timeout=10)
        except grpc.RpcError as error:
            return error.code()
        finally:
            client.channel.close()
        return Code.OK

    known = attempt(ours.certificate, *ours.issue("client"))
    assert known == Code.OK
    anonymous = attempt(ours.certificate)
    assert anonymous == (Code.UNAVAILABLE if mutual else Code.OK)
    assert attempt(stranger.certificate) == Code.UNAVAILABLE  # not the server expected
    if mutual:
        foreign = attempt(ours.certificate, *stranger.issue("client"))
        assert foreign == Code.UNAVAILABLE
    plain = refusal(connect(server.address).predict.Predict, request)
    assert plain[0] == Code.UNAVAILABLE


def test_passed_deadlines_and_cancelled_calls_do_no_work(server):
    request = predict_request("tf2", x=x(1))
    with pytest.raises(ServingError) as caught:
        call = Call(deadline=time.monotonic() - 1)
        server.service.predict(request, call)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    with pytest.raises(ServingError) as caught:
        server.service.predict(request, Call(cancelled=lambda: True))
    assert caught.value.code == Code.CANCELLED


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("/tensorflow.serving.PredictionService/Predict", "PredictRequest"),
        ("/tensorflow.serving.ModelService/GetModelStatus", "GetModelStatusRequest"),
        ("/grpc.health.v1.Health/Check", "HealthCheckRequest"),
        ("/grpc.health.v1.Health/Watch", "HealthCheckRequest"),
        ("/tensorflow.ProfilerService/Profile", "ProfileRequest"),
    ],
)
def test_what_is_no_protobuf_is_said_to_be_none(client, method, kind):
    call = client.channel.unary_unary(method)
    assert refusal(call, b"\xff\xff") == (
        Code.INVALID_ARGUMENT, f"The request is not a {kind}",
    )  # fmt: skip


def test_profiler_answers_with_a_trace(server, client):
    profile = client.channel.unary_unary("/tensorflow.ProfilerService/Profile")
    request = b"\x08\xac\x02"  # duration_ms: 300
    with futures.ThreadPoolExecutor(1) as pool:
        traced = pool.submit(profile, request, timeout=SECONDS)
        until = time.monotonic() + SECONDS
        while not traced.done() and time.monotonic() < until:
            client.predict.Predict(predict_request("tf2", x=x(1)))
        answer = traced.result()
    response = profiler._MESSAGES["ProfileResponse"].FromString(answer)
    trace = xplane_pb2.XSpace.FromString(response.xspace)
    assert any(plane.lines for plane in trace.planes)
    code, _ = refusal(profile, b"")
    assert code == Code.INVALID_ARGUMENT


# Batching and warm-up


def test_batches_give_everybody_his_own_rows(start, model_root, tmp_path):
    parameters = tmp_path / "batching.txt"
    parameters.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 20000 } "
        "num_batch_threads { value: 2 } max_enqueued_batches { value: 100 }"
    )
    server = start(
        model_base_path=str(model_root / "tf2"),
        enable_batching=True,
        batching_parameters_file=str(parameters),
    )
    client = connect(server.address)

    def ask(number: int) -> None:
        values = x(*range(number, number + 1 + number % 3))
        request = predict_request("default", x=values)
        if number % 2:
            request.output_filter.append("y")
        answer = client.predict.Predict(request, timeout=SECONDS)
        np.testing.assert_array_equal(
            tf.make_ndarray(answer.outputs["y"]), values / 2 + 3
        )

    with futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(200)))
    answer = client.predict.Predict(predict_request("default", x=x()), timeout=SECONDS)
    assert tf.make_ndarray(answer.outputs["y"]).shape == (0,)
    code, _ = refusal(
        client.predict.Predict, predict_request("default", x=x(*range(9)))
    )
    assert code == Code.INVALID_ARGUMENT


def test_warm_up_runs_before_a_version_is_served(start, tmp_path):
    logs = [prediction_log_pb2.PredictionLog() for _ in range(4)]
    logs[0].predict_log.request.CopyFrom(predict_request("any", x=x(1)))
    logs[1].regress_log.request.CopyFrom(
        examples_request(regression_pb2.RegressionRequest, "any", "regress", 1)
    )
    logs[2].classify_log.request.CopyFrom(
        examples_request(classification_pb2.ClassificationRequest, "", "classify", 1)
    )
    logs[3].predict_log.request.CopyFrom(predict_request("any", x=x(1, 2)))
    models.write_warmup(
        models.write_tf2(tmp_path / "m" / "1"),
        b"".join(tf_record(log.SerializeToString()) for log in logs),
    )
    server = start(model_base_path=str(tmp_path / "m"))
    client = connect(server.address)
    client.predict.Predict(predict_request("default", x=x(1)), timeout=SECONDS)


def test_a_version_whose_warm_up_fails_is_not_served(start, tmp_path):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("any", wrong=x(1)))
    models.write_warmup(
        models.write_tf2(tmp_path / "m" / "1"), tf_record(log.SerializeToString())
    )
    with pytest.raises(application.StartError, match="did not become available.*wrong"):
        start(model_base_path=str(tmp_path / "m"), max_num_load_retries=0)
    start(model_base_path=str(tmp_path / "m"), enable_model_warmup=False)


# What RunSavedModelWarmup (tensorflow/serving b6b8cca, servables/tensorflow/
# saved_model_warmup_util.cc) and RecordReader (tensorflow/core/lib/io/record_reader.cc)
# make of a warm-up file, and RunWarmupRequest (saved_model_warmup.cc) of a record.
WARM_UPS: dict[str, tuple[Callable[[bytes], bytes], grpc.StatusCode, str]] = {
    "3": (lambda good: good * 1001, Code.INVALID_ARGUMENT,
          "Number of warmup records exceeds the maximum (1000)"),
    "4": (lambda good: good * 2 + good[:-1], Code.DATA_LOSS,
          ". Please verify your warmup data is in TFRecord format."),
    "5": (lambda good: good + good[:11], Code.OK, ""),  # it ends there
    "6": (lambda _: b"8 bytes.", Code.OK, ""),
    "7": (lambda _: b"this is no TFRecord file", Code.DATA_LOSS, "corrupted record at 0"),
    "8": (lambda good: good[:-6] + bytes([good[-6] ^ 1]) + good[-5:], Code.DATA_LOSS,
          "failed: corrupted record at 12. Please verify your warmup data"),
    "9": (lambda _: b"", Code.OK, ""),
    "10": (lambda _: tf_record(b"\xff"), Code.INVALID_ARGUMENT,
           "Failed to parse warmup record"),
    "11": (lambda _: tf_record(b""), Code.OK, ""),  # of no kind
    "12": (lambda _: tf_record(
        prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()
    ), Code.UNIMPLEMENTED, "Unsupported log_type for warmup: 5"),
}  # fmt: skip


def tf_record(data: bytes) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            writer.write(data)
        return file.read()


def test_status_says_why_a_version_cannot_be_loaded(start, tmp_path):
    models.write_tf2(tmp_path / "m" / "1")
    for number in ("2", *WARM_UPS):
        shutil.copytree(tmp_path / "m" / "1", tmp_path / "m" / number)
    (tmp_path / "m" / "2" / "saved_model.pb").write_bytes(b"garbage")
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("any", x=x(1)))
    record = tf_record(log.SerializeToString())
    for number, (make, _, _) in WARM_UPS.items():
        models.write_warmup(tmp_path / "m" / number, make(record))
    config = tmp_path / "models.txt"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path}/m" '
        'model_platform: "tensorflow" model_version_policy { all {} } } }'
    )
    server = start(model_config_file=str(config), max_num_load_retries=0)
    client = connect(server.address)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"

    def found() -> dict[int, tuple[int, str]]:
        answer = client.models.GetModelStatus(request, timeout=SECONDS)
        return {
            s.version: (s.status.error_code, s.status.error_message)
            for s in answer.model_version_status
            if s.state in (s.AVAILABLE, s.END)
        }

    processes.wait_for(lambda: len(found()) == 2 + len(WARM_UPS))
    assert found()[1] == (0, "")
    path = tmp_path / "m" / "2" / "saved_model.pb"
    assert found()[2] == (
        Code.DATA_LOSS.value[0], f"Can't parse {path} as binary proto",
    )  # fmt: skip
    for number, (_, code, text) in WARM_UPS.items():
        got, message = found()[int(number)]
        assert (got, text in message) == (code.value[0], True), (number, got, message)


def test_no_request_fails_while_versions_change(start, tmp_path):
    base = tmp_path / "m"
    models.write_tf2(base / "1", shift=1.0)
    server = start(model_base_path=str(base), file_system_poll_wait_seconds=1)
    client = connect(server.address)
    seen: dict[int, int] = {}
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = client.predict.Predict(
                    predict_request("default", x=x(0)), timeout=SECONDS
                )
                version = answer.model_spec.version.value
                assert list(answer.outputs["y"].float_val) == [float(version)]
                seen[version] = seen.get(version, 0) + 1
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in (2, 3, 4):
        models.write_tf2(tmp_path / "new", shift=float(version))
        (tmp_path / "new").rename(base / str(version))
        until = time.monotonic() + SECONDS
        while version not in seen and not failures:
            assert time.monotonic() < until
            time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(seen) == {1, 2, 3, 4}


# Keras


def test_keras_layers_in_a_module_are_served_with_a_warning(start, tmp_path, caplog):
    import keras

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)
            self.dense.build((None, 3))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def serve(self, x):
            return {"y": self.dense(x)}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures=module.serve)
    server = start(model_base_path=str(tmp_path / "m"))
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    client = connect(server.address)
    answer = client.predict.Predict(predict_request("default", x=values))
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["y"]), module.serve(values)["y"], rtol=1e-5
    )
    assert "tensorflow_model_server cannot serve this SavedModel" in caplog.text


# Starting


def test_a_key_of_another_certificate_is_suspected(start, model_root, tmp_path):
    (_, certificate), (key, _) = (authority().issue("server") for _ in "12")
    config = tmp_path / "ssl.txt"
    config.write_text(f"server_key: {quoted(key)} server_cert: {quoted(certificate)}")
    base = str(model_root / "tf1")
    with pytest.raises(application.StartError, match="--ssl_config_file fit"):
        start(model_base_path=base, ssl_config_file=str(config))


def test_reasons_for_not_starting_are_sentences(start, tmp_path, model_root, server):
    (tmp_path / "empty").mkdir()
    base = str(model_root / "tf1")
    bad = tmp_path / "bad.txt"
    bad.write_text('server_key: "-----BEGIN SECRET" oops')
    for flags, text in (
        ({"model_config_file": "/nowhere"}, "/nowhere cannot be read"),
        ({"model_config_file": str(bad)}, "Invalid protobuf file: '"),
        ({"model_base_path": base, "ssl_config_file": str(bad)}, "SSLConfig: 1:33"),
        (
            {
                "model_base_path": str(tmp_path / "empty"),
                "file_system_poll_wait_seconds": 0,
            },
            "has no versions",
        ),
        ({"model_base_path": base, "port": server.port}, "cannot listen on"),
        (
            {"model_base_path": base, "grpc_socket_path": "/nowhere/s"},
            "--grpc_socket_path=/nowhere/s: there is no folder /nowhere",
        ),
        ({"model_base_path": base, "bind_address": "203.0.113.1"}, "cannot listen on"),
    ):
        with pytest.raises(application.StartError) as caught:
            application.start(Flags(**{"port": 0, **flags}))
        assert text in str(caught.value)
        assert "SECRET" not in str(caught.value)
