"""Processes of the canary's server: command lines, and that none is left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from components.serving_canary import server
from serving.client.options import parse_address
from tests.serving.server import processes

ROOT = Path(__file__).parents[3]
# A program that leaves a child of its own, ignores SIGTERM and listens nowhere.
STUBBORN = """\
#!/bin/sh
trap '' TERM
sleep 600 &
echo $! > {pids}
echo $$ >> {pids}
wait
"""


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def pids(file: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = file.read_text().split() if file.exists() else []
        if len(found) == 2:
            return [int(pid) for pid in found]
        time.sleep(0.02)
    raise AssertionError("the program did not start")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def assert_gone(numbers: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, numbers))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


def start(path: Path, tmp_path: Path) -> server.Command:
    return server.Command(arguments=(str(path),), address=f"unix:{tmp_path}/nobody")


@needs_proc
def test_the_whole_group_is_ended(tmp_path):
    path = program(tmp_path / "server", STUBBORN.format(pids=tmp_path / "pids"))
    with (
        pytest.raises(ZeroDivisionError),
        server.running(start(path, tmp_path), tmp_path / "log") as running,
    ):
        numbers = pids(tmp_path / "pids")
        assert all(map(is_alive, numbers))
        assert running.wait_for_socket(time.monotonic() + 0.1) is False
        raise ZeroDivisionError
    assert_gone(numbers)


@needs_proc
def test_it_ends_with_the_process_that_started_it(tmp_path):
    path = program(tmp_path / "server", STUBBORN.format(pids=tmp_path / "pids"))
    code = f"""
        import time
        from pathlib import Path
        from components.serving_canary import server
        command = server.Command(arguments=({str(path)!r},), address="unix:/nobody")
        with server.running(command, Path({str(tmp_path / "log")!r})):
            Path({str(tmp_path / "guarded")!r}).touch()
            time.sleep(600)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    try:
        numbers = pids(tmp_path / "pids")
        processes.wait_for((tmp_path / "guarded").exists)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait(30)
    assert_gone(numbers)


@pytest.mark.parametrize(
    "text",
    [  # tensorflow/serving's, old and new, and serving.server's
        "Error: Some models did not become available: {canary 1, }",
        "Error: 1 model(s) did not become available: {{canary 1 due to error: no}}",
        "Error: UNKNOWN: 1 servable(s) did not become available: {Name: canary}",
    ],
)
def test_a_model_that_cannot_be_loaded_is_told_with_the_last_words(tmp_path, text):
    path = program(tmp_path / "server", f"#!/bin/sh\necho '{text}'\necho bye\nexit 3\n")
    with (
        server.running(start(path, tmp_path), tmp_path / "log") as running,
        pytest.raises(server.ServerEnded) as caught,
    ):
        running.wait_for_socket(time.monotonic() + 30)
    assert str(caught.value) == (
        f"the server ended while loading the model (exit status 3): {text}"
    )


def test_a_server_that_cannot_start_says_nothing_of_the_model(tmp_path):
    path = program(
        tmp_path / "server", "#!/bin/sh\necho Error: cannot listen\necho bye\nexit 3\n"
    )
    with (
        server.running(start(path, tmp_path), tmp_path / "log") as running,
        pytest.raises(server.ServerMissing) as caught,
    ):
        running.wait_for_socket(time.monotonic() + 30)
    assert str(caught.value) == (
        "the canary's server cannot be started (exit status 3): Error: cannot listen"
    )


