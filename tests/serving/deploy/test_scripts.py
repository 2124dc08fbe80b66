"""The scripts of the deployment folder, run as the pods run them.

ready.sh asks the embedded server, which answers the status and the metadata of a model
as tensorflow/serving's http_rest_api_handler.cc does. For sync.sh a program of this file
stands in for rclone: a folder is the bucket. (By hand the real one, 1.60, did the same.)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.deploy.generate import SCRIPTS
from tests.serving.deploy.test_generate import kind, rendered

READY, SYNC = SCRIPTS / "ready.sh", SCRIPTS / "sync.sh"


def wait_for(condition, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


# Readiness.


def write_config(path: Path, *names: str) -> None:
    """As serving.deploy.configuration writes it; replaced in one step, as there."""
    models = "".join(
        f'config {{ name: "{name}" base_path: "{path.parent}/{name}" '
        'model_platform: "tensorflow" }\n'
        for name in names
    )
    partial = path.with_suffix(".part")
    partial.write_text(f"model_config_list {{\n{models}}}\n")
    partial.replace(path)


@pytest.mark.tf
def test_a_pod_is_ready_while_every_model_has_a_version(tmp_path: Path):
    from serving.server import application
    from serving.server.flags import Flags
    from tests.serving.server import models

    models.write_tf2(tmp_path / "first" / "1")
    config = tmp_path / "models.config"
    write_config(config, "first")
    shutil.copy(READY, tmp_path)
    server = application.start(
        Flags(
            port=0,
            rest_api_port=-1,
            model_config_file=str(config),
            model_config_file_poll_wait_seconds=1,
            file_system_poll_wait_seconds=1,
        )
    )
    rest = server.parts[-1]  # "http://127.0.0.1:NNNN (REST)"
    address = rest.removesuffix(" (REST)")
    port = address.rpartition(":")[2]

    def ready(*names: str) -> bool:
        command = ["bash", str(tmp_path / "ready.sh"), port, *names]
        run = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if run.returncode:
            assert run.stdout.startswith(f"{names[-1]}: no version is available: HTTP")
        return run.returncode == 0

    try:
        assert ready("first")
        # A model that the configuration does not name is nobody's any more.
        assert ready("first", "second")
        (tmp_path / "second").mkdir()
        write_config(config, "first", "second")
        assert not ready("first", "second")
        shutil.copytree(tmp_path / "first", tmp_path / "second", dirs_exist_ok=True)
        wait_for(lambda: ready("first", "second"))
        shutil.rmtree(tmp_path / "second" / "1")
        wait_for(lambda: not ready("first", "second"))
        # Its status, which probes often ask for, is answered with 200 all the same.
        with urllib.request.urlopen(f"{address}/v1/models/second") as answer:
            assert answer.status == 200 and b"AVAILABLE" not in answer.read()
    finally:
        server.stop(0)
    gone = subprocess.run(
        ["bash", str(tmp_path / "ready.sh"), port, "first"],
        capture_output=True,
        timeout=30,
    )
    assert gone.returncode == 1


def test_a_probe_of_a_server_that_hangs_ends_by_itself(tmp_path: Path):
    """Kubernetes leaves a probe that is late running, and starts the next one."""
    shutil.copy(READY, tmp_path)
    write_config(tmp_path / "models.config", "first")
    pod = kind(rendered(), "Deployment")["spec"]["template"]["spec"]
    probe = pod["containers"][0]["readinessProbe"]
    prefix, (script, *_) = probe["exec"]["command"][:3], probe["exec"]["command"][3:]
    assert script == "/config/ready.sh"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        command = [*prefix, str(tmp_path / "ready.sh"), port, "first"]
        began = time.monotonic()
        run = subprocess.run(command, capture_output=True, timeout=30)
        assert run.returncode != 0
        assert 1 < time.monotonic() - began < probe["timeoutSeconds"]


# Copying from a bucket.

# `rclone cat FILE` and `rclone copy FOLDER TARGET`; stops in the middle of a copy while
# the bucket has a file `broken`, and is slow enough to be looked at.
RCLONE = """\
#!/bin/sh
from="$BUCKET/${2#bucket:}"
case $1 in
  cat) exec cat "$from" ;;
  copy)
    [ -d "$from" ] || exit 3
    mkdir -p "$3/variables"
    cp "$from/saved_model.pb" "$3" 2>/dev/null
    sleep 0.1
    [ -e "$BUCKET/broken" ] && exit 1
    cp "$from/variables/weights" "$3/variables"
    ;;
