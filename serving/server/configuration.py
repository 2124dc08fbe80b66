"""The configuration files, all protobuf text format, and what they mean.

tensorflow-serving-api ships the messages of the model configuration; those of batching,
TLS and monitoring it leaves out, so they are declared here, field by field as in
tensorflow/serving (servables/tensorflow/session_bundle_config.proto,
config/ssl_config.proto, config/monitoring_config.proto).
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server import protos
from serving.server.batching import BatchingParameters
from serving.server.errors import ServingError, failed_precondition, invalid
from serving.server.flags import LONGEST_NAME, Flags

_PLATFORM = "tensorflow"
METRICS_PATH = "/monitoring/prometheus/metrics"
_SECONDS_UNCHANGED = 0.5
_LONGEST_REASON = 300  # it quotes the line

_log = logging.getLogger(__name__)

_MESSAGES = protos.declare(
    {
        "BatchingParameters": (
            ("max_batch_size", 1, "Int64Value"),
            ("batch_timeout_micros", 2, "Int64Value"),
            ("max_enqueued_batches", 3, "Int64Value"),
            ("num_batch_threads", 4, "Int64Value"),
            ("thread_pool_name", 5, "StringValue"),
            ("allowed_batch_sizes", 6, "repeated int64"),
            ("pad_variable_length_inputs", 7, "bool"),
            ("enable_large_batch_splitting", 8, "BoolValue"),
            ("max_execution_batch_size", 9, "Int64Value"),
        ),
        "SSLConfig": (
            ("server_key", 1, "string"),
            ("server_cert", 2, "string"),
            ("custom_ca", 3, "string"),
            ("client_verify", 4, "bool"),
        ),
        "PrometheusConfig": (("enable", 1, "bool"), ("path", 2, "string")),
        "MonitoringConfig": (("prometheus_config", 1, "PrometheusConfig"),),
    }
)


class ConfigurationError(ValueError):
    """A file that cannot be used; the message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One entry of a ModelServerConfig, checked."""

    name: str
    base_path: str
    policy: str = "latest"  # or "all", "specific"
    num_versions: int = 1  # of "latest"
    versions: frozenset[int] = frozenset()  # of "specific"
    labels: Mapping[str, int]
    sampling_rate: float | None = None  # of logging_config

    @property
    def source(self) -> object:
        """What decides which versions are loaded, and from where."""
        return self.base_path, self.policy, self.num_versions, self.versions

    def wanted(self, present: Iterable[int]) -> list[int]:
        """Those versions that the policy serves, ascending."""
        ordered = sorted(present)
        if self.policy == "latest":
            return ordered[-self.num_versions :]
        if self.policy == "specific":
            return [version for version in ordered if version in self.versions]
        return ordered


@dataclass(frozen=True)
class Tls:
    """PEM texts of an SSLConfig."""

    key: bytes
    certificate: bytes
    authority: bytes | None
    verify_client: bool

    def __repr__(self) -> str:
        """Without the key: this may reach a log."""
        return f"Tls(verify_client={self.verify_client})"

    def credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], self.authority, self.verify_client
        )


def models(config: model_server_config_pb2.ModelServerConfig) -> dict[str, Model]:
    """The models by name.

    Raises:
        ServingError: INVALID_ARGUMENT, with tensorflow/serving's texts.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("ModelServer does not yet support custom model config.")
    found: dict[str, Model] = {}
    for entry in config.model_config_list.config:
        if entry.name in found:
            raise invalid(
                f"Illegal to list model {entry.name} multiple times in config list"
            )
        found[entry.name] = _model(entry)
    return found


def load_models(flags: Flags) -> dict[str, Model]:
    """The models that the flags name.

    Raises:
        ConfigurationError: The file cannot be read or used.
    """
    if not flags.model_config_file:
        # The working folder of a server is a matter of chance later on.
        base_path = flags.model_base_path
        if "://" not in base_path:
            base_path = os.path.abspath(base_path)
        model = Model(name=flags.model_name, base_path=base_path, labels={})
        return {flags.model_name: model}
    path = flags.model_config_file
    config = _parse(_text(path), path, model_server_config_pb2.ModelServerConfig())
    if config.WhichOneof("config") is None:
        _log.warning("%s: Taking no action for empty config.", path)
        return {}
    try:
        return models(config)
    except ServingError as error:
        raise ConfigurationError(f"{path}: {error.message}") from error


