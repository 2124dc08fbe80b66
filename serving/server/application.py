"""Puts the parts together: models, gRPC, REST, health, profiler, by the flags."""

from __future__ import annotations

import logging
import os
import re
import resource
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.server import (
    batching,
    configuration,
    grpc_services,
    handlers,
    metrics,
    page,
    savedmodel,
    tensors,
)
from serving.server.configuration import ConfigurationError, Model
from serving.server.errors import ServingError, invalid
from serving.server.flags import Flags, is_loopback
from serving.server.manager import Manager, Policy, Version

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
BATCHING_FILE = "batching_params.pbtxt"
_MOST_WARMUP_RECORDS = 1000
# What eager TensorFlow adds to a text.
_OPERATION = re.compile(r"\{\{.*?\}\} | \[Op:.*")
# Calls beyond those that may run a model; more are refused, so that a flood does not fill
# the memory.
_MOST_WAITING = 1000
# Methods for those who run the server: what --management is about.
_MANAGEMENT = ("/HandleReloadConfigRequest", "ProfilerService/Profile", "/Terminate")
# Of gRPC, as those of REST.
_MOST_CONNECTIONS = 10_000
_HANDSHAKE_MS = 30_000
_SECONDS_TO_CANCEL = 5.0
_IDLE_MS = 620_000

_log = logging.getLogger(__name__)
# TensorFlow's advice on deprecated names is for those who write models.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


class StartError(RuntimeError):
    """The server cannot start; the message is one sentence."""


@dataclass
class Server:
    """A running server."""

    service: handlers.Service
    grpc_server: grpc.Server
    address: str = ""  # "127.0.0.1:8500", or empty: no TCP
    port: int = 0
    rest: Any = None
    parts: list[str] = field(default_factory=list)
    health: Any = None
    stopping: threading.Event = field(default_factory=threading.Event)
    recorder: Any = None

    def ready_line(self) -> str:
        """What is printed when the models can be used."""
        models = "; ".join(
            f"{name} version(s) {', '.join(map(str, numbers)) or 'none yet'}"
            for name, numbers in sorted(self.service.manager.available().items())
        )
        return f"serving {models or 'no model yet'} on {', '.join(self.parts)}"

    def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, lets those in flight end, and stops."""
        self.stopping.set()
        if self.health is not None:
            self.health.stop()
        # What is cancelled then may still run a model; it is not waited for.
        ends = [
            lambda grace: self.grpc_server.stop(grace).wait(grace + _SECONDS_TO_CANCEL)
        ]
        if self.rest is not None:
            ends.append(self.rest.stop)
        threads = [threading.Thread(target=end, args=(grace_seconds,)) for end in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.service.manager.stop()
        self.service.manager.close()
        if self.recorder is not None:
            self.recorder.close()


def start(flags: Flags, stop: threading.Event | None = None) -> Server:
    """Loads the models, then opens the ports.

    Args:
        flags: As given.
        stop: When set, waiting for models ends.

    Raises:
        StartError: A file, a model or a port cannot be used.
    """
    try:
        return _start(flags, stop or threading.Event())
    except (ConfigurationError, OSError) as error:
        raise StartError(str(error)) from error
    except ServingError as error:
        raise StartError(f"{error.code.name}: {error.message}") from error


def _start(flags: Flags, stop: threading.Event) -> Server:
    models = configuration.load_models(flags)
    batching = (
        configuration.load_batching(flags.batching_parameters_file)
        if flags.enable_batching
        else None
    )
    tls = configuration.load_tls(flags.ssl_config_file)
    metrics_path = configuration.load_metrics_path(flags.monitoring_config_file)
    if flags.web_page and metrics_path == page.PATH:
        raise StartError(
            f"{flags.monitoring_config_file}: prometheus_config.path is {page.PATH}, "
            "where --web_page has its page; name another path"
        )
    channel_arguments = configuration.channel_arguments(flags.grpc_channel_arguments)
    options = handlers.Options(
        limits=tensors.Limits(
            tensor_bytes=flags.max_message_bytes,
            image_pixels=flags.max_image_pixels,
        ),
        check_method_names=flags.enable_signature_method_name_check,
        tensor_content=flags.enable_serialization_as_tensor_content,
        reload_roots=_roots(flags, models),
        sampling_rates=_sampling_rates(flags, models),
        recorder=_recorder(flags),
    )
    loader = _Loader(flags, batching)
    manager = Manager(loader.load, _policy(flags))
    places = flags.grpc_max_threads or _threads()
    loader.service = service = handlers.Service(
        manager, threading.Semaphore(places), options
    )
    threading.Thread(
        target=lambda: (stop.wait(), manager.stop()), name="stop", daemon=True
    ).start()
    stopping = threading.Event()

    def begin(found: dict[str, Model]) -> None:
        """A reload request is held to what the operator's file says now."""
        manager.begin(found)
        service.options = replace(
            service.options,
            reload_roots=_roots(flags, found),
            sampling_rates=_sampling_rates(flags, found),
        )

    if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        # Before the start: what is wrong with the file can be corrected while it waits.
        configuration.watch_models(
            flags.model_config_file,
            flags.model_config_file_poll_wait_seconds,
            begin,
            stopping,
        )
    try:
        manager.start(models)
    except ServingError:
        stopping.set()
        raise
    health = _health(flags)
    server = Server(
        service,
        grpc_services.server(
            _methods(service, health, flags),
            most_calls=places + _MOST_WAITING,
            options={
                "grpc.max_receive_message_length": flags.max_message_bytes,
                "grpc.max_send_message_length": -1,
                "grpc.so_reuseport": 0,  # a port that is taken is an error
                **_connection_limits(),
                **channel_arguments,
            },
        ),
        health=health,
        stopping=stopping,
        recorder=options.recorder,
    )
    _open_ports(server, flags, tls.credentials() if tls else None)
    server.grpc_server.start()
    if flags.rest_api_port:
        _start_rest(server, flags, metrics_path)
    return server


