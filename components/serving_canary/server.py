"""A server of its own process for one model: started, watched, ended for sure.

In: a SavedModel folder and which server. Out: an address to send requests to, or an error
that says what went wrong. Three kinds: the project's own server, the program
tensorflow_model_server, or its Docker image. The first two listen on a Unix socket inside
a folder that only this user can enter, so that no port is opened and none can be taken.

Standard library only. Flags: tensorflow/serving, model_servers/main.cc.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL_NAME = "canary"
VERSION = 1
EMBEDDED, DOCKER_PREFIX = "embedded", "docker:"

_PROJECT = Path(__file__).parents[2]
_GRPC_PORT_IN_IMAGE = 8500  # of tensorflow/serving's images
_DOCKER_SECONDS = 30.0
_LOG_TAIL_BYTES = 20_000
_LONGEST_SOCKET_PATH = 107  # unix(7): sun_path has 108 bytes, one of them is 0
# What a run's own temporary folder and the canary's in it add to TMPDIR.
_INSIDE_TMPDIR = "/run-12345678/canary-12345678/grpc"
# In what every tensorflow_model_server says when a model cannot be loaded: server_core.cc,
# WaitUntilModelsAvailable; core/load_servables_fast.cc.
_MODEL_FAILED = "did not become available"


class ServerMissing(Exception):
    """The configured server cannot be started here; the message says what to do.

    A fault of the machine or of the configuration, not of the model.
    """


class ServerEnded(Exception):
    """The server's process ended although it should serve; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How to start one server."""

    arguments: tuple[str, ...]
    address: str  # as serving.client takes it: "unix:/path" or "127.0.0.1:port"
    stop: tuple[str, ...] = ()  # what has to be run besides ending the process


def check(server: str) -> str:
    """Whether `server` can be started here; returns it with its program's path.

    Args:
        server: "embedded", a path or name of tensorflow_model_server, "docker:<image>".

    Raises:
        ServerMissing: There is no such program, no Docker, or no such image.
    """
    if server == EMBEDDED:
        return server
    name, _, image = server.partition(":")
    if f"{name}:" == DOCKER_PREFIX:  # "docker" alone is no model server either
        _check_image(image.strip(), server)
        return server
    program = shutil.which(server)
    if program is None:
        raise ServerMissing(
            f"canary.server={server}: there is no such program; must be {EMBEDDED}, the "
            f"path of a tensorflow_model_server, or {DOCKER_PREFIX}<image>"
        )
    return os.path.abspath(program)


def check_temporary_folder(server: str) -> None:
    """Whether the server's socket has a place in TMPDIR, before hours are spent on a model.

    Raises:
        ServerMissing: Its path would be too long.
    """
    folder = tempfile.gettempdir()
    longest = _LONGEST_SOCKET_PATH - len(_INSIDE_TMPDIR)
    if not server.startswith(DOCKER_PREFIX) and len(os.fsencode(folder)) > longest:
        raise ServerMissing(
            f"TMPDIR={folder}: too long for the Unix socket of the canary's server, which "
            f"leaves it {longest} bytes; set TMPDIR to a shorter folder"
        )


