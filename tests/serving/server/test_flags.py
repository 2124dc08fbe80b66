"""The command line takes tensorflow_model_server's flags, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from serving.server import flags

ROOT = Path(__file__).parents[3]
BASE = "--model_base_path=/models/m"

# The flags that the documentation of tensorflow_model_server 2.19 lists.
OFFICIAL = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms
rest_api_enable_cors_support enable_batching
allow_version_labels_for_unavailable_models
force_allow_any_version_labels_for_unavailable_models batching_parameters_file
enable_per_model_batching_parameters model_config_file
model_config_file_poll_wait_seconds model_name model_base_path num_load_threads
num_unload_threads max_num_load_retries load_retry_interval_micros
file_system_poll_wait_seconds flush_filesystem_caches tensorflow_session_parallelism
tensorflow_session_config_file tensorflow_intra_op_parallelism
tensorflow_inter_op_parallelism use_alts_credentials ssl_config_file
platform_config_file per_process_gpu_memory_fraction saved_model_tags
grpc_channel_arguments grpc_max_threads enable_model_warmup
num_request_iterations_for_warmup version monitoring_config_file
remove_unused_fields_from_bundle_metagraph prefer_tflite_model num_tflite_pools
num_tflite_interpreters_per_pool enable_signature_method_name_check
xla_cpu_compilation_enabled enable_profiler thread_pool_factory_config_file
enable_grpc_healthcheck_service enable_serialization_as_tensor_content
"""


@pytest.mark.parametrize("name", OFFICIAL.split())
def test_every_official_flag_is_known(name: str):
    try:
        flags.parse([f"--{name}=1", BASE])
    except flags.FlagError as error:
        assert "Unknown" not in str(error)
        assert name in str(error)


def test_values_with_equals_and_as_next_argument():
    parsed, warnings = flags.parse(
        ["--port=1", "--rest_api_port", "2", "--model_name", "n", BASE]
    )
    assert (parsed.port, parsed.rest_api_port, parsed.model_name) == (1, 2, "n")
    assert parsed.model_base_path == "/models/m"
    assert warnings == []


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--enable_batching", True),
        ("--enable_batching=true", True),
        ("--enable_batching=1", True),
        ("--enable_batching=false", False),
        ("--enable_batching=False", False),
    ],
)
def test_booleans(argument: str, value: bool):
    assert flags.parse([argument, BASE])[0].enable_batching is value


def test_negative_numbers_are_values():
    arguments = ["--file_system_poll_wait_seconds", "-1", BASE]
    assert flags.parse(arguments)[0].file_system_poll_wait_seconds == -1


def test_defaults_are_tensorflow_model_servers():
    parsed, _ = flags.parse([BASE])
    assert parsed.port == 8500
    assert parsed.rest_api_port == 0
    assert parsed.rest_api_timeout_in_ms == 30_000
    assert parsed.model_name == "default"
    assert parsed.max_num_load_retries == 5
    assert parsed.load_retry_interval_micros == 60 * 10**6
    assert parsed.file_system_poll_wait_seconds == 1
    assert parsed.enable_model_warmup
    assert not parsed.enable_batching
    assert parsed.saved_model_tags == "serve"


def test_it_listens_to_this_machine_only_unless_told():
    assert flags.parse([BASE])[0].bind_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prot=1", BASE], "Unknown flag --prot: did you mean --port?"),
        (["--zzzzzzzz", BASE], "Unknown flag --zzzzzzzz: --help lists the flags."),
        (["surplus", BASE], "Unknown flag surplus"),
        (["--port=x", BASE], "--port"),
        (["--enable_batching=maybe", BASE], "'maybe' is neither true nor false"),
        ([], "Neither --model_base_path nor --model_config_file"),
        (["--port=70000", BASE], "between 0 and 65535"),
        (["--rest_api_port=8500", BASE], "--rest_api_port cannot be same as --port"),
        (["--batching_parameters_file=f", BASE], "without --enable_batching"),
        (["--platform_config_file=f", BASE], "--platform_config_file is not supported"),
        (["--use_alts_credentials", BASE], "use --ssl_config_file"),
        (["--prefer_tflite_model", BASE], "TFLite models are not served, export a"),
        (["--web_page", BASE], "need --rest_api_port"),
        (["--request_log_sampling_rate=2", BASE], "between 0 and 1"),
        (["--request_log_max_per_minute=-1", BASE], "0 (no limit) or more"),
        (["--grpc_socket_path=" + "x" * 120, BASE], "107 bytes"),
    ],
)
def test_what_is_refused_is_named(arguments: list[str], sentence: str):
    with pytest.raises(flags.FlagError, match=r"\.$|\?$") as caught:
        flags.parse(arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_without_effect_are_taken_with_a_warning():
    _, warnings = flags.parse(["--flush_filesystem_caches=true", BASE])
    assert len(warnings) == 1
    assert "--flush_filesystem_caches has no effect" in warnings[0]


def test_refused_flags_that_are_off_are_taken():
    flags.parse(["--use_alts_credentials=false", "--platform_config_file=", BASE])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\n"
        "from serving.server.__main__ import main\n"
        "status = main(sys.argv[1:])\n"
        "assert not {'tensorflow', 'grpc'} & set(sys.modules)\n"
        "sys.exit(status)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_version_and_mistakes_do_not_wait_for_tensorflow():
    done = run("--version")
    assert done.returncode == 0
    assert "TensorFlow ModelServer" in done.stdout
    assert "TensorFlow Library: " in done.stdout
    done = run("--prot=1")
    assert done.returncode == 2
    assert done.stderr == "Unknown flag --prot: did you mean --port?\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_rest_in_the_clear_beside_tls_is_warned_of(address):
    arguments = ["--ssl_config_file=x", "--rest_api_port=8501", BASE]
    _, warnings = flags.parse([*arguments, f"--bind_address={address}"])
    assert [warning for warning in warnings if "REST" in warning and "clear" in warning]
    assert not flags.parse([*arguments[::2], "--bind_address=0.0.0.0"])[1]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]", "192.0.2.1"])
def test_rest_in_the_clear_beside_tls_is_not_opened_to_the_network(address):
    arguments = [
        "--ssl_config_file=x", "--rest_api_port=-1", BASE, f"--bind_address={address}"
    ]  # fmt: skip
    with pytest.raises(flags.FlagError, match="--allow_rest_without_tls"):
        flags.parse(arguments)
    _, warnings = flags.parse([*arguments, "--allow_rest_without_tls"])
    assert len(warnings) == 1
    flags.parse([argument for argument in arguments if "ssl" not in argument])


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True),
        ("localhost", True), ("0.0.0.0", False), ("0", False), ("::", False),
        ("", False), ("192.0.2.1", False), ("no such name", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_reaches(address, alone):
    assert flags.is_loopback(address) is alone
