"""Compiles the lock files from pyproject.toml, or says that they are stale.

In: the dependency tables of pyproject.toml. Out: requirements.txt (what a run needs)
and requirements-dev.txt (tests, linters), every package pinned with its hashes, for all
supported machines at once; and, for Linux alone, what the images for GPUs and TPUs have
besides (deploy/images/). `--check` needs no network: each lock carries a hash of the
tables it was compiled from. Other arguments go to uv, e.g. `--upgrade-package keras`.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib

PROJECT = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
RUNTIME, DEVELOPMENT = "requirements.txt", "requirements-dev.txt"
GPU, TPU = "deploy/images/requirements-gpu.txt", "deploy/images/requirements-tpu.txt"
LOCKS = (RUNTIME, DEVELOPMENT, GPU, TPU)
_EVERYWHERE = ["--universal", "--python-version", "3.11"]
_IN_IMAGES = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_39"]
_MARK = "# compiled from pyproject.toml by `make lock`; its dependency tables: sha256:"


def main(arguments: list[str]) -> int:
    """Compiles, or with `--check` compares; returns the exit code."""
    if "--check" in arguments:
        stale = [name for name in LOCKS if not is_current(name)]
        if stale:
            print(f"{' and '.join(stale)} older than pyproject.toml; run `make lock`")
        return 1 if stale else 0
    compile_lock(RUNTIME, [*_EVERYWHERE, "pyproject.toml", *arguments])
    development = ["--group", "dev", "-c", RUNTIME]
    compile_lock(DEVELOPMENT, [*_EVERYWHERE, *development, *arguments])
    # The images install these after requirements.txt, so only what that lacks.
    there = [f"--no-emit-package={name}" for name in locked(RUNTIME)]
    gpu = ["--group", "gpu", "-c", RUNTIME, *there]
    compile_lock(GPU, [*_IN_IMAGES, *gpu, *arguments])
    compile_lock(TPU, [*_IN_IMAGES, "--group", "tpu", "--no-deps", *arguments])
    return 0


def locked(name: str) -> list[str]:
    """The packages of a lock."""
    with open(os.path.join(PROJECT, name), encoding="utf-8") as file:
        return re.findall(r"^([A-Za-z0-9_.-]+)==", file.read(), re.MULTILINE)


def is_current(name: str) -> bool:
    """Whether a lock was compiled from the present dependency tables."""
    try:
        with open(os.path.join(PROJECT, name), encoding="utf-8") as file:
            return file.readline().strip() == _MARK + table_hash()
    except FileNotFoundError:
        return False


def table_hash() -> str:
    """Hash of everything in pyproject.toml that decides what is installed."""
    with open(os.path.join(PROJECT, "pyproject.toml"), "rb") as file:
        tables = tomllib.load(file)
    chosen = [
        tables["project"]["requires-python"],
        tables["project"]["dependencies"],
        # The group `bench` is installed by hand, if at all.
        {name: tables["dependency-groups"][name] for name in ("dev", "gpu", "tpu")},
        tables["tool"]["uv"],
    ]
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def compile_lock(name: str, arguments: list[str]) -> None:
    """Resolves with uv, which keeps the versions of the present lock if it can."""
    command = [sys.executable, "-m", "uv", "pip", "compile"]
    command += ["--generate-hashes", "--no-header", "--quiet", "--output-file", name]
    command += arguments
    subprocess.run(command, cwd=PROJECT, check=True)
    path = os.path.join(PROJECT, name)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{_MARK}{table_hash()}\n{without_common_marker(text)}")


def without_common_marker(lock: str) -> str:
    """Removes the marker that says no more than "one of the supported machines".

    It doubles the file, and on any other machine pip would skip every line and report
    success; without it the machine is told which package has no wheel for it.
    """
    markers = collections.Counter(
        re.findall(r"(?<=\S) ; (.*?)(?= \\$)", lock, re.MULTILINE)
    )
    if not markers:
        return lock
    ((common, _),) = markers.most_common(1)
    return lock.replace(f" ; {common} \\\n", " \\\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
