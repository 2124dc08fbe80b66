"""Which output folders are taken, against the libraries that look for files there."""

import glob
import os
import sqlite3

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.config.run import RunConfig
from contract.fields import ConfigError, override
from contract.paths import LONGEST_OUTPUT
from pipeline.local import rules as local_rules
from pipeline.resolve import resolve

# What file names are made of, and what somebody's library takes for something else.
SPECIAL = "*?[]{}\\ %#~&'\"$;,=:+@!\t\n\r\x00\x7f\x85\u2028\u0301é\ud800\ufffeß😀.-"
names = st.text(st.sampled_from(SPECIAL) | st.characters(), min_size=1, max_size=20)
folders = st.lists(
    names.map(lambda name: name.replace("/", "")).filter(
        lambda name: name.strip(". ") and len(os.fsencode(name)) < 200
    ),
    min_size=1,
    max_size=2,
).map("/".join)


def taken(folder: str) -> str | None:
    """The output folder that a run would write to; None if it is refused, in one line."""
    try:
        return resolve(
            ["data.name=digits", f"output_root={folder}"], {}, "/", local_rules
        ).config.output_root
    except ConfigError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert message.startswith("output_root=")
        assert ": must " in message
        assert "; " in message  # the remedy
        return None


@settings(max_examples=60)
@given(folders)
@example("a[1]")
@example("50%20off #1 ~x {a,b}")
def test_what_is_taken_is_found_again_by_python_and_sqlite(tmp_path_factory, folder):
    base = tmp_path_factory.getbasetemp() / "python"
    root = taken(f"{base}/{folder}")
    if root is None:
        return
    os.makedirs(f"{root}/artifacts", exist_ok=True)
    with open(f"{root}/artifacts/data", "w"):
        pass
    assert glob.glob(f"{root}/artifacts/*") == [f"{root}/artifacts/data"]
    sqlite3.connect(f"{root}/metadata.sqlite").execute(
        "CREATE TABLE IF NOT EXISTS t(i)"
    )


@pytest.mark.tf
@settings(max_examples=40)
@given(folders)
@example("a[1]")
@example("a\\b")
@example("50%20off #1 ~x {a,b}")
def test_what_is_taken_is_found_again_by_tensorflow_beam_and_mlmd(
    tmp_path_factory, folder
):
    import tensorflow as tf
    from apache_beam.io.filesystems import FileSystems
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    base = tmp_path_factory.getbasetemp() / "tensorflow"
    root = taken(f"{base}/{folder}")
    if root is None:
        return
    expected, pattern = [f"{root}/artifacts/data"], f"{root}/artifacts/*"
    tf.io.gfile.makedirs(f"{root}/artifacts")
    with tf.io.gfile.GFile(expected[0], "w") as file:
        file.write("x")
    assert tf.io.gfile.glob(pattern) == expected
    (match,) = FileSystems.match([pattern])
    assert [found.path for found in match.metadata_list] == expected
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = f"{root}/metadata.sqlite"
    config.sqlite.connection_mode = 3
    store = metadata_store.MetadataStore(config)
    kind = store.put_artifact_type(mlmd.ArtifactType(name="t"))
    (number,) = store.put_artifacts([mlmd.Artifact(type_id=kind, uri=expected[0])])
    (artifact,) = store.get_artifacts_by_id([number])
    assert artifact.uri == expected[0]


def test_patterns_are_refused_wherever_files_are_looked_for():
    for letter in "*?[]\\":
        for field in ("output_root", "serving.base_directory", "data.tfds_dir"):
            with pytest.raises(ConfigError, match=f"^{field}=/a"):
                override(RunConfig(), {field: f"/a{letter}b"})
        # These files are opened by name.
        override(RunConfig(), {"data.path": f"/a{letter}b"})
    with pytest.raises(ConfigError, match="^data.path='/a.nb': .*line breaks"):
        override(RunConfig(), {"data.path": "/a\nb"})


def test_a_relative_path_counts_as_the_folder_it_stands_for():
    with pytest.raises(ConfigError, match=r"^output_root=/home/\[x\]/out: "):
        resolve(["data.name=digits", "output_root=out"], {}, "/home/[x]", local_rules)


def test_an_unknown_field_and_a_wrong_value_are_shown_on_one_line():
    for values in ({"no\nfield": "1"}, {"train.epochs": "1\n2"}):
        with pytest.raises(ConfigError) as caught:
            override(RunConfig(), values)
        assert len(str(caught.value).splitlines()) == 1


def test_the_longest_output_folder_is_sqlites(tmp_path):
    def folder(size: int) -> str:
        path = str(tmp_path)
        while (rest := size - len(path)) > 0:
            path += "/" + "d" * min(rest - 1, 100 if rest != 102 else 50)
        return path

    longest = folder(LONGEST_OUTPUT)
    assert len(longest) == LONGEST_OUTPUT
    assert taken(longest) == longest
    os.makedirs(longest)
    sqlite3.connect(f"{longest}/metadata.sqlite").execute("CREATE TABLE t(i)")
    longer = folder(LONGEST_OUTPUT + 1)
    assert taken(longer) is None
    os.makedirs(longer)
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(f"{longer}/metadata.sqlite").execute("CREATE TABLE t(i)")
    link = tmp_path / "short"
    link.symlink_to(longer)
    assert taken(str(link)) is None
