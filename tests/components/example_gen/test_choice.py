import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.example_gen import choice
from components.example_gen.layout import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import official


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
        found = choice.find_prepared("cifar10", str(described.parents[1]))
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
        choice.find_prepared("cifar10", str(tmp_path))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["dataset_info.json", "label.labels.txt"])
def test_a_pipe_in_a_prepared_folder_is_not_waited_for(tmp_path, name):
    folder = prepare(tmp_path)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match="is no file|no such file"):
        choice.find_prepared("cifar10", str(tmp_path))


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(choice, "download_trouble", lambda *_: "the cable is out")


def test_prepared_data_set_is_found_with_counts_and_newest_version(tmp_path):
    prepare(tmp_path, version="3.0.2")
    newest = prepare(tmp_path, version="3.0.10")
    (tmp_path / "cifar10" / "incomplete.ABC_3.1.0").mkdir()
    found = choice.find_prepared("cifar10", str(tmp_path))
    assert found and found.folder == str(newest)
    assert found.counts == {"train": 50, "test": 10}
    assert len(found.files) == 4


@pytest.mark.usefixtures("offline")
def test_auto_takes_what_is_prepared(tmp_path):
    prepare(tmp_path)
    name, reason = choice.resolve_auto(str(tmp_path))
    assert name == "cifar10" and str(tmp_path) in reason


@pytest.mark.usefixtures("offline")
def test_auto_takes_digits_without_disk_and_network(tmp_path):
    name, reason = choice.resolve_auto(str(tmp_path))
    assert name == "digits" and "the cable is out" in reason


def test_auto_takes_cifar10_where_it_can_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "download_trouble", lambda *_: None)
    assert choice.resolve_auto(str(tmp_path))[0] == "cifar10"


@pytest.mark.usefixtures("offline")
def test_auto_uses_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare(tmp_path / "tensorflow_datasets")
    assert choice.resolve_auto(None)[0] == "cifar10"


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("encoding", ["binary", "python"])
def test_auto_recognises_a_path(tmp_path, dataset, encoding):
    official.write_folder(tmp_path / "x", official.files(dataset, encoding))
    assert choice.resolve_auto(None, path=str(tmp_path / "x"))[0] == dataset
    archive = f"/nowhere/cifar-{dataset[5:]}-{encoding}.tar.gz"
    assert choice.resolve_auto(None, path=archive)[0] == dataset


