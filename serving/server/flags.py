"""The command line: tensorflow_model_server's flags, and a few of our own.

A leaf that imports the standard library only, so that a wrong flag is refused at once
and `--version` does not wait for TensorFlow. Names, defaults and meanings are those of
tensorflow/serving, model_servers/main.cc and server.h.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib.metadata
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

# Flags of tensorflow_model_server that change nothing here: taken, with a warning.
IGNORED = {
    "flush_filesystem_caches": "the operating system decides what it caches",
    "num_unload_threads": "versions are unloaded one at a time",
    "num_tflite_interpreters_per_pool": "TFLite models are not served",
    "num_tflite_pools": "TFLite models are not served",
    "remove_unused_fields_from_bundle_metagraph": "only the signatures are kept anyway",
    "skip_initialize_tpu": "there is no TPU support",
}
# Those whose meaning cannot be kept: refused, each with what to do instead.
REFUSED = {
    "platform_config_file": "only TensorFlow models are served",
    "prefer_tflite_model": "TFLite models are not served, export a SavedModel",
    "use_tflite_model": "TFLite models are not served, export a SavedModel",
    "thread_pool_factory_config_file": "use --tensorflow_inter_op_parallelism",
    "tensorflow_session_config_file": "use the --tensorflow_*_parallelism flags",
    "use_alts_credentials": "use --ssl_config_file",
    "xla_cpu_compilation_enabled": "models are run as they were exported",
    "xla_gpu_compilation_enabled": "models are run as they were exported",
    "mixed_precision": "export the model in the precision wanted",
    "use_tfrt": "the session runtime is used",
    "enable_tfrt": "the session runtime is used",
}

LONGEST_NAME = 256  # characters of a model's; requests with longer ones are refused


class FlagError(ValueError):
    """A command line that cannot be used; the message is one sentence."""


def _flag(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Values of all flags; the fields' names are the flags' names."""

    port: int = _flag(
        8500,
        "TCP port for gRPC; -1: one that the operating system chooses (the line printed "
        "when ready tells which); 0: none if --grpc_socket_path is given, else like -1",
    )
    grpc_socket_path: str = _flag("", "also listen on this unix socket")
    rest_api_port: int = _flag(
        0, "port for REST; 0: no REST; -1: one that the operating system chooses"
    )
    rest_api_num_threads: int = _flag(
        0, "REST requests worked on at the same time; 0: by the number of processors"
    )
    rest_api_timeout_in_ms: int = _flag(30_000, "limit for a REST call")
    rest_api_enable_cors_support: bool = _flag(False, "CORS headers in REST answers")
    model_name: str = _flag("default", "name of the model")
    model_base_path: str = _flag("", "folder that holds the model's version folders")
    model_config_file: str = _flag(
        "", "text file of a ModelServerConfig, instead of the two flags above"
    )
    model_config_file_poll_wait_seconds: int = _flag(
        0, "how often that file is read again; 0 or less: once, at start"
    )
    file_system_poll_wait_seconds: int = _flag(
        1, "how often new versions are looked for; 0: once; negative: never"
    )
    monitoring_config_file: str = _flag("", "text file of a MonitoringConfig")
    enable_batching: bool = _flag(False, "join concurrent requests into batches")
    batching_parameters_file: str = _flag("", "text file of BatchingParameters")
    enable_per_model_batching_parameters: bool = _flag(
        False, "take batching_params.pbtxt in a version's folder, if there is one"
    )
    grpc_channel_arguments: str = _flag("", "name=value,... for the gRPC server")
    grpc_max_threads: int = _flag(
        0,
        "model runs at the same time without batching; 0: by the number of processors",
    )
    ssl_config_file: str = _flag(
        "", "text file of an SSLConfig: TLS, mutual if it says"
    )
    max_num_load_retries: int = _flag(5, "further attempts when loading fails")
    load_retry_interval_micros: int = _flag(60_000_000, "pause between attempts")
    num_load_threads: int = _flag(0, "versions loaded at the same time; 0: one")
    enable_model_warmup: bool = _flag(
        True, "replay assets.extra/tf_serving_warmup_requests before serving a version"
    )
    num_request_iterations_for_warmup: int = _flag(0, "how often each; 0: once")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "new labels may point to versions that are not loaded (yet)"
    )
    force_allow_any_version_labels_for_unavailable_models: bool = _flag(
        False, "any label may"
    )
    enable_grpc_healthcheck_service: bool = _flag(False, "serve grpc.health.v1.Health")
    enable_profiler: bool = _flag(True, "serve tensorflow.ProfilerService")
    enable_signature_method_name_check: bool = _flag(
        False, "Classify and Regress only take signatures exported for them"
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, "numbers in answers as tensor_content, which is faster to read"
    )
    saved_model_tags: str = _flag("serve", "comma-separated tags of the graph to load")
    tensorflow_session_parallelism: int = _flag(0, "both of the following")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads of one operation; 0: auto")
    tensorflow_inter_op_parallelism: int = _flag(0, "operations at once; 0: auto")
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "share of a GPU; 0: as it grows"
    )
    version: bool = _flag(False, "print versions and stop")

    # Not tensorflow_model_server's:
    bind_address: str = _flag(
        "127.0.0.1",
        "interface to listen on; 0.0.0.0 or [::] opens the server to the network "
        "(tensorflow_model_server always does)",
    )
    rest_allowed_hosts: str = _flag(
        "",
        "comma-separated names that the Host header of REST requests may hold, besides "
        "localhost and the address, where --bind_address is this machine's alone",
    )
    allow_rest_without_tls: bool = _flag(
        False, "open REST, which has no TLS, beside --ssl_config_file to the network"
    )
    management: str = _flag(
        "",
        'who may reload the models and take profiles: "all" callers of gRPC, those of '
        'the "socket" of --grpc_socket_path, or "none"; by default all where '
        "--bind_address is this machine's alone, else the socket's",
    )
    reload_roots: str = _flag(
        "",
        "comma-separated folders below which HandleReloadConfigRequest may name models, "
        "besides those given at start",
    )
    max_message_bytes: int = _flag(
        256 << 20, "largest request; also bounds what a short request may expand to"
    )
    max_image_pixels: int = _flag(
        1 << 26, "limit on the PNG, JPEG, GIF, BMP or WebP images of one request"
    )
    shutdown_grace_seconds: float = _flag(
        30.0, "on SIGTERM, how long calls in flight may take"
    )
    profiler_log_dir: str = _flag(
        "", "TensorBoard folder that gets the traces asked for"
    )
    web_page: bool = _flag(False, "serve the page to try a model on the REST port")
    request_log_dir: str = _flag("", "keep a sample of requests as TFRecords here")
    request_log_sampling_rate: float = _flag(0.01, "share of requests kept, 0 to 1")
    request_log_max_bytes: int = _flag(100 << 20, "limit on that folder")
    request_log_max_per_minute: int = _flag(0, "requests kept a minute; 0: no limit")
    request_log_inputs: bool = _flag(
        True, "keep what was asked, not what was answered alone"
    )


