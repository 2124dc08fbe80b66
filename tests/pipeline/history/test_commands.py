"""`models ...` of an output folder on a disk, through the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.history import commands, stores
from tests.pipeline.history.recorded import version

PROJECT = Path(__file__).parents[3]


def test_the_list_for_people(pipeline, capsys):
    first, second = pipeline.run("resnet8"), pipeline.run("preact_resnet8")
    shutil.rmtree(pipeline.serving / str(first))
    assert pipeline.command("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[1].startswith(f"{second} ")
    for words in ("candidate", "6.25 %", "5.0 to 8.0 %", "digits", "there, in service"):
        assert words in lines[1]
    assert lines[2] == "    preact_resnet8 is better"
    assert lines[3].startswith(f"{first} ")
    assert lines[3].endswith("missing")
    assert lines[4] == "    resnet8 is better"


def test_the_list_for_programs(pipeline, capsys):
    pipeline.run()
    assert pipeline.command("list", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = [dataclasses.asdict(each) for each in stores.read(pipeline.places)]
    assert found == json.loads(json.dumps(expected))


def test_what_is_gone_from_disk_leaves_dashes(pipeline, capsys):
    pipeline.run()
    shutil.rmtree(pipeline.root / "artifacts")
    assert pipeline.command("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "–" in lines[1]
    assert lines[2] == "    resnet8 is better"  # this is in the metadata itself


def test_a_list_moves_no_cursor(pipeline, capsys):
    pipeline.run("\x1b[2J\x1b]0;title\x07\nresnet8")
    assert pipeline.command("list") == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


def test_a_run_that_pushed_nothing_is_no_version(pipeline, capsys):
    pipeline.artifact("PushedModel", pipeline.root / "x", pushed=0)
    assert stores.read(pipeline.places) == []
    assert pipeline.command("list") == 0
    assert capsys.readouterr().out == "nothing was published yet\n"


def test_versions_in_several_folders_are_listed_with_them():
    first, second = version(1, "/a/cifar"), version(2, "/b/mine")
    assert "/a/cifar" not in commands.as_text([first])
    lines = commands.as_text([second, first]).splitlines()
    assert lines[1].endswith("there, in service, /b/mine")
    assert lines[2].endswith("there, in service, /a/cifar")


def test_the_lineage_of_a_version(pipeline, capsys):
    pipeline.run("resnet8")
    second = pipeline.run("preact_resnet8")
    assert pipeline.command("show", str(second)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"] == {"preset": "preact_resnet8"}
    assert found["commit"] == "abc"
    assert [each["node"] for each in found["executions"]] == [
        "CifarExampleGen",
        "CandidateTrainer",
        "ModelChooser",
        "AtomicPusher",
    ]
    assert found["executions"][-1]["outputs"] == {
        "pushed_model": [found["artifact_id"]]
    }
    assert found["executions"][0]["parameters"] == {"parameter": "cifarexamplegen"}
    kinds = [each["type"] for each in found["artifacts"]]
    # Two pushes: its own, and the one it was compared with; that one's run is not told.
    assert sorted(kinds) == sorted(
        ["Examples", "Model", "Model", "components.Decision", "ModelBlessing"]
        + ["ModelEvaluation"]
        + ["PushedModel"] * 2
    )


def test_errors_are_one_line(pipeline, capsys, tmp_path):
    version = pipeline.run()
    for action in ("rollback", "show"):
        assert pipeline.command(action, "12345") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"version 12345 was never published from output_root={pipeline.root}; "
        assert f"known: {version}" in error
    for action in (["list"], ["show", "1"], ["rollback", "1"]):
        where = ["--runtime_parameter", f"output_root={tmp_path}/nowhere"]
        assert cli.main(["models", *action, *where], {}) == 2
        assert "no metadata is there" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()  # looking makes no folder
    (tmp_path / "metadata.sqlite").write_bytes(b"this is no database")
    where = ["--runtime_parameter", f"output_root={tmp_path}"]
    assert cli.main(["models", "list", *where], {}) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["models", "--help"], ["models", "rollback", "x"], ["models", "list"]]
)
def test_nothing_heavy_is_loaded(arguments, tmp_path):
    code = (
        "import sys; from pipeline import cli\n"
        "try: cli.main(sys.argv[1:], {})\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'tfx', 'keras', 'apache_beam', 'ml_metadata'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    where = ["--runtime_parameter", f"output_root={tmp_path}/nowhere"]
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            *arguments,
            *(where if "list" in arguments else []),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "loaded []"