def test_auto_refuses_an_unknown_path(tmp_path):
    with pytest.raises(DataError, match="cannot tell which data set"):
        choice.resolve_auto(None, path=str(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        choice.resolve_auto(None, path=str(tmp_path / "missing"))


@pytest.mark.parametrize("name", ["auto", "cifar10", "cifar100"])
def test_a_folder_of_pictures_is_refused_once(tmp_path, name):
    """What the refusal asks for must not lead to another refusal."""
    (tmp_path / "cat").mkdir()
    for path in ("0.png", "cat/1.png"):
        (tmp_path / path).write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as refusal:
        if name == "auto":
            choice.resolve_auto(None, path=str(tmp_path))
        choice.fingerprint(DataConfig(name=name, path=str(tmp_path)))
    assert "set data.path to the" in str(refusal.value)
    assert "data.name=" not in str(refusal.value)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("encoding", ["binary", "python"])
def test_auto_says_what_is_missing_of_a_data_set(tmp_path, dataset, encoding):
    official.write_folder(tmp_path / "x", official.files(dataset, encoding))
    missing = sorted((tmp_path / "x").rglob("*test*"))[0]
    missing.unlink()
    with pytest.raises(DataError, match=f"{missing.name} missing"):
        choice.resolve_auto(None, path=str(tmp_path / "x"))


def damage_info(folder):
    (folder / "dataset_info.json").write_text("{")


def damage_counts(folder):
    (folder / "dataset_info.json").write_text('{"splits": [{"name": "train"}]}')


def remove_info(folder):
    (folder / "dataset_info.json").unlink()


def remove_records(folder):
    (folder / "cifar10-train.tfrecord-00001-of-00002").unlink()


def cut_records(folder):
    (folder / "cifar10-test.tfrecord-00000-of-00001").write_bytes(b"x")


@pytest.mark.parametrize(
    "damage", [damage_info, damage_counts, remove_info, remove_records, cut_records]
)
@pytest.mark.usefixtures("offline")
def test_damaged_preparation_is_named(tmp_path, damage):
    folder = prepare(tmp_path)
    damage(folder)
    data = DataConfig(name="cifar10", tfds_dir=str(tmp_path))
    with pytest.raises(DataError) as caught:
        choice.fingerprint(data)
    assert str(folder) in str(caught.value) and "remove that folder" in str(
        caught.value
    )
    name, reason = choice.resolve_auto(str(tmp_path))
    assert name == "digits" and "is damaged" in reason


@pytest.fixture
def local_server(monkeypatch):
    """A server that accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    monkeypatch.setattr(choice, "DOWNLOAD_URL", f"http://127.0.0.1:{port}/{{archive}}")
    monkeypatch.setenv("no_proxy", "*")
    yield server
    server.close()


@pytest.mark.usefixtures("local_server")
def test_silent_server_costs_no_more_than_the_deadline():
    start = time.monotonic()
    trouble = choice.download_trouble("cifar10", 0.3)
    assert trouble and "127.0.0.1" in trouble
    assert time.monotonic() - start < 1


def test_hanging_name_lookup_costs_no_more_than_the_deadline(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_a, **_k: released.wait(5) and []
    )
    monkeypatch.setenv("no_proxy", "*")
    start = time.monotonic()
    trouble = choice.download_trouble("cifar10", 0.2)
    assert trouble == "no answer from www.cs.toronto.edu in 0.2 s"
    assert time.monotonic() - start < 1
    released.set()


def answer(server, status):
    def serve():
        connection, _ = server.accept()
        connection.recv(10_000)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        connection.close()

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize(
    ("status", "trouble"), [("200 OK", None), ("403 Forbidden", "403")]
)
def test_answer_of_the_server_decides(local_server, status, trouble):
    answer(local_server, status)
    found = choice.download_trouble("cifar10", 5)
    assert found is None if trouble is None else trouble in str(found)


def swap(path, content):
    """Other bytes under the same name, of the same size and time of change."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )


def test_fingerprint_follows_the_contents_of_the_files(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    official.write_folder(folder, official.files("cifar10", "binary"))
    data = DataConfig(name="cifar10", path=str(tmp_path))
    first = choice.fingerprint(data)
    (folder / "unrelated.txt").write_text("x")
    batch = folder / "test_batch.bin"
    os.utime(batch, ns=(1, 1))
    copy = tmp_path / "copy"  # as `cp` and a download leave it
    copy.write_bytes(batch.read_bytes())
    copy.replace(batch)
    assert choice.fingerprint(data) == first
    swap(batch, batch.read_bytes()[::-1])
    assert choice.fingerprint(data) != first
    # Two files that changed names.
    second = choice.fingerprint(data)
    one, other = folder / "data_batch_1.bin", folder / "data_batch_2.bin"
    contents = one.read_bytes(), other.read_bytes()
    assert contents[0] != contents[1]
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    assert choice.fingerprint(data) not in (first, second)


def test_fingerprint_of_an_archive_follows_its_content(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"1")
    data = DataConfig(name="cifar10", path=str(path))
    first = choice.fingerprint(data)
    os.utime(path, ns=(1, 1))
    assert choice.fingerprint(data) == first
    swap(path, b"2")
    assert choice.fingerprint(data) != first


def test_fingerprint_of_prepared_records_follows_their_content(tmp_path):
    folder = prepare(tmp_path)
    data = DataConfig(name="cifar10", tfds_dir=str(tmp_path))
    first = choice.fingerprint(data)
    records = folder / "cifar10-train.tfrecord-00001-of-00002"
    os.utime(records, ns=(1, 1))
    assert choice.fingerprint(data) == first
    swap(records, bytes(byte ^ 1 for byte in records.read_bytes()))
    assert choice.fingerprint(data) != first


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "cifar-10-binary.tar.gz")
    data = DataConfig(name="cifar10", path=str(tmp_path / "cifar-10-binary.tar.gz"))
    with pytest.raises(DataError, match="neither a file nor a folder"):
        choice.fingerprint(data)


def test_a_path_may_have_characters_that_are_patterns_elsewhere(tmp_path):
    folder = tmp_path / "data [1] *?"
    official.write_folder(folder, official.files("cifar10", "binary"))
    data = DataConfig(name="cifar10", path=str(folder))
    assert len(choice.fingerprint(data)) == 32
    assert choice.resolve_auto(None, path=str(folder))[0] == "cifar10"


def test_fingerprints_of_other_sources_differ(tmp_path):
    prepare(tmp_path)
    prints = {
        choice.fingerprint(data)
        for data in (
            DataConfig(name="digits"),
            DataConfig(name="cifar10", tfds_dir=str(tmp_path)),
            DataConfig(name="cifar100", tfds_dir=str(tmp_path)),
            DataConfig(name="cifar10", path="gs://bucket/folder"),
        )
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(name="cifar10", path="/no/where"), "no such file or folder"),
        (DataConfig(name="digits", path="/"), "has no path"),
        (DataConfig(name="cifar10", path="/"), "looked for data_batch_1"),
        (DataConfig(), "must be resolved"),
    ],
)
def test_fingerprint_refuses_at_once(data, message):
    with pytest.raises(DataError, match=message):
        choice.fingerprint(data)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, components.example_gen.choice as c; from contract.config.data import *;"
        "c.fingerprint(DataConfig(name='digits'));"
        "heavy = {'tensorflow', 'numpy', 'apache_beam', 'urllib.request', 'sklearn'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readers_load_no_tensorflow():
    code = (
        "import sys, components.example_gen.pieces; "
        "sys.exit('tensorflow' in sys.modules or 'apache_beam' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
