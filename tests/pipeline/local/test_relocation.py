"""Metadata of an output folder that was moved or copied, in real stores."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract.fields import ConfigError
from pipeline.local import database, relocation
from pipeline.local.exclusive import FolderInUse, exclusive

PROJECT = Path(__file__).parents[3]


def store(root: Path):
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = database.path(str(root))
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return metadata_store.MetadataStore(config)


def texts(root: Path) -> list[str]:
    """Every path in the metadata's artifacts."""
    found = []
    for artifact in store(root).get_artifacts():
        values = [*artifact.custom_properties.values(), *artifact.properties.values()]
        found += [artifact.uri, *(v.string_value for v in values if v.string_value)]
    return sorted(found)


@pytest.fixture
def output(tmp_path) -> Path:
    """An output folder with a push, as a run leaves it."""
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    root = tmp_path / "out"
    (root / "artifacts/AtomicPusher/pushed_model/15").mkdir(parents=True)
    (root / "serving/cifar/7").mkdir(parents=True)
    made = store(root)
    kind = mlmd.ArtifactType(name="PushedModel")
    kind.properties["place"] = mlmd.STRING
    kind = made.put_artifact_type(kind)
    artifact = mlmd.Artifact(
        type_id=kind, uri=f"{root}/artifacts/AtomicPusher/pushed_model/15"
    )
    artifact.properties["place"].string_value = str(root)
    for name, value in {
        "pushed_destination": f"{root}/serving/cifar/7",
        "source": f"archive {root}/data.tar.gz",  # a sentence, no place
        "other": f"{root}put/of/somebody",  # /out is no part of /output
        "elsewhere": "/srv/models/cifar/7",
    }.items():
        artifact.custom_properties[name].string_value = value
    artifact.custom_properties["pushed"].int_value = 1
    made.put_artifacts([artifact])
    return root


def expected(now: Path, before: Path) -> list[str]:
    return sorted(
        [
            f"{now}/artifacts/AtomicPusher/pushed_model/15",
            str(now),
            f"{now}/serving/cifar/7",
            f"archive {before}/data.tar.gz",
            f"{before}put/of/somebody",
            "/srv/models/cifar/7",
        ]
    )


def test_where_it_was_made_nothing_changes(output):
    before = database.path(str(output))
    content = Path(before).read_bytes()
    assert relocation.follow(str(output)) == []
    assert Path(before).read_bytes() == content
    assert texts(output) == expected(output, output)


@pytest.mark.parametrize("move", [os.rename, shutil.copytree])
def test_its_metadata_name_the_new_place(output, tmp_path, move):
    new = tmp_path / "new é"
    move(output, new)
    assert relocation.follow(str(new)) == [str(output)]
    assert texts(new) == expected(new, output)
    assert relocation.follow(str(new)) == []
    if output.exists():
        assert texts(output) == expected(output, output)


def test_another_output_in_the_old_place_does_not_matter(output, tmp_path):
    new = tmp_path / "old_results"
    shutil.copytree(output, new)
    shutil.copytree(new, output, dirs_exist_ok=True)
    assert relocation.follow(str(new)) == [str(output)]
    assert texts(new) == expected(new, output)


def test_another_name_of_the_same_folder_is_no_other_place(output, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(output)
    assert relocation.follow(str(link)) == []
    assert texts(output) == expected(output, output)


def test_commands_without_the_lock_take_it_only_if_needed(output, tmp_path):
    with exclusive(str(output)):
        relocation.settle(str(output))
    new = tmp_path / "new"
    shutil.copytree(output, new)
    code = (
        "import sys; from pipeline.local.exclusive import exclusive\n"
        f"with exclusive({str(new)!r}):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse, match=f"process {holder.pid}"):
            relocation.settle(str(new))
        holder.stdin.close()
    relocation.settle(str(new))
    assert texts(new) == expected(new, output)
    relocation.settle(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_metadata_of_a_newer_library_are_one_line(output):
    import sqlite3

    with sqlite3.connect(database.path(str(output))) as connection:
        connection.execute("UPDATE MLMDEnv SET schema_version = 99")
    with pytest.raises(ConfigError, match="99") as caught:
        relocation.follow(str(output))
    assert "\n" not in str(caught.value)
