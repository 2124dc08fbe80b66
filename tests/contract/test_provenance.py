"""The digest of code: what a node runs changes it, what lies beside that does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract.provenance import source_digest

PROJECT = Path(__file__).parents[2]
CANARY = ("components/serving_canary/executor.py", "serving/server/__main__.py")
TRAINER = ("trainer/run.py",)


@pytest.fixture
def copy(tmp_path) -> Path:
    for room in ("components", "contract", "pipeline", "serving", "trainer"):
        shutil.copytree(
            PROJECT / room,
            tmp_path / room,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def digests(project: Path) -> dict[tuple[str, ...], str]:
    return {
        scripts: source_digest(*scripts, project=project)
        for scripts in (CANARY, TRAINER)
    }


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_installing_the_client_leaves_nothing_and_changes_nothing(
    copy, tmp_path_factory
):
    before, present = digests(copy), files(copy)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index",
         "--no-build-isolation", "--target", tmp_path_factory.mktemp("prefix"),
         "./serving/client"],
        cwd=copy, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert files(copy) == present
    assert digests(copy) == before


LEFT_BESIDE = [
    "serving/client/build/lib/serving/client/answers.py",  # setuptools
    "serving/client/cifar_serving_client.egg-info/top_level.py",
    "serving/server/__pycache__/manager.cpython-311.py",
    "trainer/.ipynb_checkpoints/run-checkpoint.py",  # Jupyter
    "trainer/run.py~",  # Emacs, Vim
    "trainer/#run.py#",
    "trainer/.run.py.swp",
    "trainer/run (copy).py",  # a file manager
    "trainer/run.orig.py",  # git mergetool
    "trainer/scratch.py",  # a module that nothing imports
    "serving/.venv/lib/python3.11/site-packages/serving/server/manager.py",
    "serving/env/lib/python3.11/site-packages/grpc/__init__.py",
    "trainer/.git/hooks/check.py",
]


def test_what_is_not_imported_does_not_count(copy):
    before = digests(copy)
    for name in LEFT_BESIDE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("1 / 0\n")
    assert digests(copy) == before


def test_links_do_not_count_and_do_not_stop_it(copy):
    before = digests(copy)
    (copy / "trainer/.#run.py").symlink_to("me@host.1234:1700000000")  # Emacs's lock
    (copy / "serving/all").symlink_to(copy, target_is_directory=True)
    (copy / "trainer/again.py").symlink_to("run.py")
    assert digests(copy) == before


RUN_BY = {
    "trainer/run.py": {TRAINER},
    "trainer/units.py": {TRAINER},  # imported by what run.py imports
    "trainer/__init__.py": {TRAINER},
    "components/serving_canary/executor.py": {CANARY},
    "components/serving_canary/judgement.py": {CANARY},
    "serving/server/rest.py": {CANARY},  # imported inside a function
    "serving/client/over_grpc.py": {CANARY},
    "contract/config/train.py": {TRAINER},
    "contract/config/serving.py": set(),
}


def test_edited_code_counts_where_it_runs(copy):
    for name, scripts in RUN_BY.items():
        before = digests(copy)
        with open(copy / name, "a", encoding="utf-8") as file:
            file.write("\nEDITED = True\n")
        after = digests(copy)
        assert {key for key in before if after[key] != before[key]} == scripts, name


def test_a_new_module_counts_once_it_is_imported(copy):
    (copy / "trainer/mixup.py").write_text("ALPHA = 0.2\n")
    before = digests(copy)[TRAINER]
    with open(copy / "trainer/fit.py", "a", encoding="utf-8") as file:
        file.write("\nfrom trainer.mixup import ALPHA\n")
    imported = digests(copy)[TRAINER]
    (copy / "trainer/mixup.py").write_text("ALPHA = 0.4\n")
    assert len({before, imported, digests(copy)[TRAINER]}) == 3


def test_the_digest_is_that_of_the_files_wherever_they_lie(copy):
    assert digests(copy) == digests(PROJECT)