class _Loader:
    """Loads and warms up versions; knows the flags."""

    def __init__(self, flags: Flags, batching: Any):
        self._flags = flags
        self._batching = batching
        intra = flags.tensorflow_intra_op_parallelism
        inter = flags.tensorflow_inter_op_parallelism
        both = flags.tensorflow_session_parallelism
        self._options = savedmodel.Options(
            tags=tuple(filter(None, flags.saved_model_tags.split(","))),
            intra_op_threads=intra or both,
            inter_op_threads=inter or both,
            gpu_memory_fraction=flags.per_process_gpu_memory_fraction,
        )
        self.service: handlers.Service | None = None

    def load(self, model: Model, version: Version) -> None:
        """Sets version.servable."""
        del model
        version.servable = savedmodel.load(version.folder, self._options)
        version.batching = self._batching_of(version)
        if self._flags.enable_model_warmup:
            self._warm_up(version)

    def _batching_of(self, version: Version) -> Any:
        path = version.folder / BATCHING_FILE
        per_model = self._flags.enable_per_model_batching_parameters
        if self._batching is not None and per_model and path.is_file():
            return configuration.load_batching(str(path))
        return self._batching

    def _warm_up(self, version: Version) -> None:
        path = version.folder / WARMUP_FILE
        if not path.is_file():
            return
        assert self.service is not None
        began, status = time.monotonic(), "UNKNOWN"
        try:
            for log in _warmup_logs(path):
                for _ in range(max(self._flags.num_request_iterations_for_warmup, 1)):
                    self.service.warm_up(version, log)
            status = "OK"
        except ServingError as error:
            status = error.code.name
            text = f"warm-up by {path} failed: {error.message}"
            raise savedmodel.LoadError(text, error.code) from error
        finally:
            metrics.observe_warmup(str(path), time.monotonic() - began, status)