_FIELDS = {field.name: field for field in dataclasses.fields(Flags)}


def parse(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    """Reads a command line: --name=value, --name value, and --name for booleans.

    Returns:
        The flags, and warnings to be shown.

    Raises:
        FlagError: Unknown flag, or a value that the flag does not take.
    """
    parser = _Parser(prog="python -m serving.server", allow_abbrev=False)
    for name, declared in _FIELDS.items():
        kind = type(declared.default)
        text = f"{declared.metadata['help']} (default: {declared.default!r})"
        text = text.replace("%", "%%")
        if kind is bool:
            parser.add_argument(
                f"--{name}", nargs="?", const=True, default=declared.default,
                type=_boolean, metavar="true|false", help=text,
            )  # fmt: skip
        else:
            parser.add_argument(
                f"--{name}", default=declared.default, type=kind, help=text
            )
    for name in (*IGNORED, *REFUSED):
        parser.add_argument(
            f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS
        )
    known, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise FlagError(_unknown(unknown[0]))
    values = vars(known)
    for name, remedy in REFUSED.items():
        if values.pop(name) not in (None, "false", "0", ""):
            raise FlagError(f"--{name} is not supported here: {remedy}.")
    warnings = [
        f"--{name} has no effect here: {reason}"
        for name, reason in IGNORED.items()
        if values.pop(name) is not None
    ]
    flags = Flags(**values)
    _check(flags)
    if flags.ssl_config_file and flags.rest_api_port and not flags.version:
        warnings.append(
            "--ssl_config_file is for gRPC: REST answers the same in the clear, and asks "
            "for no certificate"
        )
    return flags, warnings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on the address or name."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(a[4][0])).is_loopback for a in found)


def versions() -> str:
    """What --version prints."""
    return (
        "serving.server, a stand-in for TensorFlow ModelServer: "
        f"API {importlib.metadata.version('tensorflow-serving-api')}\n"
        f"TensorFlow Library: {importlib.metadata.version('tensorflow')}\n"
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagError(f"{message[:1].upper()}{message[1:]}.")


def _boolean(text: str) -> bool:
    value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return value


def _unknown(argument: str) -> str:
    name = argument.split("=")[0]
    near = difflib.get_close_matches(name.lstrip("-"), _FIELDS, n=1, cutoff=0.7)
    hint = f"did you mean --{near[0]}?" if near else "--help lists the flags."
    return f"Unknown flag {name}: {hint}"


def _check(flags: Flags) -> None:
    if flags.version:
        return
    rules = (
        (
            len(flags.model_name) <= LONGEST_NAME,
            f"--model_name has more than {LONGEST_NAME} characters.",
        ),
        (
            bool(flags.model_base_path or flags.model_config_file),
            "Neither --model_base_path nor --model_config_file is given: name the folder "
            "that holds the model's versions.",
        ),
        (
            -1 <= flags.port < 65_536 and -1 <= flags.rest_api_port < 65_536,
            f"--port={flags.port} --rest_api_port={flags.rest_api_port}: a port is "
            "between 0 and 65535.",
        ),
        (
            flags.rest_api_port <= 0 or flags.rest_api_port != flags.port,
            "--rest_api_port cannot be same as --port.",
        ),
        (
            flags.enable_batching or not flags.batching_parameters_file,
            "--batching_parameters_file is set without --enable_batching.",
        ),
        (
            flags.rest_api_port != 0
            or not (flags.web_page or flags.monitoring_config_file),
            "--web_page and --monitoring_config_file need --rest_api_port: that is "
            "where they are served.",
        ),
        (
            not (flags.ssl_config_file and flags.rest_api_port)
            or flags.allow_rest_without_tls
            or is_loopback(flags.bind_address),
            "--ssl_config_file is for gRPC, and --rest_api_port would answer the same to "
            "the network in the clear: leave it out, keep --bind_address=127.0.0.1, or "
            "say --allow_rest_without_tls.",
        ),
        (
            flags.management in ("", "all", "socket", "none"),
            f"--management={flags.management}: take all, socket or none.",
        ),
        (
            0 <= flags.request_log_sampling_rate <= 1,
            "--request_log_sampling_rate is a share: between 0 and 1.",
        ),
        (
            flags.request_log_max_per_minute >= 0,
            "--request_log_max_per_minute must be 0 (no limit) or more.",
        ),
        (
            flags.max_message_bytes > 0 and flags.max_image_pixels > 0,
            "--max_message_bytes and --max_image_pixels must be positive.",
        ),
        (
            0 <= flags.per_process_gpu_memory_fraction <= 1,
            "--per_process_gpu_memory_fraction is a share: between 0 and 1.",
        ),
        (
            len(os.fsencode(flags.grpc_socket_path)) < 108,
            "--grpc_socket_path is longer than 107 bytes, which no unix socket may be.",
        ),
    )
    for holds, sentence in rules:
        if not holds:
            raise FlagError(sentence)
