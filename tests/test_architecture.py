"""The house: what import-linter's contracts cannot say, and that they can fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ROOMS = (
    "benchmarks",
    "components",
    "contract",
    "monitoring",
    "pipeline",
    "serving",
    "studies",
    "trainer",
)
LINT = Path(sys.executable).with_name("lint-imports")


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_leaf_loads_the_standard_library_and_numpy_alone():
    allowed = {*sys.stdlib_module_names, "contract", "numpy"}
    for path in (PROJECT / "contract").rglob("*.py"):
        tops = {name.split(".")[0] for name in imported(path)}
        assert tops <= allowed, path


def test_only_vertex_knows_the_sdk_of_vertex_ai():
    using = {
        path.relative_to(PROJECT).as_posix()
        for room in ROOMS
        for path in (PROJECT / room).rglob("*.py")
        if any(
            name.startswith(("google.cloud.aiplatform", "kfp"))
            for name in imported(path)
        )
    }
    assert using
    assert all(name.startswith("pipeline/vertex/") for name in using), using


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for room in (*ROOMS, "scripts"):
        shutil.copytree(
            PROJECT / room,
            folder / room,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


def lint(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-cache", "--no-logo"],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": "", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_contracts_are_kept():
    done = lint(PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        (
            "components/artifacts.py",
            "import pipeline.presets",
            "Rooms import downwards",
        ),
        ("contract/paths.py", "import trainer.units", "Rooms import downwards"),
        ("trainer/tables.py", "import serving.quiet", "Rooms import downwards"),
        ("monitoring/lineage.py", "import pipeline.dag", "Rooms import downwards"),
        ("pipeline/nodes.py", "import studies.propagation", "Rooms import downwards"),
        (
            "pipeline/local/space.py",
            "def f():\n    from pipeline.vertex import place",
            "An engine knows nothing of another one",
        ),
        ("pipeline/resolve.py", "import pipeline.local.space", "know no engine"),
        ("serving/client/retry.py", "import serving.server.errors", "products"),
        ("serving/quiet.py", "import contract.paths", "Serving needs nothing"),
        (
            "components/serving_canary/server.py",
            "import serving.server.flags",
            "as clients do",
        ),
        ("trainer/tables.py", "import trainer.units", "No circle of files"),
    ],
)
def test_an_import_against_the_direction_is_found(copy, file, line, broken):
    path = copy / file
    before = path.read_text("utf-8")
    path.write_text(f"{before}\n{line}\n", "utf-8")
    try:
        done = lint(copy)
    finally:
        path.write_text(before, "utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"{broken}.* BROKEN", done.stdout), done.stdout


# What only the table of data sets and tests may say: everything else reads it beside the
# examples, or in the model. Benchmarks make data of their own.
MAY_NAME_A_SHAPE = ("contract/", "benchmarks/", "tests/")
SHAPES = r"3_?072|IMAGE_BYTES|\(32, 32|IMAGE_SHAPE|\b(airplane|aquarium_fish|fruit_and)"


def test_sizes_and_class_names_stand_in_one_place():
    found = [
        f"{name}: {line.strip()}"
        for room in (*ROOMS, "scripts")
        for path in (PROJECT / room).rglob("*.py")
        for name in [path.relative_to(PROJECT).as_posix()]
        for line in path.read_text("utf-8").splitlines()
        if re.search(SHAPES, line) and not name.startswith(MAY_NAME_A_SHAPE)
    ]
    assert not found
    # It can fail: the table does say such things.
    assert re.search(SHAPES, (PROJECT / "contract/datasets.py").read_text("utf-8"))


def test_the_drawing_is_current():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.architecture", "--check"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_every_file_that_the_page_names_is_there():
    page = (PROJECT / "docs/architecture.md").read_text("utf-8")
    links = re.findall(r"\]\((?!https:)([^)#]+)", page)
    assert len(links) > 10
    for link in links:
        assert (PROJECT / "docs" / link).exists(), link
    edited = re.findall(r"^\| ([a-z/_., ]+) \|", page.split("## When")[1], re.M)
    for name in ", ".join(edited).split(", "):
        if name != "edited":
            assert (PROJECT / name).exists(), name