def watch_models(
    path: str,
    seconds: float,
    begin: Callable[[dict[str, Model]], object],
    stopping: threading.Event,
) -> None:
    """Reads a models' file again and again; what is wrong with it changes nothing.

    Args:
        path: Text file of a ModelServerConfig; or a link, which may be changed.
        seconds: How often. A text that is new has to be the same for half a second first:
            the first half of one may be a good configuration, too.
        begin: Puts models in force, without waiting for them; may raise a ServingError.
        stopping: Ends it.
    """

    def read() -> dict[str, Model]:
        nonlocal seen
        text = _text(path)
        while text != seen and not stopping.wait(min(seconds, _SECONDS_UNCHANGED)):
            seen, text = text, _text(path)
        config = _parse(text, path, model_server_config_pb2.ModelServerConfig())
        if config.WhichOneof("config") is None:
            raise failed_precondition(
                f"{path} is empty. Cannot transition to requested config. It is only "
                "legal to transition from one ModelConfigList to another."
            )
        return models(config)

    def watch() -> None:
        said = ""
        while not stopping.wait(seconds):
            try:
                begin(read())
                now = ""
            except ConfigurationError as error:
                now = f"Failed to read ModelServerConfig file: {error}"
            except ServingError as error:
                now = (
                    "PollFilesystemAndReloadConfig failed to ReloadConfig: "
                    f"{error.message}"
                )
            except Exception:  # the next look may succeed; the thread must live
                _log.exception("reading %s failed", path)
                continue
            if now and now != said and not stopping.is_set():
                _log.error("%s; the models stay as they are", now)
            said = now

    seen = ""
    threading.Thread(target=watch, name="config", daemon=True).start()


def load_batching(path: str) -> BatchingParameters:
    """BatchingParameters from a file; the defaults if there is no path.

    Raises:
        ConfigurationError: The file cannot be read or used.
    """
    if not path:
        return BatchingParameters()
    message = _read(path, _MESSAGES["BatchingParameters"]())
    values: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.name == "thread_pool_name":
            continue
        if descriptor.message_type:
            value = value.value
        elif descriptor.name == "allowed_batch_sizes":
            value = tuple(value)
        values[descriptor.name] = value
    try:
        return BatchingParameters(**values)
    except ValueError as error:
        reason = str(error)[:_LONGEST_REASON]
        raise ConfigurationError(f"{path}: {reason}") from error


def load_tls(path: str) -> Tls | None:
    """TLS from a file; None without a path.

    Raises:
        ConfigurationError: The file cannot be read or used.
    """
    if not path:
        return None
    message = _read(path, _MESSAGES["SSLConfig"]())
    if not message.server_key or not message.server_cert:
        raise ConfigurationError(
            f"{path}: server_key and server_cert are both needed, as PEM texts"
        )
    if message.client_verify and not message.custom_ca:
        raise ConfigurationError(
            f"{path}: client_verify needs custom_ca, the PEM text of the authority that "
            "signed the clients' certificates"
        )
    for field in ("server_cert", "custom_ca"):
        text = getattr(message, field)
        try:  # gRPC would only say that it cannot listen
            if text:
                ssl.create_default_context(cadata=text)
        except (ssl.SSLError, ValueError):  # ValueError: not ASCII
            raise ConfigurationError(
                f"{path}: {field} must be certificates as PEM text, "
                "-----BEGIN CERTIFICATE----- and so on"
            ) from None
    if "-----BEGIN" not in message.server_key:
        raise ConfigurationError(
            f"{path}: server_key must be a private key as PEM text, "
            "-----BEGIN PRIVATE KEY----- and so on"
        )
    return Tls(
        message.server_key.encode(),
        message.server_cert.encode(),
        message.custom_ca.encode() or None,
        message.client_verify,
    )