esac
"""


def publish(bucket: Path, version: int) -> None:
    """As components/atomic_pusher/object_storage.py: models.config comes last."""
    folder = bucket / "path" / "cifar"
    (folder / str(version) / "variables").mkdir(parents=True)
    (folder / str(version) / "variables" / "weights").write_text("all")
    (folder / str(version) / "saved_model.pb").write_text("graph")
    name_version(bucket, version)


def name_version(bucket: Path, version: int) -> None:
    (bucket / "path" / "cifar" / "models.config").write_text(
        "# versions: 999 in a comment\n"
        'model_config_list {\n  config {\n    name: "cifar"\n'
        f"    model_version_policy {{ specific {{ versions: {version} }} }}\n  }}\n}}\n"
    )


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[tuple[Path, Path, set[str]]]:
    """The bucket, what the server sees of it, and versions ever seen without a file."""
    bucket, target, half = tmp_path / "bucket", tmp_path / "models", set()
    (bucket / "path" / "cifar").mkdir(parents=True)
    target.mkdir()
    program = tmp_path / "bin" / "rclone"
    program.parent.mkdir()
    program.write_text(RCLONE)
    program.chmod(0o755)
    popen = subprocess.Popen(
        ["sh", str(SYNC), "path", str(target), "cifar"],
        env={
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "BUCKET": str(bucket),
            "PERIOD": "0.05",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.002):
            for version in target.glob("cifar/[0-9]*"):
                names = [version / "saved_model.pb", version / "variables" / "weights"]
                # One that is being removed has its name no more.
                if not all(name.exists() for name in names) and version.exists():
                    half.add(version.name)

    watcher = threading.Thread(target=look)
    watcher.start()
    yield bucket, target, half
    stop.set()
    watcher.join()
    popen.kill()
    popen.wait()


def versions(target: Path) -> list[str]:
    return sorted(path.name for path in target.glob("cifar/[0-9]*"))


def test_a_version_appears_whole_or_not_at_all(synced):
    bucket, target, half = synced
    time.sleep(0.3)
    assert not (target / ".complete").exists()  # nothing is named: not started
    publish(bucket, 5)
    wait_for(lambda: (target / ".complete").exists())
    assert versions(target) == ["5"]
    # Not named, so perhaps not complete.
    unnamed = bucket / "path" / "cifar" / "6"
    unnamed.mkdir()
    (unnamed / "saved_model.pb").write_text("graph")
    (bucket / "broken").touch()
    publish(bucket, 7)
    wait_for(lambda: (target / "cifar" / ".copying-7").exists())
    time.sleep(0.3)
    assert versions(target) == ["5"]  # and the old one serves on
    (bucket / "broken").unlink()
    wait_for(lambda: versions(target) == ["7"])
    assert not (target / "cifar" / ".copying-7").exists()
    assert (target / "cifar" / "7" / "variables" / "weights").read_text() == "all"
    assert half == set()


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config.unlink(),
        lambda config: config.write_text(""),
        lambda config: config.write_text("versions: 8"),  # not there
    ],
)
def test_what_is_there_stays_when_the_bucket_is_wrong(synced, damage):
    bucket, target, _ = synced
    publish(bucket, 5)
    wait_for(lambda: versions(target) == ["5"])
    damage(bucket / "path" / "cifar" / "models.config")
    time.sleep(0.3)
    assert versions(target) == ["5"]
