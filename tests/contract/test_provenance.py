"""The digest of code: what a node runs changes it, what lies beside that does not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract import provenance
from contract.provenance import code_changes, source_digest

PROJECT = Path(__file__).parents[2]
# What the nodes of a local run start with.
NODES = {
    "ExampleGen": "components/example_gen/executor.py",
    "DatasetSchema": "components/dataset_schema/executor.py",
    "PreviousStatistics": "components/previous_statistics/executor.py",
    "ExampleValidator": "components/example_validator/executor.py",
    "Transform": "components/transform/executor.py",
    "Trainer": "trainer/run.py",
    "ModelInService": "components/model_in_service/executor.py",
    "Answers": "components/answers/executor.py",
    "Evaluator": "components/evaluator/executor.py",
    "ModelChooser": "components/model_chooser/executor.py",
    "ServingCanary": "components/serving_canary/executor.py",
    "AtomicPusher": "components/atomic_pusher/executor.py",
    "BatchPredict": "components/batch_predict/executor.py",
    "StudyReport": "studies/report/executor.py",
}
ROOMS = (
    "components", "contract", "monitoring", "pipeline", "serving", "studies", "trainer",
)  # fmt: skip


@pytest.fixture
def copy(tmp_path) -> Path:
    for room in ROOMS:
        shutil.copytree(
            PROJECT / room,
            tmp_path / room,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def digests(project: Path) -> dict[str, str]:
    return {
        node: source_digest(script, project=project) for node, script in NODES.items()
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


EVERY = set(NODES)
# Who runs what, said by hand: file -> nodes that must run again when it is edited.
RUN_BY = {
    "components/artifacts.py": EVERY - {"Trainer"},
    "components/declaration.py": EVERY - {"Trainer", "Transform"},
    "components/drift/image_statistics.py": {
        "AtomicPusher",  # for monitoring's baseline
        "DatasetSchema",
        "ExampleValidator",
        "PreviousStatistics",
    },
    "components/answers/inference.py": {"Answers"},
    "components/batch_predict/plan.py": {"BatchPredict"},
    "components/answers/soundness.py": {"Answers"},
    "components/numbered.py": {"Evaluator", "ModelChooser", "ModelInService"}
    | {"StudyReport"},
    "components/evaluator/paired.py": {"Evaluator", "StudyReport"},
    "components/example_gen/choice.py": set(),  # asked before a run
    "components/example_gen/own_files.py": {"ExampleGen"},
    "components/example_gen/sources.py": {"ExampleGen"},
    "components/example_validator/consistency.py": {
        "ExampleValidator",
        "PreviousStatistics",
    },
    "components/model_chooser/choice.py": {"ModelChooser"},
    "components/serving_canary/judgement.py": {"ServingCanary"},
    "contract/comparison.py": {"AtomicPusher", "Evaluator", "ModelChooser"},
    "contract/config/canary.py": {"ServingCanary"},
    "contract/config/data.py": {"ExampleGen"},
    "contract/config/run.py": set(),
    "contract/config/train.py": {"Trainer"},
    "contract/fields.py": EVERY,
    "contract/answers.py": {"Answers", "Evaluator", "StudyReport"},
    "contract/baseline.py": {"AtomicPusher"},
    "contract/model_run.py": {"Answers", "ModelChooser", "ServingCanary", "Trainer"}
    | {"BatchPredict", "StudyReport"},
    "monitoring/__init__.py": set(),
    "pipeline/console.py": set(),
    "pipeline/dag.py": set(),  # what it hands to nodes are their parameters
    "serving/client/over_grpc.py": {"ServingCanary"},
    "serving/client/pictures.py": {"BatchPredict", "ExampleGen", "ServingCanary"},
    "serving/deploy/generate.py": set(),
    "serving/server/page.html": {"ServingCanary"},  # a template of page.py
    "serving/server/rest.py": {"ServingCanary"},  # imported inside a function
    "studies/plan.py": set(),  # what it says to nodes are their parameters
    "studies/report/page.html.jinja": {"StudyReport"},
    "studies/tables.py": {"StudyReport"},  # networks are parameters of the Trainers
    "trainer/__init__.py": {"Answers", "DatasetSchema", "ExampleValidator"}
    | {"BatchPredict", "ExampleGen"}
    | {"AtomicPusher", "PreviousStatistics", "ServingCanary", "StudyReport", "Trainer"}
    | {"Transform"},
    "trainer/examples.py": {"Answers", "DatasetSchema", "ExampleValidator"}
    | {"BatchPredict", "ExampleGen"}
    | {"AtomicPusher", "PreviousStatistics", "ServingCanary", "Trainer", "Transform"},
    "trainer/preprocessing.py": {"Trainer", "Transform"},
    "trainer/run.py": {"Trainer"},
    "trainer/units.py": {"StudyReport", "Trainer"},  # imported by what run.py imports
}


def test_an_edit_runs_the_nodes_again_that_use_it(copy):
    for name, users in RUN_BY.items():
        before = digests(copy)
        with open(copy / name, "a", encoding="utf-8") as file:
            file.write("\nEDITED = True\n")
        after = digests(copy)
        assert {node for node in NODES if after[node] != before[node]} == users, name


def test_a_comment_or_a_docstring_runs_nothing_again(copy):
    before = digests(copy)
    for path in files(copy):
        if path.suffix == ".py":
            text = path.read_text("utf-8")
            text = re.sub(r'\A"""', '"""Other words. ', text)
            path.write_text(f"# A remark.\n\n{text}\n\n# And another.\n", "utf-8")
    assert digests(copy) == before


def test_another_version_of_a_library_runs_everything_again(copy, monkeypatch):
    before = digests(copy)
    present = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: present | {"numpy": "9.9"})
    after = digests(copy)
    assert all(after[node] != before[node] for node in NODES)


PIECES = {
    "room/__init__.py": "",
    "room/start.py": "import room.plain\n",
    "room/plain.py": "",
    "room/deep/__init__.py": "",
    "room/deep/__main__.py": "",
    "room/deep/leaf.py": "",
    "room/table.toml": "",
    "other.py": "",
}


@pytest.mark.parametrize(
    ("line", "used"),
    [
        ("import room.deep.leaf", {"room/deep/__init__.py", "room/deep/leaf.py"}),
        ("from room.deep import leaf", {"room/deep/__init__.py", "room/deep/leaf.py"}),
        ("from .deep import leaf", {"room/deep/__init__.py", "room/deep/leaf.py"}),
        ("from . import plain as p, deep", {"room/plain.py", "room/deep/__init__.py"}),
        ("from .deep.leaf import X", {"room/deep/__init__.py", "room/deep/leaf.py"}),
        ("def f():\n    import other", {"other.py"}),
        ("if TYPE_CHECKING:\n    import other", set()),
        ("if X:\n    import other", {"other.py"}),
        ("RUN = 'room.plain.run'", {"room/plain.py"}),
        ("RUN = 'room.deep'", {"room/deep/__init__.py", "room/deep/__main__.py"}),
        ("TABLE = here.with_name('table.toml')", {"room/table.toml"}),
        ("import os, numpy.linalg; X = 'os.path'", set()),
        ("X = 'room'", set()),  # a word
        ("def f():\n    'As room.plain does.'", set()),
        ("X = 'no.such.room'; Y = '../other.py'; Z = ''", set()),
    ],
)
def test_what_is_named_is_followed(tmp_path, line, used):
    for name, text in PIECES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "room/start.py").write_text(line + "\n")
    found = provenance.closure("room/start.py", project=tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in found}
    assert names == used | {"room/__init__.py", "room/start.py"}


def test_circles_end(tmp_path):
    (tmp_path / "one.py").write_text("import two")
    (tmp_path / "two.py").write_text("import one")
    found = provenance.closure("one.py", project=tmp_path)
    assert [path.name for path in found] == ["one.py", "two.py"]


def test_a_new_module_counts_once_it_is_imported(copy):
    (copy / "trainer/mixup.py").write_text("ALPHA = 0.2\n")
    before = digests(copy)["Trainer"]
    with open(copy / "trainer/fit.py", "a", encoding="utf-8") as file:
        file.write("\nfrom trainer.mixup import ALPHA\n")
    imported = digests(copy)["Trainer"]
    (copy / "trainer/mixup.py").write_text("ALPHA = 0.4\n")
    assert len({before, imported, digests(copy)["Trainer"]}) == 3


def test_the_digest_is_that_of_the_files_wherever_they_lie(copy):
    assert digests(copy) == digests(PROJECT)


def test_what_was_edited_is_named(copy):
    before = digests(copy)
    with open(copy / "trainer/units.py", "a", encoding="utf-8") as file:
        file.write("\nEDITED = True\n")
    with open(copy / "trainer/run.py", "a", encoding="utf-8") as file:
        file.write("\nimport trainer.brand_new\n")
    (copy / "trainer/brand_new.py").write_text("")
    after = digests(copy)
    assert code_changes(before["Trainer"], after["Trainer"]) == [
        "trainer/brand_new.py new", "trainer/run.py edited", "trainer/units.py edited",
    ]  # fmt: skip
    assert "trainer/brand_new.py gone" in (
        code_changes(after["Trainer"], before["Trainer"]) or []
    )
    assert code_changes(before["Transform"], after["Transform"]) == []


def test_another_library_is_named():
    now = source_digest("trainer/units.py")
    version = provenance.versions()["keras"]
    older = now.replace(f"keras=={version}", "keras==3.0.0")
    assert code_changes(older, now) == [f"keras 3.0.0 -> {version}"]


def test_an_earlier_version_kept_one_digest_of_all():
    assert code_changes("0123456789abcdef", source_digest("trainer/units.py")) is None