def _warmup_logs(path: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The records of a warm-up file.

    As in tensorflow/serving, servables/tensorflow/saved_model_warmup_util.cc; a file that
    ends within a record's first twelve bytes has come to its end there.

    Raises:
        ServingError: DATA_LOSS for what is no TFRecord file, INVALID_ARGUMENT for a record
            that is no PredictionLog, and for too many.
    """
    records = enumerate(tf.data.TFRecordDataset(str(path)))
    while True:
        try:
            index, record = next(records)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            text = _OPERATION.sub("", error.message)
            if isinstance(error, tf.errors.DataLossError):
                text += ". Please verify your warmup data is in TFRecord format."
            raise ServingError(savedmodel.grpc_code(error), text) from error
        if index >= _MOST_WARMUP_RECORDS:
            raise invalid(
                "Number of warmup records exceeds the maximum "
                f"({_MOST_WARMUP_RECORDS}) at {path}"
            )
        try:
            yield prediction_log_pb2.PredictionLog.FromString(record.numpy())
        except DecodeError:
            raise invalid(
                f"Failed to parse warmup record {index} from {path}"
            ) from None


def _policy(flags: Flags) -> Policy:
    force = flags.force_allow_any_version_labels_for_unavailable_models
    return Policy(
        poll_seconds=flags.file_system_poll_wait_seconds,
        max_retries=flags.max_num_load_retries,
        retry_seconds=flags.load_retry_interval_micros / 1e6,
        load_threads=flags.num_load_threads,
        labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        any_label=force,
    )


def _roots(flags: Flags, models: Mapping[str, Model]) -> tuple[str, ...]:
    given = [model.base_path for model in models.values()]
    given += filter(None, flags.reload_roots.split(","))
    return tuple(
        os.path.normpath(path if "://" in path else os.path.abspath(path))
        for path in given
    )


def _connection_limits() -> dict[str, int]:
    """Of gRPC: it may take a quarter of the files, REST a half, and a quarter is left."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_CONNECTIONS
    if files != resource.RLIM_INFINITY:
        most = min(most, files // 4)
    return {
        "grpc.max_allowed_incoming_connections": most,
        "grpc.server_handshake_timeout_ms": _HANDSHAKE_MS,
        "grpc.max_connection_idle_ms": _IDLE_MS,
    }


def _sampling_rates(
    flags: Flags, models: Mapping[str, Model]
) -> Mapping[str | None, float]:
    """What a reload may ask for: by model, and for others."""
    if not flags.request_log_dir:
        return {}
    rates: dict[str | None, float] = {None: flags.request_log_sampling_rate}
    for name, model in models.items():
        if model.sampling_rate is not None:
            rates[name] = model.sampling_rate
    return rates


def _threads() -> int:
    return max(16, 4 * batching.processors())


def _health(flags: Flags) -> Any:
    if not flags.enable_grpc_healthcheck_service:
        return None
    from serving.server import health

    return health.Health(grpc_services.PREDICTION_SERVICE, grpc_services.MODEL_SERVICE)


def _methods(service: handlers.Service, health: Any, flags: Flags) -> dict[str, Any]:
    methods: dict[str, Any] = grpc_services.methods(service)
    if health is not None:
        methods |= health.methods()
    if flags.enable_profiler:
        from serving.server import profiler

        methods |= profiler.methods(flags.profiler_log_dir)
    allowed = _management(flags)
    if allowed != "all":
        for name in methods:
            if name.endswith(_MANAGEMENT):
                methods[name] = _for_socket(methods[name], allowed == "socket")
    return methods


def _management(flags: Flags) -> str:
    """As --management says."""
    if flags.management:
        return flags.management
    return "all" if is_loopback(flags.bind_address) else "socket"


def _for_socket(method: grpc_services.Method, open_there: bool) -> grpc_services.Method:
    """Refuses a method to those who do not come by the unix socket, or to all."""

    def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
        if open_there and context.peer().startswith("unix:"):
            return method(data, context)
        raise ServingError(
            grpc.StatusCode.PERMISSION_DENIED,
            "Reloads and profiles are not allowed here; the server's --management and "
            "--grpc_socket_path say to whom",
        )

    return answer


def _open_ports(server: Server, flags: Flags, credentials: Any) -> None:
    def add(address: str, shown: str) -> int:
        try:
            if credentials is None:
                port = server.grpc_server.add_insecure_port(address)
            else:
                port = server.grpc_server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if not port:
            text = f"cannot listen on {shown}: is it in use, or not this machine's?"
            if credentials:
                text += " Do server_key and server_cert of --ssl_config_file fit?"
            raise StartError(text)
        return port

    if flags.grpc_socket_path:
        folder = os.path.dirname(flags.grpc_socket_path)
        if folder and not os.path.isdir(folder):
            raise StartError(
                f"--grpc_socket_path={flags.grpc_socket_path}: there is no folder {folder}"
            )
        # gRPC reads a URI, in which some characters of a path stand for others.
        shown = f"unix:{flags.grpc_socket_path}"
        add(f"unix:{urllib.parse.quote(flags.grpc_socket_path)}", shown)
    if flags.port or not flags.grpc_socket_path:
        host = _in_url(flags.bind_address)
        address = f"{host}:{max(flags.port, 0)}"
        server.port = add(address, address)
        server.address = f"{host}:{server.port}"
        server.parts.append(f"{server.address} (gRPC{', TLS' if credentials else ''})")
    if flags.grpc_socket_path:
        server.parts.append(f"unix:{flags.grpc_socket_path}")


def _start_rest(server: Server, flags: Flags, metrics_path: str | None) -> None:
    from serving.server import rest  # its HTTP library only when it is used

    server.rest = rest.start(
        server.service,
        flags.bind_address,
        max(flags.rest_api_port, 0),
        rest.Options(
            timeout_ms=flags.rest_api_timeout_in_ms,
            metrics_path=metrics_path,
            web_page=flags.web_page,
            hosts=_hosts(flags),
            cors=flags.rest_api_enable_cors_support,
            # More than models may be run: these wait for batches, too.
            threads=flags.rest_api_num_threads or 4 * _threads(),
            most_body_bytes=min(flags.max_message_bytes, rest.MOST_BODY_BYTES),
        ),
    )
    host = _in_url(flags.bind_address)
    server.parts.append(f"http://{host}:{server.rest.port} (REST)")


def _hosts(flags: Flags) -> frozenset[str] | None:
    """Those that the Host header may name; None: any, for others know names for it."""
    if not is_loopback(flags.bind_address):
        return None
    more = flags.rest_allowed_hosts.lower().split(",")
    names = ("localhost", "127.0.0.1", "::1", flags.bind_address.lower(), *more)
    return frozenset(name.strip(" []") for name in names if name)


def _in_url(host: str) -> str:
    """An IPv6 address stands in brackets there."""
    host = host.strip("[]")
    return f"[{host}]" if ":" in host else host


def _recorder(flags: Flags) -> Any:
    if not flags.request_log_dir:
        return None
    from serving.server import request_log

    return request_log.RequestLog(
        flags.request_log_dir,
        flags.request_log_sampling_rate,
        flags.request_log_max_bytes,
        max_per_minute=flags.request_log_max_per_minute,
        inputs=flags.request_log_inputs,
    )