def _check_image(image: str, server: str) -> None:
    """Pulling is left to people: it takes minutes and would count as loading time."""
    if not image:
        raise ServerMissing(
            f"canary.server={server}: must name an image, for example "
            "docker:tensorflow/serving"
        )
    if shutil.which("docker") is None:
        raise ServerMissing(
            f"canary.server={server}: there is no program docker on this machine; "
            f"install it, or choose canary.server={EMBEDDED}"
        )
    try:
        subprocess.run(
            ["docker", "image", "inspect", image],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_DOCKER_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ServerMissing(
            f"canary.server={server}: {message[-1] if message else 'no such image'}; "
            f"docker pull {image} fetches an image"
        ) from None
    except subprocess.TimeoutExpired:
        raise ServerMissing(
            f"canary.server={server}: docker did not answer in {_DOCKER_SECONDS:g} s"
        ) from None


def command(server: str, model: Path, workspace: Path) -> Command:
    """The command line that serves one SavedModel.

    Args:
        server: As `check` returned it.
        model: SavedModel folder; local.
        workspace: Folder for the socket and for the base folder with version 1.
    """
    if server.startswith(DOCKER_PREFIX):
        return _docker(server.removeprefix(DOCKER_PREFIX), model)
    base = workspace / MODEL_NAME
    base.mkdir()
    (base / str(VERSION)).symlink_to(model.absolute(), target_is_directory=True)
    path = str(workspace / "grpc")
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise ServerMissing(
            f"{path}: too long for a Unix socket; set TMPDIR to a shorter folder"
        )
    if server == EMBEDDED:
        program, flag = (sys.executable, "-m", "serving.server"), path
    else:
        # server.cc puts "unix:" before it, and gRPC reads a URI.
        program, flag = (server,), urllib.parse.quote(path)
    arguments = (
        *program,
        "--port=0",
        "--rest_api_port=0",
        f"--grpc_socket_path={flag}",
        f"--model_name={MODEL_NAME}",
        f"--model_base_path={base}",
        # A model that cannot be loaded ends the server at once.
        "--max_num_load_retries=0",
        "--file_system_poll_wait_seconds=0",
    )
    return Command(arguments=arguments, address=f"unix:{path}")


def _docker(image: str, model: Path) -> Command:
    port = _free_port()
    name = f"{MODEL_NAME}-{secrets.token_hex(6)}"
    inside = f"/models/{MODEL_NAME}"
    return Command(
        arguments=(
            "docker",
            "run",
            "--rm",
            "--pull=never",
            f"--name={name}",
            f"--publish=127.0.0.1:{port}:{_GRPC_PORT_IN_IMAGE}",
            f"--mount=type=bind,source={model.absolute()},"
            f"target={inside}/{VERSION},readonly",
            image,
            f"--port={_GRPC_PORT_IN_IMAGE}",
            f"--model_name={MODEL_NAME}",
            f"--model_base_path={inside}",
            "--max_num_load_retries=0",
        ),
        address=f"127.0.0.1:{port}",
        # Ending docker's client process does not end the container.
        stop=("docker", "rm", "--force", name),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """A server's process."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: Path):
        self.address = address
        self.started = time.monotonic()
        self._process = process
        self._log = log

    def check_alive(self, doing: str) -> None:
        """Raises ServerEnded, with the log's last words, if the process is gone.

        Args:
            doing: What it should have done, e.g. "loading the model".
        """
        status = self._process.poll()
        if status is None:
            return
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise ServerEnded(
            f"the server ended while {doing} ({how}): {last_words(self._log)}"
        )

    def wait_for_socket(self, until: float) -> bool:
        """Waits until something listens at the address; False once `until` has passed.

        Args:
            until: time.monotonic() seconds.

        Raises:
            ServerEnded: The process is gone, because of the model.
            ServerMissing: It is gone for another reason: nothing is known of the model.
        """
        while not _listens(self.address):
            self._check_started()
            self.check_alive("loading the model")
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        return True

    def _check_started(self) -> None:
        """A server that gives up by itself says so if it is for the model."""
        status = self._process.poll()
        if not status or status < 0:
            return
        if _MODEL_FAILED not in self._log.read_text(encoding="utf-8", errors="replace"):
            raise ServerMissing(
                f"the canary's server cannot be started (exit status {status}): "
                f"{last_words(self._log)}"
            )


@contextlib.contextmanager
def running(start: Command, log: Path) -> Iterator[Running]:
    """Starts a server and ends it, whatever happens in between or to this process.

    Args:
        start: What to run.
        log: File for what the server prints.

    Raises:
        ServerMissing: The program cannot be started.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                start.arguments,
                cwd=_PROJECT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, to end as a whole
            )
        except OSError as error:
            raise ServerMissing(
                f"{start.arguments[0]} cannot be started: {error.strerror}"
            ) from None
    guard = _guard(process.pid)
    try:
        yield Running(process, start.address, log)
    finally:
        try:
            _end(process)
        finally:
            guard.kill()
            guard.communicate()
            if start.stop:
                subprocess.run(
                    start.stop,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=_DOCKER_SECONDS,
                    check=False,
                )


def last_words(log: Path) -> str:
    """The last line of a server's log that says why; best effort."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it printed nothing"
    telling = [line for line in lines if "error" in line.lower()]
    return (telling or lines)[-1][:500]


def _environment() -> dict[str, str]:
    # The process that runs the pipeline may hold all of a GPU's memory; the canary asks
    # whether the model can be served, which the processor can tell as well.
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}


def _guard(group: int) -> subprocess.Popen[bytes]:
    """A shell that ends the group when this process dies, also by SIGKILL.

    It reads from a pipe whose other end only this process holds: end of file means that
    the process is gone.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -s KILL -- "-$1"', "sh", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the whole process group: it has nothing to save.

    Also when the process itself is gone: it may have left others in its group.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _listens(address: str) -> bool:
    if address.startswith("unix:"):
        family, target = socket.AF_UNIX, address.removeprefix("unix:")
    else:
        host, port = address.rsplit(":", 1)
        family, target = socket.AF_INET, (host, int(port))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(target)
        except OSError:
            return False
    return True
