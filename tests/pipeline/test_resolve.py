"""From the command line to a complete configuration, without the heavy libraries."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from components.example_gen.layout import DataError
from pipeline.config import ConfigError
from pipeline.resolve import resolve

PROJECT = Path(__file__).parents[2]


def test_overrides_win_over_the_preset_and_the_preset_over_defaults():
    asked = ["data.name=digits", "preset=quick", "train.epochs=7"]
    config = resolve(asked, {}, "/somewhere").config
    assert config.train.epochs == 7
    assert config.train.flip is False  # quick, digits
    assert config.train.momentum == 0.9  # default


def test_later_assignments_win():
    config = resolve(
        ["data.name=digits", "train.seed=1", "train.seed=2"], {}, "/"
    ).config
    assert config.train.seed == 2


def test_relative_paths_start_where_the_command_was_given(tmp_path):
    config = resolve(["data.name=digits", "output_root=here"], {}, str(tmp_path)).config
    assert config.output_root == str(tmp_path / "here")
    assert config.serving_root == str(tmp_path / "here" / "serving")


def test_the_default_output_is_the_same_from_any_folder(tmp_path):
    config = resolve(["data.name=digits"], {}, str(tmp_path)).config
    assert config.output_root == str(PROJECT / "output")


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["candidate.network=resnet165"], "candidate.network=resnet165"),
        (["preset=huge"], "preset=huge"),
        (["data.name=digits", "data.path=/x"], "data.path"),
        (["data.name=digits", "data.label=coarse"], "data.label=coarse"),
        (["data.name=digits", "pipeline_name=My Pipeline"], "pipeline_name"),
        (["data.name=digits", "serving.model_name=../x"], "serving.model_name"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(assignments, words):
    if not any(a.startswith("data.") for a in assignments):
        assignments = [*assignments, "data.name=digits"]
    with pytest.raises(ConfigError) as caught:
        resolve(assignments, {}, "/")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_says_which_data_set_it_is(tmp_path):
    for index in range(1, 6):
        (tmp_path / f"data_batch_{index}.bin").write_bytes(bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    resolved = resolve([f"data.path={tmp_path}"], {}, "/")
    assert resolved.config.data.name == "cifar10"
    with pytest.raises(DataError, match="/no/such"):
        resolve(["data.path=/no/such"], {}, "/")


def _fresh(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


LIGHT_MODULES = [
    "pipeline.cli",
    "pipeline.config",
    "pipeline.console",
    "pipeline.exclusive",
    "pipeline.history",
    "pipeline.presets",
    "pipeline.provenance",
    "pipeline.report.figures",
    "pipeline.report.render",
    "pipeline.resolve",
    "components.example_gen.archives",
    "components.example_gen.choice",
    "components.evaluator.measures",
    "components.model_chooser.choice",
    "components.serving_canary.canary",
    "components.atomic_pusher.publish",
    "trainer.features",
    "trainer.recipe",
    "trainer.units",
]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_what_a_person_waits_for_loads_nothing_heavy(module):
    code = (
        f"import sys, {module}; heavy = ('tensorflow', 'tfx', 'keras', 'apache_beam', "
        "'tensorflow_datasets', 'tensorflow_model_analysis', 'ml_metadata'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    assert _fresh(code) == "[]"


def test_the_package_wins_the_name_pipeline_over_the_file_beside_it():
    assert _fresh("import pipeline; print(pipeline.__file__)").endswith(
        "pipeline/__init__.py"
    )


def _pipeline(*arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """What it says, and its processor time: seconds that other work does not stretch."""
    began = _children_seconds()
    result = subprocess.run(
        [sys.executable, str(PROJECT / "pipeline.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return result, _children_seconds() - began


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    "override", ["trian.epochs=1", "train.epochs=x", "nonsense", "data.path=/no/such"]
)
def test_a_wrong_override_is_one_line_within_two_seconds(override):
    result, seconds = _pipeline("run", "--runtime_parameter", override)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert seconds < 2


def test_the_configuration_command_lists_every_field():
    result, _ = _pipeline("config", "--runtime_parameter", "data.name=digits")
    assert result.returncode == 0
    assert "train.global_batch_size" in result.stdout
