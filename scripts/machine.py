"""What this machine is: system, Python 3.11, glibc, space; what it lacks, and the remedy.

Looks, and changes nothing.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

# glibc that ml-metadata's and tensorflow-data-validation's wheels ask for.
WHEELS_NEED = (2, 39)
# With the fixes of tempfile (3.11.8, CVE-2023-6597) and tarfile (3.11.13, CVE-2025-4517).
SECURE_PYTHON = (3, 11, 13)
FREE_GB = 5.0  # .venv takes 4.0, its compiled modules 0.5; uv's cache shares its files

_FACTS = """
import importlib.util, json, os, platform, sys, sysconfig
base = os.path.join(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2])
print(json.dumps({
    "path": os.path.realpath(base if os.path.exists(base) else sys.executable),
    "version": list(sys.version_info[:3]),
    "venv": importlib.util.find_spec("venv") is not None,
    "ensurepip": importlib.util.find_spec("ensurepip") is not None,
    "headers": os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"),
    "library_folder": sysconfig.get_config_var("LIBDIR") or "",
    "compiler": (sysconfig.get_config_var("CC") or "").split(" ")[0],
    "c_library": list(platform.libc_ver()),
}))
"""


class Interpreter(NamedTuple):
    """One Python as it describes itself, seen past any virtual environment."""

    path: str
    version: list[int]
    venv: bool
    ensurepip: bool
    headers: bool
    library_folder: str
    compiler: str
    c_library: list[str]  # name and version, e.g. ["glibc", "2.36"]


class Host(NamedTuple):
    """What the set-up has to know about the machine."""

    system: str  # "Linux", "Darwin"
    processor: str  # "x86_64", "arm64", ...
    distribution: str  # ID of os-release, e.g. "debian"; empty elsewhere


def content(path: str) -> str:
    """Text of a file; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def this_host() -> Host:
    """Reads system, processor and distribution of this machine."""
    match = re.search(r'^ID="?([\w.-]+)', content("/etc/os-release"), re.MULTILINE)
    return Host(platform.system(), platform.machine(), match.group(1) if match else "")


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.36-9+deb12u9" -> (2, 36)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def needs_private_c_library(python: Interpreter, host: Host) -> bool:
    """Whether the system's glibc is too old for the wheels."""
    version = parse_version(python.c_library[1])
    return host.system == "Linux" and version < WHEELS_NEED


def python_candidates() -> list[str]:
    """Where a Python 3.11 may be, best first."""
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(
        os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local/share"),
        "uv/python",
    )
    found = [sys.executable] if sys.version_info[:2] == (3, 11) else []
    found += [
        os.path.join(folder, "python3.11")
        for folder in os.environ.get("PATH", "").split(os.pathsep)
    ]
    for pattern in (
        os.path.join(pyenv, "versions/3.11*/bin/python3.11"),
        os.path.join(uv, "cpython-3.11*/bin/python3.11"),
        "/usr/bin/python3.11",
        "/usr/local/bin/python3.11",
        "/opt/homebrew/bin/python3.11",
        "/opt/python*/bin/python3.11",
    ):
        found += sorted(glob.glob(pattern), reverse=True)
    return [path for path in dict.fromkeys(found) if os.access(path, os.X_OK)]


def describe_interpreter(path: str) -> Interpreter | None:
    """Asks an interpreter about itself; None when it does not start or is no 3.11."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _FACTS], capture_output=True, text=True, timeout=60
        )
        facts = Interpreter(**json.loads(answer.stdout))
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired):
        return None
    if facts.version[:2] != [3, 11]:
        return None
    if facts.path != os.path.realpath(path):
        # An environment's interpreter, perhaps with a C library of its own: ask the
        # interpreter that it was made from.
        return describe_interpreter(facts.path)
    return facts


def find_python() -> Interpreter | None:
    """The first complete Python 3.11, else the first one at all."""
    first = None
    for path in python_candidates():
        python = describe_interpreter(path)
        if python and python.venv and python.headers:
            return python
        first = first or python
    return first


def missing(host: Host, python: Interpreter | None, uv: str | None) -> list[str]:
    """One line for each thing that the set-up cannot do without, with its remedy."""
    lines = []
    if (host.system, host.processor) not in (("Linux", "x86_64"), ("Darwin", "arm64")):
        lines.append(
            f"a supported machine: this one is {host.system} on {host.processor}; "
            "ml-metadata has wheels for Linux on x86_64 and macOS on arm64 only "
            "(in a container: --platform linux/amd64)"
        )
        return lines  # what else is missing would only mislead
    if python is None:
        lines.append(
            "Python 3.11: `apt-get install python3.11 python3.11-venv python3.11-dev`, "
            "`pyenv install 3.11` or `uv python install 3.11`"
        )
    else:
        lines += _missing_from_python(host, python, uv)
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        remedy = (
            "`xcode-select --install`"
            if host.system == "Darwin"
            else "`apt-get install g++`"
        )
        lines.append(f"a C++ compiler (pyfarmhash is built from source): {remedy}")
    return lines


def _missing_from_python(host: Host, python: Interpreter, uv: str | None) -> list[str]:
    lines = []
    if not python.venv or not (python.ensurepip or uv):
        lines.append(
            f"the venv and ensurepip modules of {python.path}: "
            "`apt-get install python3.11-venv`"
        )
    if not python.headers:
        lines.append(
            f"the C headers (Python.h) of {python.path}: "
            "`apt-get install python3.11-dev`"
        )
    if host.system == "Linux" and python.c_library[0] != "glibc":
        lines.append(
            "glibc: this system has another C library (musl?), for which TensorFlow "
            "has no wheels; use Debian, Ubuntu or Fedora"
        )
    elif needs_private_c_library(python, host):
        tools = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
        if host.distribution != "debian" or tools:
            lines.append(
                f"glibc 2.39 or newer: this system has {python.c_library[1]}, and only "
                "Debian (with apt-get and dpkg-deb) can be given a private newer one; "
                "use Debian 12 or newer, Ubuntu 24.04, Fedora 40, or the container image "
                "python:3.11-trixie"
            )
    return lines


def missing_space(environment: str, project: str) -> list[str]:
    """A line if the disk is too full for a new environment.

    An old environment is not judged: its space is freed first.
    """
    free = shutil.disk_usage(environment).free / 1e9
    if os.path.exists(os.path.join(environment, "lib")) or free >= FREE_GB:
        return []
    return [f"{FREE_GB:g} GB of free disk at {project}: there are {free:.1f}"]


def old_python(version: str) -> str:
    """What to say of a Python that works, and has known holes."""
    secure = ".".join(map(str, SECURE_PYTHON))
    return (
        f"warning: Python {version} lacks security fixes of tarfile and tempfile that "
        f"{secure} has; install a newer 3.11, then `make clean setup`"
    )
