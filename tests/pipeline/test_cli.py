"""What the command line says where a run cannot work: one line, status 2, no traceback.

Each command is a process of its own, on real files.
"""

import fcntl
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.local import rules as local_rules
from pipeline.local import space
from pipeline.resolve import resolve
from tests.pipeline.local import tmpfs

PROJECT = Path(__file__).parents[2]
COMMANDS = (["run"], ["run", "--dry"], ["report"], ["models", "list"])


def pipeline(*command: str, root: object, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            *settings.pop("before", []),
            sys.executable,
            str(PROJECT / "pipeline.py"),
            *command,
            "--runtime_parameter=data.name=digits",
            f"--runtime_parameter=output_root={root}",
        ],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings},
        text=True,
        check=False,
    )


def refusal(result: subprocess.CompletedProcess) -> str:
    """The one line."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert not result.stdout
    return result.stderr


@pytest.mark.parametrize(
    ("root", "why"),
    [
        ("{}/file", "File exists"),
        ("{}/file/below", "Not a directory"),
        ("/proc/nothing", "No such file or directory"),
        ("{}/" + "d" * 256, "File name too long"),
        ("{}/locked", "Is a directory: {}/locked/.lock"),
    ],
)
def test_a_folder_that_cannot_be_made_or_written(tmp_path, root, why):
    (tmp_path / "file").write_text("")
    (tmp_path / "locked" / ".lock").mkdir(parents=True)
    root = root.format(tmp_path)
    line = refusal(pipeline("run", root=root))
    assert line.startswith(f"error: output_root={root}: must be a folder that can be")
    assert why.format(tmp_path) in line


def test_a_dry_run_in_a_folder_that_is_not_there_makes_none(tmp_path):
    result = pipeline("run", "--dry", "preset=smoke", root=tmp_path / "output")
    assert (result.returncode, result.stderr) == (0, "")
    assert "nothing was run there yet" in result.stdout
    assert re.search(r"^  run +BaselineTrainer +never ran here$", result.stdout, re.M)
    assert re.search(r"^  looks +ModelInService +in every run$", result.stdout, re.M)
    assert "15 of 17 nodes run. Nothing was changed" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_is_of_a_local_run():
    result = pipeline("run", "--dry", "--engine", "vertex", root="gs://bucket/x")
    assert "--dry: asks the cache of a local run" in refusal(result)


def test_a_report_is_written_again_wherever_the_data_are_now(tmp_path):
    line = refusal(pipeline("report", "data.path=/gone", root=tmp_path))
    assert "no finished run is recorded there" in line


def test_a_folder_that_is_read_only_also_for_root(tmp_path):
    before = tmpfs.mounted(tmp_path, "ro")
    line = refusal(pipeline("run", root=tmp_path, before=before))
    assert f"(Read-only file system: {tmp_path}/.lock)" in line


def test_a_serving_folder_that_cannot_be_written_is_known_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    served = tmp_path / "served"
    served.mkdir()
    before = tmpfs.mounted(served, "ro")
    for base, why in (
        ("file/models", f"{tmp_path}/file is no folder"),
        ("served/models", f"{served} is read-only"),
    ):
        command = ["run", f"serving.base_directory={tmp_path}/{base}"]
        line = refusal(pipeline(*command, root=tmp_path / "out", before=before))
        assert f"serving.base_directory={tmp_path}/{base}: must be a folder" in line
        assert why in line


def test_a_disk_that_is_too_small_is_known_before_anything_is_loaded(tmp_path):
    before = tmpfs.mounted(tmp_path, "size=3m")
    line = refusal(pipeline("run", root=tmp_path, before=before))
    assert f"output_root={tmp_path}: 3 MB are free, and a run" in line


def test_what_a_run_needs_grows_with_data_and_networks():
    def megabytes(*assignments: str) -> float:
        return (
            space.needed(resolve(list(assignments), {}, "/", local_rules).config) / 1e6
        )

    # 60,000 images of 3,072 bytes, and 10.3 million parameters of 4 bytes (He et al.
    # 2016b, table 4), which stand in five models.
    assert megabytes("data.name=cifar10", "preset=fast") > 184
    large = megabytes("data.name=cifar10", "preset=resnet1001")
    assert large > 184 + 5 * 4 * 10.3


def damage_end(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def damage_all(file: Path) -> None:
    file.write_text("no database")


def damage_size(file: Path) -> None:
    os.truncate(file, 0)


def damage_kind(file: Path) -> None:
    file.unlink()
    file.mkdir()


def damage_existence(file: Path) -> None:
    file.unlink()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """An output folder with one execution and its artifact."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    root = tmp_path_factory.mktemp("recorded")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    config.sqlite.connection_mode = 3
    store = metadata_store.MetadataStore(config)
    kind = store.put_execution_type(mlmd.ExecutionType(name="Node"))
    (number,) = store.put_executions([mlmd.Execution(type_id=kind)])
    (root / f"artifacts/Node/output/{number}").mkdir(parents=True)
    return root


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_end, "malformed"),
        (damage_all, "file is not a database"),
        (damage_size, "artifacts/Node/output/1 is not recorded"),
        (damage_kind, "unable to open"),
        (damage_existence, "artifacts/Node/output/1 is not recorded"),
    ],
)
def test_damaged_metadata(tmp_path, recorded, command, damage, why):
    root = tmp_path / "output"
    shutil.copytree(recorded, root)
    damage(root / "metadata.sqlite")
    before = sorted(root.rglob("*"))
    line = refusal(pipeline(*command, root=root))
    assert f"output_root={root}: " in line
    assert why in line
    assert sorted(set(root.rglob("*")) - {root / ".lock"}) == before


