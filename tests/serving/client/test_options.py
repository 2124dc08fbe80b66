"""Choices are values that are checked when they are made and never show a secret."""

from __future__ import annotations

import pickle

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client import TLS, AsyncClassifier, Classifier, Retry, Timeouts, errors
from serving.client.errors import InvalidInput, ServingError, from_status
from serving.client.options import parse_address, parse_metadata

SECRET = "Bearer s3cr3t"


@pytest.mark.parametrize(
    ("text", "transport", "target", "secure"),
    [
        ("localhost:8500", "grpc", "localhost:8500", False),
        ("[::1]:8500", "grpc", "[::1]:8500", False),
        ("grpc://host:1", "grpc", "host:1", False),
        ("grpcs://host:1", "grpc", "host:1", True),
        ("unix:/run/model.sock", "grpc", "unix:/run/model.sock", False),
        ("unix:///run/model.sock", "grpc", "unix:///run/model.sock", False),
        ("dns:///name:8500", "grpc", "dns:///name:8500", False),
        ("http://host:8501", "rest", "http://host:8501", False),
        ("http://host", "rest", "http://host", False),
        ("HTTPS://host:1/prefix/", "rest", "https://host:1/prefix", True),
        ("http://[::1]:8501", "rest", "http://[::1]:8501", False),
    ],
)
def test_addresses(text, transport, target, secure):
    address = parse_address(text)
    assert (address.transport, address.target) == (transport, target)
    assert address.secure is secure
    assert address.text == text


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "localhost:", ":8500", "host:99999", "host:port", "::1:8500",
     "ftp://host:1", "http://", "http://host:x", "http://host:1/?a=b", "unix:", "unix:///",
     "a b:1", "host:1\n", "http://[::1", "user:hunter2@host:1", "http://u:p@host:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(InvalidInput) as caught:
        parse_address(text)
    assert "hunter2" not in str(caught.value) and "u:p" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_an_invalid_input(text):
    try:
        address = parse_address(text)
    except InvalidInput:
        return
    assert address.target


@pytest.mark.parametrize("client", [Classifier, AsyncClassifier])
def test_no_secret_is_shown(client):
    made = client("localhost:8500", metadata={"Authorization": SECRET}, version=3)
    shown = f"{made!r} {made!s} {made._config!r}"
    assert "s3cr3t" not in shown
    assert "'authorization': '***'" in repr(made)
    assert "version=3" in repr(made)


@pytest.mark.parametrize(
    "metadata",
    [{"a b": SECRET}, {"": SECRET}, {"grpc-x": SECRET}, {"key": SECRET + "\r\nx: y"},
     {"key": SECRET.encode()}, {"key-bin": SECRET}, {"ключ": SECRET}, {"k": SECRET + "é"}],
)  # fmt: skip
def test_unusable_metadata_is_refused_without_its_value(metadata):
    with pytest.raises(InvalidInput) as caught:
        parse_metadata(metadata)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "model="),
        ({"version": 1, "version_label": "stable"}, "exclude"),
        ({"version": -1}, "version=-1"),
        ({"version": 2**63}, "version="),
        ({"version_label": ""}, "version_label"),
        ({"version_label": 3}, "version_label=3"),
        ({"model": b"cifar"}, "model="),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {1: "a"}}, "metadata"),
        ({"batch_size": 0}, "batch_size=0 must be 1 to"),
        ({"batch_size": True}, "batch_size=True"),
        ({"in_flight": 2.5}, "in_flight=2.5"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused(options, words):
    with pytest.raises(InvalidInput, match=words):
        Classifier("localhost:8500", **options)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "3", True])
def test_seconds_are_positive_numbers(value):
    for make in (
        lambda: Timeouts(request=value),
        lambda: Timeouts(connect=value),
        lambda: Retry(first_wait=value),
    ):
        with pytest.raises(InvalidInput, match="seconds above 0"):
            make()


def test_waits_grow_with_jitter_up_to_the_longest():
    retry = Retry(first_wait=0.1, longest_wait=1.0)
    for failures, full in ((1, 0.1), (2, 0.2), (4, 0.8), (5, 1.0), (10_000, 1.0)):
        waits = {retry.wait(failures) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 10


def test_certificate_and_key_belong_together(tmp_path):
    with pytest.raises(InvalidInput, match="together"):
        TLS(certificate="a.pem")
    with pytest.raises(InvalidInput, match="TLS.ca: /nowhere: No such file"):
        Classifier("grpcs://localhost:1", tls=TLS(ca="/nowhere"))
    (tmp_path / "x").write_text("hello")
    with pytest.raises(InvalidInput, match="not a PEM file"):
        Classifier("https://localhost:1", tls=TLS(ca=tmp_path / "x"))
    with pytest.raises(InvalidInput, match="https://"):
        Classifier("http://localhost:1", tls=TLS())


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_grpc_status_has_its_error(code):
    error = from_status(code.name, "because", "host:1")
    assert type(error) is errors.BY_CODE[code.name]
    assert error.code == code.name
    assert error.address == "host:1"
    assert set(errors.BY_CODE) == {c.name for c in grpc.StatusCode} - {"OK"}


def test_errors_are_caught_by_their_builtin_kinds_too_and_survive_pickling():
    assert issubclass(errors.DeadlineExceeded, TimeoutError)
    assert issubclass(errors.Unavailable, ConnectionError)
    error = from_status("NOT_FOUND", "no model", "host:1")
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), copied.code) == (
        type(error),
        "no model",
        error.code,
    )
    assert copied.address == "host:1"


def test_texts_of_servers_are_cut_and_cleaned():
    error = from_status("INTERNAL", "a\x1b[31m\n" + "x" * 10_000, "host:1")
    assert len(str(error)) < 1000
    assert "\x1b" not in str(error) and "\n" not in str(error)


def test_too_large_messages_are_no_overload():
    error = from_status(
        "RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", "host:1"
    )
    assert isinstance(error, InvalidInput) and "batch_size" in str(error)


def test_the_tree_has_one_root():
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(kind, ServingError) for kind in kinds)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: connect: Connection refused (111)",
            "Connection refused",
        ),
        ("... Failed parsing HTTP/2 (Expected SETTINGS frame ...)", "http://"),
        ("Tls handshake failed ... WRONG_VERSION_NUMBER: ...", "does not speak TLS"),
        ("a; last error: UNKNOWN: ipv4:1.2.3.4:5: odd", "UNKNOWN: ipv4:1.2.3.4:5: odd"),
        ("", "connection lost"),
    ],
)
def test_reasons_are_short(details, reason):
    text = str(from_status("UNAVAILABLE", details, "host:1"))
    assert text.startswith("no answer from host:1 (") and reason in text
    assert "all addresses" not in text
