"""What scripts/machine.py says of a machine."""

import pathlib
import sys

import pytest

from scripts import machine

PROJECT = pathlib.Path(__file__).parents[2]
DEBIAN = ("Linux", "x86_64", "debian")


def python(**changes):
    complete = machine.Interpreter(
        path="/usr/bin/python3.11",
        version=[3, 11, 2],
        venv=True,
        ensurepip=True,
        headers=True,
        library_folder="/usr/lib/x86_64-linux-gnu",
        compiler="gcc",
        c_library=["glibc", "2.36"],
    )
    return complete._replace(**changes)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.36", (2, 36)),
        ("2.36-9+deb12u9", (2, 36)),
        ("0.13.8\n", (0, 13, 8)),
        ("", ()),
    ],
)
def test_parse_version(text, version):
    assert machine.parse_version(text) == version


@pytest.mark.parametrize(
    ("system", "c_library", "private"),
    [
        ("Linux", ["glibc", "2.36"], True),
        ("Linux", ["glibc", "2.39"], False),
        ("Linux", ["glibc", "2.41"], False),
        ("Darwin", ["", ""], False),
    ],
)
def test_only_an_old_glibc_gets_a_private_one(system, c_library, private):
    host = machine.Host(system, "x86_64", "debian")
    assert machine.needs_private_c_library(python(c_library=c_library), host) is private


@pytest.mark.parametrize(
    ("host", "found", "words"),
    [
        (("Linux", "aarch64", "debian"), python(), ["Linux on aarch64", "amd64"]),
        (("Darwin", "x86_64", ""), python(), ["Darwin on x86_64"]),
        (DEBIAN, None, ["Python 3.11", "python3.11-dev", "pyenv", "uv python install"]),
        (DEBIAN, python(ensurepip=False), ["ensurepip", "python3.11-venv"]),
        (DEBIAN, python(venv=False), ["venv", "python3.11-venv"]),
        (DEBIAN, python(headers=False), ["Python.h", "python3.11-dev"]),
        (DEBIAN, python(c_library=["", ""]), ["musl"]),
        (
            ("Linux", "x86_64", "ubuntu"),
            python(c_library=["glibc", "2.35"]),
            ["has 2.35", "Ubuntu 24.04", "trixie"],
        ),
    ],
)
def test_one_line_names_the_missing_thing_and_the_remedy(
    host, found, words, monkeypatch
):
    monkeypatch.setattr(machine.shutil, "which", lambda name, **_: f"/bin/{name}")
    (line,) = machine.missing(machine.Host(*host), found, None)
    for word in words:
        assert word in line


def test_everything_that_is_missing_is_named_at_once(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    lines = machine.missing(machine.Host(*DEBIAN), python(headers=False), None)
    text = "\n".join(lines)
    for word in ("Python.h", "C++ compiler", "apt-get and dpkg-deb"):
        assert word in text


def test_a_complete_machine_misses_nothing(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name, **_: f"/bin/{name}")
    assert machine.missing(machine.Host(*DEBIAN), python(), None) == []
    no_ensurepip = python(ensurepip=False, c_library=["glibc", "2.41"])
    assert machine.missing(machine.Host(*DEBIAN), no_ensurepip, "/bin/uv") == []


def test_the_own_interpreter_describes_what_it_was_made_from():
    facts = machine.describe_interpreter(sys.executable)
    assert facts.version[:2] == [3, 11]
    assert not facts.path.startswith(str(PROJECT / ".venv"))


def test_something_that_is_no_python_is_passed_over(tmp_path):
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\necho 'version not installed' >&2; exit 127\n")
    shim.chmod(0o755)
    assert machine.describe_interpreter(str(shim)) is None
    assert machine.describe_interpreter("/bin/true") is None
    assert machine.describe_interpreter("/nonexistent") is None
