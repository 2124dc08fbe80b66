"""The `tfx` script with this project's hook, as a person starts it."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

PROJECT = pathlib.Path(__file__).parents[2]
TFX = pathlib.Path(sys.executable).parent / "tfx"

pytestmark = pytest.mark.skipif(
    not list(PROJECT.glob(".venv/lib/*/site-packages/cifar_resnet_pipeline.pth")),
    reason="needs the environment that `make setup` builds",
)

# A pipeline file of this project's form that tells how it was called.
ECHO = "import sys, json; print(json.dumps(sys.argv))\n"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def tfx(tmp_path, home):
    def run(*arguments, cwd=tmp_path, **variables):
        environment = os.environ | {"HOME": str(home)} | variables
        environment.pop("LOCAL_HOME", None)
        return subprocess.run(
            [TFX, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def ours(tmp_path):
    """pipeline.py beside pipeline/dag.py."""
    folder = tmp_path / "a project"
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline/dag.py").write_text("")
    (folder / "pipeline.py").write_text(ECHO)
    return folder / "pipeline.py"


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "penguin.py").write_text(ECHO)
    return tmp_path / "penguin.py"


def store(home, name, path):
    folder = home / "tfx/local" / name
    folder.mkdir(parents=True)
    (folder / "pipeline_args.json").write_text(json.dumps({"pipeline_dsl_path": path}))


def called_with(answer):
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


# ---- tfx run create ------------------------------------------------------------------


def test_the_owners_line_runs_the_pipeline(tfx, ours):
    answer = tfx("run", "create", "--pipeline_path", "pipeline.py", cwd=ours.parent)
    assert called_with(answer) == [str(ours), "run", "--engine", "local"]


def test_options_arrive_in_both_spellings(tfx, ours):
    answer = tfx(
        *("run", "create", f"--pipeline-path={ours}", "--engine", "vertex"),
        *("--runtime_parameter", "data.name=digits"),
        *("--runtime-parameter", "train.note=a = b"),
        *("--project", "p", "--region", "r", "-n", "ignored"),
    )
    assert called_with(answer)[1:] == [
        *("run", "--engine", "vertex", "--project", "p", "--region", "r"),
        *("--runtime_parameter", "data.name=digits"),
        *("--runtime_parameter", "train.note=a = b"),
    ]


def test_the_runs_exit_code_is_the_commands(tfx, ours):
    ours.write_text("raise SystemExit(7)")
    assert tfx("run", "create", "--pipeline_path", str(ours)).returncode == 7


def test_a_foreign_pipeline_is_run_as_upstream_runs_it(tfx, foreign):
    answer = tfx("run", "create", "--pipeline_path", "penguin.py")
    assert called_with(answer) == [str(foreign)]


def test_a_stored_pipeline_is_found_by_its_name(tfx, ours, home):
    store(home, "cifar", str(ours))
    answer = tfx("run", "create", "--pipeline_name", "cifar", "--engine", "local")
    assert called_with(answer) == [str(ours), "run", "--engine", "local"]


def test_help_names_every_option_without_loading_tfx(tfx):
    began = time.monotonic()
    answer = tfx("run", "create", "--help")
    assert time.monotonic() - began < 15  # 16 s if TFX were imported, 0.1 s idle
    assert answer.returncode == 0
    for option in (
        *("--pipeline_path", "--pipeline-path", "--pipeline_name", "--pipeline-name"),
        *("--engine", "--endpoint", "--iap_client_id", "--namespace", "--project"),
        *("--region", "--runtime_parameter", "--runtime-parameter"),
    ):
        assert option in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --pipeline_path FILE, or --pipeline_name NAME"),
        (["--pipeline_path", "nope.py"], "nope.py: there is no such file"),
        (["--pipeline_path", "a project/pipeline"], "is a folder"),
        (["--pipeline_path", "a project"], "did you mean a project/pipeline.py?"),
        (["--pipeline_name", "cifer"], "stored there: cifar, gone, relative"),
        (["--pipeline_name", "gone"], "which is gone"),
        (["--pipeline_name", "relative"], "relative path pipeline.py"),
        (["--pipeline_name", "c", "--pipeline_path", "p"], "not both"),
        (["--pipeline_path", "penguin.py", "--engine", "moon"], "must be one of auto"),
        (
            ["--pipeline_path", "penguin.py", "--engine", "kubeflow"],
            "engines local and vertex, not kubeflow",
        ),
        (
            ["--pipeline_path", "a project/pipeline.py", "--runtime_parameter", "x"],
            "'x': must be NAME=VALUE",
        ),
        (
            ["--pipeline_path", "a project/pipeline.py", "--runtime_parameter", "=x"],
            "'=x': must be NAME=VALUE",
        ),
        (
            ["--pipeline_path", "penguin.py", "--runtime_parameter", "a=b"],
            "--runtime_parameter needs a pipeline.py beside",
        ),
        (
            ["--pipeline_path", "penguin.py", "--engine", "vertex"],
            "--engine vertex needs a pipeline.py beside",
        ),
        (["--pipeline_pth", "x"], "No such option"),
        (["--engine"], "requires an argument"),
    ],
)
@pytest.mark.usefixtures("foreign")
def test_a_mistake_is_answered_at_once_in_one_sentence(
    tfx, ours, home, arguments, words
):
    store(home, "cifar", str(ours))
    store(home, "gone", "/nonexistent/pipeline.py")
    store(home, "relative", "pipeline.py")
    began = time.monotonic()
    answer = tfx("run", "create", *arguments)
    assert time.monotonic() - began < 15  # 0.1 s on an idle machine; TFX alone takes 16
    assert answer.returncode == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_pipeline_create_refuses_a_missing_file_at_once(tfx):
    answer = tfx("pipeline", "create", "--pipeline_path=nope.py")
    assert answer.returncode == 2
    assert "nope.py: there is no such file" in answer.stderr


@pytest.mark.parametrize("action", ["create", "update", "compile"])
@pytest.mark.parametrize("engine", [["--engine", "vertex"], ["--engine=vertex"]])
def test_a_stored_form_for_vertex_is_refused_instead_of_run_here(
    tfx, ours, action, engine
):
    answer = tfx("pipeline", action, "--pipeline_path", str(ours), *engine)
    assert answer.returncode == 2
    assert answer.stdout == ""  # not run
    assert f"python {ours} compile --engine vertex" in answer.stderr
    assert f"tfx run create --pipeline_path {ours} --engine vertex" in answer.stderr


# ---- the rest ------------------------------------------------------------------------


def test_the_package_wins_the_name_pipeline_over_the_file():
    code = "import pipeline; print(pipeline.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True
    )
    assert answer.stdout.strip() == str(PROJECT / "pipeline" / "__init__.py")


def test_the_project_is_importable_from_any_folder(tmp_path):
    code = "import pipeline.presets, contract.features; print(pipeline.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert answer.stdout.strip() == str(PROJECT / "pipeline" / "__init__.py")


def test_other_programs_start_without_the_hook(tmp_path):
    code = "import sys; print([type(f).__name__ for f in sys.meta_path], len(sys.path))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert "TfxImports" not in answer.stdout
    assert answer.stderr == ""


def test_a_changed_upstream_is_reported_and_left_alone(capsys):
    import types

    from pipeline import tfx_cli

    tfx_cli.patch_handler_factory(types.ModuleType("handler_factory"))
    assert "has no tfx.tools.cli.handler.handler_factory" in capsys.readouterr().err


PENGUIN = """
import os
from tfx import v1 as tfx
import pipeline
assert pipeline.FOREIGN  # not this project's package of that name
here = os.path.dirname(os.path.abspath(__file__))
metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(here + "/db")
importer = tfx.dsl.Importer(
    source_uri=here, artifact_type=tfx.types.standard_artifacts.Examples
).with_id("importer")
tfx.orchestration.LocalDagRunner().run(tfx.dsl.Pipeline(
    pipeline_name="penguin", pipeline_root=here + "/root", components=[importer],
    metadata_connection_config=metadata,
))
"""


@pytest.mark.tf
def test_upstreams_two_steps_work_from_any_folder_without_an_engine_or_pip(
    tfx, tmp_path, home
):
    (tmp_path / "penguin.py").write_text(PENGUIN)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/__init__.py").write_text("FOREIGN = True\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    create = ("pipeline", "create", "--pipeline_path", "../penguin.py")
    answer = tfx(*create, cwd=elsewhere, PATH="/usr/bin:/bin")
    assert '"penguin" created successfully' in answer.stdout, answer.stderr
    stored = json.loads((home / "tfx/local/penguin/pipeline_args.json").read_text())
    assert stored["pipeline_dsl_path"] == str(tmp_path / "penguin.py")
    assert not (tmp_path / "root").exists()  # stored, not run

    answer = tfx("run", "create", "--pipeline_name", "penguin", cwd=elsewhere)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "db").exists()

    again = tfx(*create, cwd=elsewhere)
    assert "already exists" in again.stderr and again.returncode != 0