def load_metrics_path(path: str) -> str | None:
    """Where metrics are served, by a MonitoringConfig; None: nowhere.

    Raises:
        ConfigurationError: The file cannot be read or used.
    """
    if not path:
        return None
    prometheus = _read(path, _MESSAGES["MonitoringConfig"]()).prometheus_config
    if not prometheus.enable:
        return None
    if prometheus.path and not re.fullmatch(r"/[^?#\s\x00-\x1f\x7f]*", prometheus.path):
        raise ConfigurationError(
            f"{path}: prometheus_config.path is {prometheus.path!r}, but must begin "
            "with a slash and be a path alone, without ?, # and control characters"
        )
    return prometheus.path or METRICS_PATH


def channel_arguments(text: str) -> dict[str, str | int]:
    """GRPC's options from `name=value,...`; integers as such.

    Raises:
        ConfigurationError: A part has no "=".
    """
    options: dict[str, str | int] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ConfigurationError(
                f"--grpc_channel_arguments: {part!r} is not of the form name=value"
            )
        number = value.lstrip("-").isdecimal()
        options[name] = int(value) if number else value
    return options


def _model(entry: Any) -> Model:
    """Checks a ModelConfig; texts of tensorflow/serving's server_core.cc."""
    platform = entry.model_platform
    if entry.model_type:
        if platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                "ModelServerConfig::model_platform."
            )
        if entry.model_type != model_server_config_pb2.TENSORFLOW:
            raise invalid(
                f"ModelServerConfig::model_type choice {entry.model_type} not supported."
            )
        platform = _PLATFORM
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform."
        )
    if platform != _PLATFORM:
        raise invalid(
            f"model {entry.name}: model_platform is {platform!r}, but only {_PLATFORM} "
            "is served"
        )
    if not entry.name:
        raise invalid("A model in the config list has no name.")
    if len(entry.name) > LONGEST_NAME:
        raise invalid(
            f"A model in the config list has a name of {len(entry.name)} characters, but "
            f"at most {LONGEST_NAME} are allowed."
        )
    if not entry.base_path:
        raise invalid(f"Model {entry.name} has no base_path.")
    if "://" not in entry.base_path and not os.path.isabs(entry.base_path):
        raise invalid(
            f"Expected model {entry.name} to have an absolute path or URI; got "
            f"base_path()={entry.base_path}"
        )
    if "\0" in entry.base_path:
        raise invalid(f"Model {entry.name}: no base_path may hold a NUL character.")
    policy = entry.model_version_policy
    choice = policy.WhichOneof("policy_choice") or "latest"
    if choice not in ("latest", "all", "specific"):
        raise invalid(
            f"model {entry.name}: version policy {choice} is not supported; take "
            "latest, all or specific"
        )
    if choice == "specific" and not policy.specific.versions:
        raise invalid(f"model {entry.name}: the specific version policy names none")
    logging = entry.logging_config
    return Model(
        name=entry.name,
        base_path=entry.base_path,
        policy=choice,
        num_versions=max(policy.latest.num_versions, 1),
        versions=frozenset(policy.specific.versions),
        labels=dict(entry.version_labels),
        sampling_rate=(
            logging.sampling_config.sampling_rate
            if entry.HasField("logging_config")
            else None
        ),
    )


def _read(path: str, message: Any) -> Any:
    """Parses a text format file.

    Raises:
        ConfigurationError: It cannot be read or used.
    """
    return _parse(_text(path), path, message)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path} cannot be read: {reason}") from None


def _parse(text: str, path: str, message: Any) -> Any:
    """Texts of tensorflow/serving's server.cc and of protobuf's text_format.cc.

    Raises:
        ConfigurationError: With the place, and the reason unless that may quote a key.
    """
    try:
        return text_format.Parse(text, message)
    except RecursionError:
        raise ConfigurationError(
            f"Invalid protobuf file: '{path}': its messages are nested too deeply"
        ) from None
    except text_format.ParseError as error:
        name = message.DESCRIPTOR.name
        reason = f"{error.GetLine()}:{error.GetColumn()}"
        if name != "SSLConfig":
            reason = str(error).replace(f"{reason} :", f"{reason}:")[:_LONGEST_REASON]
        raise ConfigurationError(
            f"Invalid protobuf file: '{path}': Error parsing text-format "
            f"tensorflow.serving.{name}: {reason}"
        ) from None