def test_a_temporary_folder_too_long_for_a_socket_is_known_at_once(monkeypatch):
    """By 107 bytes of unix(7); the folders of run and canary have 8 random letters."""
    for length, fits in ((73, True), (74, False)):
        folder = "/" + "é" * ((length - 1) // 2) + "e" * ((length - 1) % 2)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        deepest = f"{folder}/run-12345678/canary-12345678/grpc"
        assert (len(deepest.encode()) <= 107) == fits
        if fits:
            server.check_temporary_folder(server.EMBEDDED)
            continue
        with pytest.raises(
            server.ServerMissing, match="set TMPDIR to a shorter folder"
        ):
            server.check_temporary_folder(server.EMBEDDED)
        server.check_temporary_folder("docker:tensorflow/serving")


@pytest.mark.parametrize("name", ["a b", "a%20b", "a#b", "a?b", "ümlaut", "a;b&c=d"])
def test_a_socket_in_any_folder(tmp_path, name):
    """Of tensorflow_model_server: server.cc gives gRPC "unix:" and the flag's value."""
    model, workspace = tmp_path / "model", tmp_path / name
    model.mkdir()
    workspace.mkdir()
    made = server.command("/bin/tensorflow_model_server", model, workspace)
    (flag,) = (a for a in made.arguments if a.startswith("--grpc_socket_path="))
    grpc_server = grpc.server(ThreadPoolExecutor(1))
    assert grpc_server.add_insecure_port("unix:" + flag.partition("=")[2])
    grpc_server.start()
    assert (workspace / "grpc").is_socket()
    assert made.address == f"unix:{workspace}/grpc"
    with grpc.insecure_channel(parse_address(made.address).target) as channel:
        grpc.channel_ready_future(channel).result(30)
    grpc_server.stop(0).wait()


def test_a_program_that_is_none(tmp_path):
    path = program(tmp_path / "server", "\x7fELF, but not really")
    with (
        pytest.raises(server.ServerMissing, match="cannot be started"),
        server.running(start(path, tmp_path), tmp_path / "log"),
    ):
        pass


def test_a_missing_program_is_the_machines_fault(tmp_path):
    missing = str(tmp_path / "tensorflow_model_server")
    with pytest.raises(server.ServerMissing) as caught:
        server.check(missing)
    assert str(caught.value) == (
        f"canary.server={missing}: there is no such program; must be embedded, the path "
        "of a tensorflow_model_server, or docker:<image>"
    )


def test_a_program_is_found_by_name_too(tmp_path, monkeypatch):
    path = program(tmp_path / "tensorflow_model_server", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert server.check("tensorflow_model_server") == str(path)
    assert server.check(str(path)) == str(path)
    assert server.check("embedded") == "embedded"


def test_without_docker(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(server.ServerMissing, match="no program docker"):
        server.check("docker:tensorflow/serving")
    for nameless in ("docker:", "docker"):
        with pytest.raises(server.ServerMissing, match="must name an image"):
            server.check(nameless)


def test_an_image_that_is_not_there(tmp_path, monkeypatch):
    """With a program in docker's place that answers as it does."""
    program(
        tmp_path / "docker",
        '#!/bin/sh\n[ "$*" = "image inspect here" ] && exit 0\n'
        'echo "Error: No such image: $3" >&2\nexit 1\n',
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert server.check("docker:here") == "docker:here"
    with pytest.raises(server.ServerMissing) as caught:
        server.check("docker:tensorflow/serving:9")
    assert str(caught.value) == (
        "canary.server=docker:tensorflow/serving:9: Error: No such image: "
        "tensorflow/serving:9; docker pull tensorflow/serving:9 fetches an image"
    )


def test_the_command_line_of_tensorflow_model_server(tmp_path):
    (tmp_path / "model").mkdir()
    command = server.command("/opt/server", tmp_path / "model", tmp_path)
    assert command.arguments == (
        "/opt/server",
        "--port=0",
        "--rest_api_port=0",
        f"--grpc_socket_path={tmp_path}/grpc",
        "--model_name=canary",
        f"--model_base_path={tmp_path}/canary",
        "--max_num_load_retries=0",
        "--file_system_poll_wait_seconds=0",
    )
    assert command.address == f"unix:{tmp_path}/grpc"
    assert command.stop == ()
    assert (tmp_path / "canary/1").resolve() == tmp_path / "model"


def test_the_command_line_of_docker(tmp_path):
    command = server.command("docker:tensorflow/serving:2.19", tmp_path, tmp_path)
    host, port = command.address.split(":")
    assert host == "127.0.0.1"
    (name,) = [a.removeprefix("--name=") for a in command.arguments if "--name=" in a]
    image = command.arguments.index("tensorflow/serving:2.19")
    options, flags = command.arguments[:image], command.arguments[image + 1 :]
    assert options == (
        "docker",
        "run",
        "--rm",
        "--pull=never",
        f"--name={name}",
        f"--publish=127.0.0.1:{port}:8500",
        f"--mount=type=bind,source={tmp_path},target=/models/canary/1,readonly",
    )
    assert flags == (
        "--port=8500",
        "--model_name=canary",
        "--model_base_path=/models/canary",
        "--max_num_load_retries=0",
    )
    # Ending the client would leave the container.
    assert command.stop == ("docker", "rm", "--force", name)


def test_the_container_is_removed_in_the_end(tmp_path, monkeypatch):
    program(tmp_path / "docker", f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command = server.command("docker:image", tmp_path, tmp_path)
    with server.running(command, tmp_path / "log"):
        pass
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-1] == " ".join(command.stop[1:])


def test_a_folder_too_deep_for_a_socket(tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(server.ServerMissing, match="TMPDIR"):
        server.command("/opt/server", tmp_path, deep)
