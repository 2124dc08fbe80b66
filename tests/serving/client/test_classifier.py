"""The blocking client against the official stubs over gRPC."""

from __future__ import annotations

import io
import socket
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.client import (
    TLS,
    Cancelled,
    Classifier,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidInput,
    InvalidResponse,
    NotFound,
    Overloaded,
    PermissionRefused,
    Prediction,
    Retry,
    ServerFault,
    ServingError,
    Timeouts,
    Unavailable,
    Unsupported,
    over_grpc,
)
from serving.client.configured import Patience
from serving.client.results import VersionStatus
from tests.serving.client.official import (
    CLASSES,
    Backend,
    damaged,
    expected_label,
    expected_probabilities,
    random_images,
    start_server,
    write_png,
)

pytestmark = pytest.mark.tf

IMAGES = random_images(300)
QUICK = Retry(attempts=4, first_wait=0.01, longest_wait=0.02)


@pytest.fixture
def classifier(backend: Backend):
    with Classifier(backend.address, retry=QUICK) as made:
        yield made


def refused_port() -> int:
    """A port on which nobody listens: bound, and not listening, until the end."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    _KEPT.append(taken)
    return taken.getsockname()[1]


_KEPT: list[socket.socket] = []


def check(results: list, images: np.ndarray, version: int = 7) -> None:
    assert len(results) == len(images)
    expected = expected_probabilities(images)
    for result, image, row in zip(results, images, expected, strict=True):
        assert isinstance(result, Prediction)
        assert result.label == expected_label(image)
        assert result.class_name == CLASSES[result.label]
        assert result.probabilities.dtype == np.float32
        assert result.probabilities.tobytes() == row.tobytes()
        assert result.model_version == version
        assert result.probability == pytest.approx(0.91)


@pytest.mark.parametrize("count", [1, 3, 128, 129, 300])
def test_arrays_are_answered_in_order_in_batches(backend, classifier, count):
    check(classifier.classify(IMAGES[:count]), IMAGES[:count])
    assert sum(backend.batch_sizes) == count
    assert max(backend.batch_sizes) <= 128
    assert len(backend.batch_sizes) == -(-count // 128)


def test_one_image_gives_a_list_of_one(classifier):
    check(classifier.classify(IMAGES[0]), IMAGES[:1])


def test_every_kind_of_image_mixed(backend, classifier, tmp_path: Path):
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[3]).save(buffer, "png")
    mixed = [
        IMAGES[0],
        Image.fromarray(IMAGES[1]),
        str(write_png(tmp_path / "a.png", IMAGES[2])),
        buffer.getvalue(),
        write_png(tmp_path / "b.png", IMAGES[4]),
    ]
    check(classifier.classify(mixed), IMAGES[:5])
    assert sorted(backend.signatures) == ["encoded_images", "serving_default"]


def test_values_one_by_one_are_read_as_well(backend, classifier):
    backend.as_content = False
    check(classifier.classify(IMAGES[:5]), IMAGES[:5])


def test_nothing_asks_nothing(backend, classifier):
    assert classifier.classify([]) == []
    assert backend.calls == 0


def test_at_most_in_flight_requests_at_a_time(backend):
    backend.delay_seconds = 0.05
    with Classifier(backend.address, batch_size=10, in_flight=3) as classifier:
        check(classifier.classify(IMAGES), IMAGES)
    assert backend.most_busy == 3


def test_streams_hold_a_bounded_number_of_images(backend):
    taken = 0

    def source():
        nonlocal taken
        for image in IMAGES:
            taken += 1
            yield image

    with Classifier(backend.address, batch_size=10, in_flight=2) as classifier:
        stream = classifier.stream(source())
        assert taken == 0
        first = next(stream)
        assert taken <= 30
        check([first, *stream], IMAGES)


def test_abandoned_streams_stop_asking(backend):
    with Classifier(backend.address, batch_size=1, in_flight=2) as classifier:
        stream = classifier.stream(IMAGES)
        next(stream)
        stream.close()
        time.sleep(0.1)
        asked = backend.calls
        time.sleep(0.1)
        assert backend.calls == asked <= 4


def test_bad_images_are_raised_with_their_place(classifier):
    with pytest.raises(InvalidInput, match=r"missing\.png: No such file") as caught:
        classifier.classify([IMAGES[0], "missing.png"])
    assert caught.value.__notes__ == ["image 1 of the call, from 0"]


def test_bad_images_can_be_returned_instead(backend, tmp_path: Path):
    good = [write_png(tmp_path / f"{i}.png", IMAGES[i]) for i in range(20)]
    bad = damaged(good[0].read_bytes())
    mixed: list = list(good)
    mixed[3], mixed[11], mixed[12], mixed[19] = bad, bad, "missing.png", b"text"
    with Classifier(backend.address, batch_size=8) as classifier:
        results = classifier.classify(mixed, return_errors=True)
    for place, result in enumerate(results):
        if place in (3, 11, 12, 19):
            assert isinstance(result, InvalidInput)
        else:
            check([result], IMAGES[place : place + 1])
    assert "Invalid PNG" in str(results[3])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInput),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionRefused),
        (grpc.StatusCode.UNAUTHENTICATED, PermissionRefused),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, Unsupported),
        (grpc.StatusCode.INTERNAL, ServerFault),
        (grpc.StatusCode.ABORTED, ServerFault),
        (grpc.StatusCode.UNKNOWN, ServerFault),
    ],
)
def test_errors_have_types_and_are_not_repeated(backend, classifier, code, kind):
    backend.failures = [(code, "because")]
    with pytest.raises(kind) as caught:
        classifier.classify(IMAGES[0])
    assert caught.value.code == code.name
    assert caught.value.address == backend.address
    assert backend.calls == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_passing_failures_are_repeated(backend, classifier, code):
    backend.failures = [(grpc.StatusCode[code], "busy")] * 3
    check(classifier.classify(IMAGES[:2]), IMAGES[:2])
    assert backend.calls == 4


def test_a_call_that_a_stopping_server_cancels_is_repeated(backend, classifier):
    """Servers do so with what reaches them on a connection that they are closing."""
    backend.failures = [(grpc.StatusCode.CANCELLED, "")] * 2
    check(classifier.classify(IMAGES[:2]), IMAGES[:2])
    assert backend.calls == 3
    backend.failures = [(grpc.StatusCode.CANCELLED, "")] * 9
    with pytest.raises(Unavailable, match=f"no answer from {backend.address}"):
        classifier.classify(IMAGES[0])


@pytest.mark.parametrize("return_errors", [True, False])
def test_a_request_refused_for_itself_is_not_taken_apart(
    backend, tmp_path, return_errors
):
    paths = [write_png(tmp_path / f"{i}.png", IMAGES[i]) for i in range(9)]
    backend.failures = [(grpc.StatusCode.INVALID_ARGUMENT, "not today")] * 99
    with (
        Classifier(backend.address) as classifier,
        pytest.raises(InvalidInput, match="^not today"),
    ):
        classifier.classify(paths, return_errors=return_errors)
    assert backend.calls == 2  # the request, and a good image alone


def test_a_label_that_the_server_does_not_know_is_refused_before_images(backend):
    with (
        Classifier(backend.address, version_label="nope") as classifier,
        pytest.raises(InvalidInput, match="^Unrecognized servable version label: nope"),
    ):
        classifier.classify(IMAGES[0], return_errors=True)
    assert backend.calls == 0


def test_the_model_says_what_images_it_takes(backend, classifier):
    assert classifier.image_shape() == (32, 32, 3)
    backend.image_shape = (8, 8, 1)  # another model now, of which nobody told
    assert classifier.image_shape() == (32, 32, 3)
    with pytest.raises(InvalidInput, match="wrong images"):
        classifier.classify(IMAGES[0])
    grey = IMAGES[:5, :8, :8, :1]
    check(classifier.classify(grey), grey)
    with Classifier(backend.address, resize=True) as resizing:
        (found,) = resizing.classify(np.full((32, 32, 3), 7, np.uint8))
    assert found.label == 8 * 8 * 7 % 10


@pytest.mark.parametrize("shape", [None, (None, 32, 3), (32, 32), (32, 32, 4)])
def test_a_model_without_images_of_one_shape_is_said(backend, classifier, shape):
    backend.image_shape = shape
    with pytest.raises(InvalidResponse, match="images of one shape.*use predict"):
        classifier.classify(IMAGES[0])
    assert backend.calls == 0


def test_one_bad_file_among_many_is_named(backend, classifier, tmp_path):
    paths = [write_png(tmp_path / f"{i}.png", IMAGES[i]) for i in range(9)]
    for bad in (3, 6):
        paths[bad].write_bytes(damaged(paths[bad].read_bytes()))
    refused = "3.png: the server refuses it: Invalid PNG data"
    with pytest.raises(InvalidInput, match=refused) as caught:
        classifier.classify(paths)
    assert caught.value.__notes__ == ["image 3 of the call, from 0"]
    found = classifier.classify(paths, return_errors=True)
    assert [i for i, r in enumerate(found) if isinstance(r, InvalidInput)] == [3, 6]
    check(found[:3], IMAGES[:3])


def test_arrays_of_paths_are_lists_of_them(backend, classifier, tmp_path):
    paths = [str(write_png(tmp_path / f"{i}.png", IMAGES[i])) for i in range(3)]
    check(classifier.classify(np.array(paths)), IMAGES[:3])

    async def images():
        yield IMAGES[0]

    with pytest.raises(InvalidInput, match="asynchronous iterator"):
        classifier.classify(images())


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("a\0", b"a\0"),
        (["a\0", b"b\0"], [b"a\0", b"b\0"]),
        ([["é", "b"], ["c\0", ""]], [["é".encode(), b"b"], [b"c\0", b""]]),
        (np.array(["a", "bc"], dtype="T"), [b"a", b"bc"]),
    ],
)
def test_strings_keep_every_byte(backend, classifier, sent, received):
    found = classifier.predict({"x": sent}, signature_name="echo")["x"]
    assert found.tolist() == received


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, "a"], "int inside"),
        (["a", 1], "int inside"),
        (np.ma.array([1, 2], mask=[0, 1]), "masked"),
    ],
)
def test_values_that_would_change_on_the_way_are_refused(classifier, value, words):
    with pytest.raises(InvalidInput, match=words):
        classifier.predict({"x": value}, signature_name="echo")


@pytest.mark.parametrize("seconds", [1e10, 1e30])
def test_any_long_time_is_waited(backend, seconds):
    timeouts = Timeouts(request=seconds, connect=seconds)
    with Classifier(backend.address, timeouts=timeouts) as classifier:
        check(classifier.classify(IMAGES[:2]), IMAGES[:2])


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost:1", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("dns:localhost:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("unix:/run/s", True),
        ("localhost.example.com:1", False),
        ("127.example.com:1", False),
        ("dns:///models:1", False),
    ],
)
def test_proxies_are_not_for_this_machine(address, local):
    config = Classifier(address)._config
    assert (("grpc.enable_http_proxy", 0) in over_grpc._options(config)) == local


def test_repetitions_end(backend, classifier):
    backend.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")] * 9
    with pytest.raises(Overloaded, match="busy") as caught:
        classifier.classify(IMAGES[0])
    assert backend.calls == QUICK.attempts
    assert caught.value.__notes__ == ["given up after 4 attempts"]


def test_nothing_is_repeated_after_the_deadline(backend):
    backend.failures = [(grpc.StatusCode.UNAVAILABLE, "away")] * 99
    slow = Retry(attempts=99, first_wait=10, longest_wait=10)
    with Classifier(backend.address, retry=slow) as classifier:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            classifier.classify(IMAGES[0], deadline_seconds=1.0)
    assert backend.calls == 1
    assert time.monotonic() - began < 5  # it did not wait for 10 s, only to be too late


def test_deadline_of_a_call_spans_all_its_batches(backend):
    backend.delay_seconds = 0.2
    with Classifier(backend.address, batch_size=1, in_flight=1) as classifier:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            classifier.classify(IMAGES[:100], deadline_seconds=0.5)
    assert time.monotonic() - began < 10  # 20 s without a deadline


def test_deadline_of_a_request(backend):
    backend.delay_seconds = 30.0
    timeouts = Timeouts(request=1.0)
    with (
        Classifier(backend.address, timeouts=timeouts) as classifier,
        pytest.raises(TimeoutError, match="in time"),
    ):
        classifier.classify(IMAGES[0])
    assert backend.calls == 1


def test_nobody_there(backend):
    port = refused_port()
    with (
        Classifier(f"127.0.0.1:{port}", retry=QUICK) as classifier,
        pytest.raises(ConnectionError, match=f"127.0.0.1:{port} .Connection refused"),
    ):
        classifier.status()


def test_a_server_that_comes_later_is_waited_for(tmp_path: Path):
    path = tmp_path / "s"
    found: list = []

    def wait() -> None:
        with Classifier(f"unix:{path}") as classifier:
            found.append(classifier.wait_until_ready(30))
            found.append(classifier.classify(IMAGES[0])[0].label)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    server, _ = start_server(path)
    thread.join(30)
    server.stop(None)
    assert found[0].version == 7
    assert found[1] == expected_label(IMAGES[0])


def test_waiting_for_readiness_gives_up_with_the_reason(backend, classifier):
    backend.statuses = [(8, 50, 13, "no variables"), (7, 20, 0, "")]
    with pytest.raises(
        DeadlineExceeded, match="version 8 is END no variables; version 7"
    ):
        classifier.wait_until_ready(0.2)
    backend.statuses = [(8, 50, 13, "no variables"), (7, 30, 0, "")]
    assert classifier.wait_until_ready(0.2).version == 7
    with (
        Classifier(backend.address, model="other") as other,
        pytest.raises(DeadlineExceeded, match="Servable not found"),
    ):
        other.wait_until_ready(0.2)


def test_the_version_of_the_label_is_waited_for(backend):
    """The server names all versions to any label, as TensorFlow Serving does."""
    backend.labels = {"stable": 7, "canary": 9}
    backend.statuses = [(9, 20, 0, ""), (8, 30, 0, ""), (7, 30, 0, "")]
    with Classifier(backend.address, version_label="stable") as classifier:
        assert classifier.wait_until_ready(5).version == 7
    with (
        Classifier(backend.address, version_label="canary") as classifier,
        pytest.raises(DeadlineExceeded, match="version 9 is LOADING"),
    ):
        classifier.wait_until_ready(0.2)
    with (
        Classifier(backend.address, version_label="nope") as classifier,
        pytest.raises(InvalidInput, match="^Unrecognized servable version label: nope"),
    ):
        classifier.wait_until_ready(5)


def test_a_last_question_cut_short_hides_no_reason(classifier):
    patience = Patience(classifier._config, 0.2)
    patience.seconds_left()
    assert patience.ready([VersionStatus(8, "END", "INTERNAL", "no variables")]) is None
    patience.seconds_left()
    patience.failed(DeadlineExceeded("no answer in time"))
    with pytest.raises(DeadlineExceeded, match="version 8 is END no variables"):
        while True:
            time.sleep(patience.wait())


def test_versions_and_labels_are_chosen(backend):
    with Classifier(backend.address, version=7) as classifier:
        check(classifier.classify(IMAGES[:1]), IMAGES[:1])
    with (
        Classifier(backend.address, version=8) as classifier,
        pytest.raises(NotFound, match="Specific"),
    ):
        classifier.classify(IMAGES[:1])
    backend.labels = {"stable": 7, "canary": 9}
    with Classifier(backend.address, version_label="canary") as classifier:
        check(classifier.classify(IMAGES[:1]), IMAGES[:1], version=9)


def test_status_and_metadata(backend, classifier):
    backend.statuses = [(3, 50, 5, "gone"), (9, 30, 0, "")]
    first, second = classifier.status()
    assert (first.version, first.state, first.error_code) == (9, "AVAILABLE", "OK")
    assert (second.state, second.error_code, second.error_message) == (
        "END", "NOT_FOUND", "gone",
    )  # fmt: skip
    metadata = classifier.metadata()
    assert (metadata.model, metadata.version) == ("cifar", 7)
    signature = metadata.signatures["serving_default"]
    assert signature.method == "tensorflow/serving/predict"
    assert signature.inputs["images"].dtype == "UINT8"
    assert signature.inputs["images"].shape == (None, 32, 32, 3)
    assert signature.outputs["label"].shape is None


def test_predict_sends_and_returns_any_arrays(backend, classifier):
    sent = {
        "a": np.arange(6, dtype=np.int16).reshape(2, 3),
        "b": np.float64(2.5),
        "c": np.array([["x", "é"]]),
        "d": [b"\0\1", b""],
        "e": np.zeros((0, 4), np.float32),
        "f": [True, False],
    }
    found = classifier.predict(sent, signature_name="echo")
    assert set(found) == set(sent)
    np.testing.assert_array_equal(found["a"], sent["a"])
    assert found["a"].dtype == np.int16
    assert found["b"].shape == () and found["b"] == 2.5
    assert found["c"].tolist() == [[b"x", "é".encode()]]
    assert found["d"].tolist() == [b"\0\1", b""]
    assert found["e"].shape == (0, 4)
    assert found["f"].tolist() == [True, False]
    only = classifier.predict(sent, signature_name="echo", output_filter=["b"])
    assert set(only) == {"b"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": {}}, "dictionary"),
        ({"inputs": IMAGES}, "dictionary"),
        ({"inputs": {1: IMAGES}}, "1 is no input's name"),
        ({"inputs": {"x": [[1], [1, 2]]}}, "input x"),
        ({"inputs": {"x": np.array(["2020-01-01"], "M8[D]")}}, "no dtype datetime64"),
        ({"inputs": {"x": object()}}, "object inside"),
        ({"inputs": {"x": [1, "a", None]}}, "input x"),
        ({"inputs": {"x": "\udc80"}}, "not Unicode"),
        ({"inputs": {"x": 1}, "output_filter": "label"}, "list"),
        ({"inputs": {"x": 1}, "signature_name": "none"}, "not found in signature def"),
        ({"inputs": {"x": 1}, "deadline_seconds": 0}, "deadline_seconds=0"),
    ],
)
def test_predict_refuses_what_cannot_be_sent(backend, classifier, arguments, words):
    with pytest.raises(InvalidInput, match=words):
        classifier.predict(**arguments)


def test_metadata_travels_with_each_call(backend):
    metadata = {"Authorization": "Bearer s3cr3t", "trace-bin": b"\0\xff"}
    with Classifier(backend.address, metadata=metadata) as classifier:
        classifier.classify(IMAGES[0])
    (seen,) = backend.metadata
    assert seen["authorization"] == "Bearer s3cr3t"
    assert seen["trace-bin"] == b"\0\xff"


def test_one_client_serves_many_threads(backend, classifier):
    failures = []

    def work(seed: int) -> None:
        images = random_images(40, seed)
        try:
            for _ in range(5):
                check(classifier.classify(images), images)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_closing_ends_calls_under_way(backend):
    backend.delay_seconds = 3.0
    classifier = Classifier(backend.address, batch_size=1)
    found: list = []

    def work() -> None:
        try:
            classifier.classify(IMAGES)
        except ServingError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not backend.calls:
        time.sleep(0.01)
    classifier.close()
    thread.join(2.5)
    assert not thread.is_alive()
    assert isinstance(found[0], Cancelled)
    with pytest.raises(Cancelled, match="closed"):
        classifier.classify(IMAGES[0])
    classifier.close()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_answers_of_another_length_are_refused(backend, classifier, count, monkeypatch):
    """The server answers for another number of images than it was asked about."""
    from tests.serving.client import official

    def wrong(images):
        return np.full((count, 10), 0.1, np.float32)

    monkeypatch.setattr(official, "expected_probabilities", wrong)
    with pytest.raises(InvalidResponse, match="for 2 images"):
        classifier.classify(IMAGES[:2])


def test_servers_that_answer_nonsense_are_refused():
    def nonsense(request, context):
        return b"\xff\xff\xff"

    handler = grpc.unary_unary_rpc_method_handler(nonsense)
    names = {"Predict": handler, "GetModelMetadata": handler}
    server = grpc.server(__import__("concurrent.futures").futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.PredictionService", names
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            Classifier(f"127.0.0.1:{port}") as classifier,
            pytest.raises(InvalidResponse, match="does not answer in"),
        ):
            classifier.classify(IMAGES[0])
            with pytest.raises(InvalidResponse):
                classifier.metadata()
            with pytest.raises(Unsupported):
                classifier.status()
    finally:
        server.stop(None)


def test_tls_and_mutual_tls(tmp_path: Path, certificates):
    own = [(certificates.key.read_bytes(), certificates.certificate.read_bytes())]
    credentials = grpc.ssl_server_credentials(
        own, certificates.ca.read_bytes(), require_client_auth=True
    )
    server, backend = start_server(tmp_path / "s", credentials)
    address = f"grpcs://{backend.address}"
    ours = {"certificate": certificates.certificate, "key": certificates.key}
    try:
        tls = TLS(ca=certificates.ca, server_name="model.test", **ours)
        with Classifier(address, tls=tls) as classifier:
            check(classifier.classify(IMAGES[:2]), IMAGES[:2])
        for refused in (
            TLS(ca=certificates.ca, server_name="model.test"),  # no certificate of ours
            TLS(ca=certificates.ca, server_name="other.test", **ours),
            TLS(server_name="model.test", **ours),  # an authority that nobody knows
        ):
            once = Retry(attempts=1)
            with (
                Classifier(address, tls=refused, retry=once) as classifier,
                pytest.raises(Unavailable),
            ):
                classifier.classify(IMAGES[0])
    finally:
        server.stop(None)


def test_connecting_has_a_time_of_its_own():
    """A listener that never says anything: gRPC alone would wait for 20 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        timeouts = Timeouts(connect=0.2, request=15)
        once = Retry(attempts=1)
        began = time.monotonic()
        with (
            Classifier(address, timeouts=timeouts, retry=once) as classifier,
            pytest.raises(Unavailable, match="says nothing"),
        ):
            classifier.status()
        assert time.monotonic() - began < 10
