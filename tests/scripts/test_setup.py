"""The entry, scripts/setup.py: by any Python, from any folder, with nothing installed."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from scripts import environment

PROJECT = pathlib.Path(__file__).parents[2]
FILES = {path.name for path in (PROJECT / "scripts").glob("*.py")} - {
    "architecture.py",
    "site.py",
    "import_contracts.py",
    "lock.py",
    "report_picture.py",
}


def pythons(*versions):
    """Those of some versions that this machine has, outside .venv."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    found = [p for v in versions for p in pyenv.glob(f"versions/{v}*/bin/python{v}")]
    return found + [p for v in versions if (p := shutil.which(f"python{v}"))]


@pytest.fixture
def empty_machine(tmp_path):
    """Runs the entry of a copy, where no Python 3.11 and no program is to be found."""
    scripts = tmp_path / "my project" / "scripts"
    shutil.copytree(PROJECT / "scripts", scripts)
    text = (scripts / "machine.py").read_text()
    for place in (
        "/usr/bin",
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/opt/python*/bin",
    ):
        text = text.replace(f'"{place}/python3.11"', '"/nonexistent"')
    (scripts / "machine.py").write_text(text)

    def run(*command, **variables):
        variables = {"PATH": "/nonexistent", "HOME": str(tmp_path), **variables}
        script = scripts / "setup.py"
        answer = subprocess.run(
            [*command, script], env=variables, cwd="/", capture_output=True, text=True
        )
        assert answer.returncode == 1
        assert answer.stdout == "" and "Traceback" not in answer.stderr
        return answer.stderr.strip()

    return run


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_files_parse_on_python_3_8(name):
    ast.parse((PROJECT / "scripts" / name).read_text(), feature_version=(3, 8))


def test_the_stamp_knows_every_file_of_the_set_up():
    """The standard library alone, and of the project what the stamp has a hash of."""
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print(*(f for m in list(sys.modules.values()) "
        "if (f := getattr(m, '__file__', None))), sep='\\n')"
    )
    script = str(PROJECT / "scripts/setup.py")
    command = [sys.executable, "-I", "-S", "-c", program, script]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = [pathlib.Path(line) for line in answer.stdout.splitlines()]
    own = {p.name for p in loaded if p.is_relative_to(PROJECT / "scripts")}
    stamped = {*environment.CODE, "c_library.py"}
    assert own | {"setup.py"} == stamped | {"__init__.py"} == FILES
    assert not [p for p in loaded if "site-packages" in p.parts]


def test_an_empty_machine_is_told_what_to_install(empty_machine):
    found = pythons("3.8", "3.12", "3.13", "3.9")
    if not found:
        pytest.skip("this machine has no Python other than 3.11")
    told = empty_machine(found[0])
    assert "Python 3.11" in told and "C++ compiler" in told


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_an_old_python_gets_one_sentence(empty_machine, version):
    found = pythons(version)
    if not found:
        pytest.skip(f"this machine has no Python {version}")
    (line,) = empty_machine(found[0]).splitlines()
    assert line.startswith(f"set-up stopped: Python {version} cannot start it")
    assert "make setup PYTHON=python3.11" in line and "apt-get install" in line


def test_a_foreign_package_of_its_name_is_not_loaded(empty_machine, tmp_path):
    (tmp_path / "foreign/scripts").mkdir(parents=True)
    (tmp_path / "foreign/scripts/__init__.py").write_text("raise SystemExit('foreign')")
    # Python leaves the script's own folder out of its path, too.
    variables = {"PYTHONPATH": str(tmp_path / "foreign"), "PYTHONSAFEPATH": "1"}
    assert "this machine lacks" in empty_machine(sys.executable, **variables)
