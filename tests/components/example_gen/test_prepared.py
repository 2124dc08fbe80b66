import json
import os
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.example_gen import prepared
from components.example_gen.errors import DataError


def prepare(root, dataset="cifar10", version="3.0.2", size=100):
    """A folder as tensorflow-datasets leaves it; the records are not read here."""
    folder = root / dataset / version
    folder.mkdir(parents=True)
    splits = []
    for split, lengths in (("train", ["30", "20"]), ("test", ["10"])):
        splits.append(
            {
                "name": split,
                "numBytes": str(size * len(lengths)),
                "shardLengths": lengths,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
        for i in range(len(lengths)):
            name = f"{dataset}-{split}.tfrecord-{i:05d}-of-{len(lengths):05d}"
            (folder / name).write_bytes(bytes(size))
    info = {"name": dataset, "fileFormat": "tfrecord", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def test_prepared_data_set_is_found_with_counts_and_newest_version(tmp_path):
    prepare(tmp_path, version="3.0.2")
    newest = prepare(tmp_path, version="3.0.10")
    (tmp_path / "cifar10" / "incomplete.ABC_3.1.0").mkdir()
    found = prepared.find("cifar10", str(tmp_path))
    assert found and found.folder == str(newest)
    assert found.counts == {"train": 50, "test": 10}
    assert len(found.files) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)
PLACES = [
    "name",
    "fileFormat",
    "splits",
    "numBytes",
    "shardLengths",
    "filepathTemplate",
]


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("tfds"))


@settings(deadline=2000)
@given(place=st.sampled_from(PLACES), value=JSON)
@example(place="shardLengths", value=[float("inf")])
@example(place="shardLengths", value=["-5"])
@example(place="shardLengths", value=["9" * 4000])
@example(place="shardLengths", value=["1"] * 300_000)
@example(place="filepathTemplate", value="../../../../../../etc/passwd")
@example(place="filepathTemplate", value="\x1b[2J\n")
@example(place="filepathTemplate", value="x" * 5000)
@example(place="filepathTemplate", value="{DATASET}" * 10_000)
@example(place="filepathTemplate", value="dataset_info.json")
@example(place="name", value="n" * 1_000_000)
@example(place="fileFormat", value="riegeli")
def test_a_description_of_any_form_is_taken_or_refused_in_a_line(
    described, place, value
):
    file = described / "dataset_info.json"
    before = file.read_text()
    info = json.loads(before)
    section = info if place in info else info["splits"][0]
    section[place] = value
    began = time.process_time()
    try:
        file.write_text(json.dumps(info))
        found = prepared.find("cifar10", str(described.parents[1]))
    except DataError as error:
        assert str(error).isprintable() and len(str(error)) < 500
    else:
        assert found is not None
        assert {os.path.dirname(path) for path in found.files} == {str(described)}
        assert len(set(found.files)) == len(found.files)
        assert all(0 <= count <= 10**9 for count in found.counts.values())
    finally:
        file.write_text(before)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "content", ["[" * 500_000, "[]", "5", " " * (5 << 20) + "{}"], ids=len
)
def test_a_description_that_is_none_is_refused_in_a_line(tmp_path, content):
    folder = prepare(tmp_path)
    (folder / "dataset_info.json").write_text(content)
    with pytest.raises(DataError, match="missing or damaged") as refused:
        prepared.find("cifar10", str(tmp_path))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["dataset_info.json", "label.labels.txt"])
def test_a_pipe_in_a_prepared_folder_is_not_waited_for(tmp_path, name):
    folder = prepare(tmp_path)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match="is no file|no such file"):
        prepared.find("cifar10", str(tmp_path))
