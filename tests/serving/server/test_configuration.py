"""Configuration files mean what tensorflow_model_server makes of them."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server import configuration
from serving.server.batching import BatchingParameters
from serving.server.configuration import ConfigurationError
from serving.server.errors import ServingError
from serving.server.flags import Flags

pytestmark = pytest.mark.tf


def parse(text: str) -> dict[str, configuration.Model]:
    config = model_server_config_pb2.ModelServerConfig()
    return configuration.models(text_format.Parse(text, config))


def one(inside: str) -> configuration.Model:
    (model,) = parse(f"model_config_list {{ config {{ {inside} }} }}").values()
    return model


GOOD = 'name: "m" base_path: "/m" '
PLATFORM = 'model_platform: "tensorflow" '


def test_a_model_with_nothing_special_serves_its_latest_version():
    model = one(GOOD + PLATFORM)
    assert (model.name, model.base_path) == ("m", "/m")
    assert model.wanted([3, 1, 2]) == [3]
    assert model.wanted([]) == []
    assert model.labels == {}
    assert model.sampling_rate is None


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("latest {}", [9]),
        ("latest { num_versions: 0 }", [9]),
        ("latest { num_versions: 3 }", [5, 7, 9]),
        ("all {}", [2, 5, 7, 9]),
        ("specific { versions: 2 versions: 9 versions: 11 }", [2, 9]),
    ],
)
def test_version_policies(policy: str, wanted: list[int]):
    model = one(GOOD + PLATFORM + f"model_version_policy {{ {policy} }}")
    assert model.wanted([9, 2, 5, 7]) == wanted


def test_labels_logging_and_the_old_name_of_the_platform():
    model = one(
        GOOD + 'model_type: TENSORFLOW version_labels { key: "a" value: 4 } '
        "logging_config { sampling_config { sampling_rate: 0.25 } }"
    )
    assert model.labels == {"a": 4}
    assert model.sampling_rate == 0.25


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (GOOD, "Illegal setting neither ModelServerConfig::model_type"),
        (GOOD + PLATFORM + "model_type: TENSORFLOW", "Illegal setting both"),
        (GOOD + 'model_platform: "tensorflow_lite"', "only tensorflow is served"),
        (GOOD + "model_type: OTHER", "choice 2 not supported"),
        ('base_path: "/m" ' + PLATFORM, "no name"),
        ('name: "m" ' + PLATFORM, "no base_path"),
        ('name: "m" base_path: "/m\\000" ' + PLATFORM, "NUL character"),
        ('name: "m" base_path: "m" ' + PLATFORM, "absolute path"),
        (GOOD + PLATFORM + "model_version_policy { specific {} }", "names none"),
    ],
)
def test_entries_that_are_refused(inside: str, text: str):
    with pytest.raises(ServingError) as caught:
        one(inside)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert text in caught.value.message


def test_a_name_is_listed_once():
    entry = f"config {{ {GOOD} {PLATFORM} }}"
    with pytest.raises(ServingError, match="Illegal to list model m multiple times"):
        parse(f"model_config_list {{ {entry} {entry} }}")


def test_flags_name_a_model_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = Flags(model_name="n", model_base_path="folder")
    (model,) = configuration.load_models(flags).values()
    assert (model.name, model.base_path) == ("n", str(tmp_path / "folder"))


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_batching_parameters(tmp_path):
    # As in tensorflow/serving's documentation.
    path = write(
        tmp_path / "batching.txt",
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 32
        allowed_batch_sizes: 128
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        """,
    )
    assert configuration.load_batching(path) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
        allowed_batch_sizes=(32, 128),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
    )
    assert configuration.load_batching("") == BatchingParameters()


def test_the_projects_own_batching_parameters_are_read(tmp_path):
    from trainer.export import BATCHING_PARAMETERS

    found = configuration.load_batching(write(tmp_path / "b", BATCHING_PARAMETERS))
    assert found.max_batch_size == found.allowed_batch_sizes[-1]


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size { value: 0 }",
        "allowed_batch_sizes: 4 max_batch_size { value: 8 }",
        "allowed_batch_sizes: 8 allowed_batch_sizes: 4 max_batch_size { value: 4 }",
        "max_batch_size: 3",
        "nonsense: 1",
    ],
)
def test_batching_parameters_that_are_refused(tmp_path, text: str):
    path = write(tmp_path / "batching.txt", text)
    with pytest.raises(ConfigurationError, match="batching.txt"):
        configuration.load_batching(path)


def test_metrics_path(tmp_path):
    def path(text: str) -> str | None:
        return configuration.load_metrics_path(write(tmp_path / "m", text))

    assert configuration.load_metrics_path("") is None
    assert path("prometheus_config { enable: false }") is None
    assert path("prometheus_config { enable: true }") == (
        "/monitoring/prometheus/metrics"
    )
    assert path('prometheus_config { enable: true path: "/m" }') == "/m"
    for wrong in ("m", "/m?x", "/m#x", "/m x"):
        with pytest.raises(ConfigurationError, match="slash"):
            path(f'prometheus_config {{ enable: true path: "{wrong}" }}')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('server_key: "k"', "server_key and server_cert are both needed"),
        (
            'server_key: "k" server_cert: "c" client_verify: true',
            "client_verify needs custom_ca",
        ),
        (
            'server_key: "SECRET',
            "Error parsing text-format tensorflow.serving.SSLConfig: 1:13$",
        ),
        ('server_key: "SECRET" server_cert: "c"', "server_cert must be certificates"),
    ],
)
def test_tls_files_that_are_refused(tmp_path, text: str, reason: str):
    with pytest.raises(ConfigurationError, match=reason) as caught:
        configuration.load_tls(write(tmp_path / "ssl.txt", text))
    assert "SECRET" not in str(caught.value)


def test_a_key_is_never_shown():
    tls = configuration.Tls(b"SECRET", b"c", None, False)
    assert "SECRET" not in repr(tls)


def test_channel_arguments():
    found = configuration.channel_arguments("grpc.a=1,grpc.b=-2,grpc.c=x=y")
    assert found == {"grpc.a": 1, "grpc.b": -2, "grpc.c": "x=y"}
    assert configuration.channel_arguments("") == {}
    with pytest.raises(ConfigurationError, match="name=value"):
        configuration.channel_arguments("grpc.a")