def test_metadata_that_another_program_holds(tmp_path, recorded):
    root = tmp_path / "output"
    shutil.copytree(recorded, root)
    other = sqlite3.connect(root / "metadata.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    assert "database is locked" in refusal(pipeline("models", "list", root=root))
    other.close()
    result = pipeline("models", "list", root=root)
    assert (result.returncode, result.stdout) == (0, "nothing was published yet\n")


def test_a_lock_that_a_dead_run_left_or_a_living_one_holds(tmp_path, recorded):
    root = tmp_path / "output"
    shutil.copytree(recorded, root)
    (root / "metadata.sqlite").write_text("no database")  # what is looked at next
    (root / ".lock").write_text("1")  # a process that lives and holds nothing
    assert "file is not a database" in refusal(pipeline("run", root=root))
    with open(root / ".lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)  # as it is for a moment
        line = refusal(pipeline("run", root=root))
    assert f"output_root={root}: another run is writing there" in line


def test_nobody_reads(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    for command in ("config", "run"):
        result = pipeline(command, root=tmp_path, stdout=writer)
        assert result.returncode == 128 + signal.SIGPIPE
        assert result.stderr == ""
    os.close(writer)
    with open("/dev/full", "w") as full:
        result = pipeline("config", root=tmp_path, stdout=full)
    assert result.returncode == 2
    assert result.stderr == "error: No space left on device\n"


def test_closed_streams_and_old_encodings(tmp_path):
    shell = ["sh", "-c", 'exec "$@" >&-', "-"]
    result = pipeline("config", root=tmp_path, before=shell)
    assert (result.returncode, result.stderr) == (0, "")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = pipeline("config", root=tmp_path / "é", env=ascii_only)
    assert result.returncode == 0
    assert f"output_root={tmp_path}/\\xe9  # command line\n" in result.stdout


@pytest.mark.parametrize("word", ["--\x1b[2J\nx", "--train-epochs=\x1b[2J\nx"])
def test_unknown_arguments_move_no_cursor(capsys, word):
    with pytest.raises(SystemExit):
        cli.main(["run", word], {})
    told = capsys.readouterr().err
    assert "unrecognized arguments" in told
    assert all(line.isprintable() for line in told.split("\n"))
