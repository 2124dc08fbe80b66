import subprocess
import sys

import pytest

from components.example_gen import choice, download, sources
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from tests.components.example_gen import official
from tests.components.example_gen.test_prepared import prepare


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(download, "trouble", lambda *_: "the cable is out")


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
    monkeypatch.setattr(download, "trouble", lambda *_: None)
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


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_folder_of_pictures_is_no_cifar_and_refused_once(tmp_path, name):
    """What the refusal asks for must not lead to another refusal."""
    (tmp_path / "cat").mkdir()
    for path in ("0.png", "cat/1.png"):
        (tmp_path / path).write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as refusal:
        sources.local_fingerprint(DataConfig(name=name, path=str(tmp_path)))
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
        sources.local_fingerprint(data)
    assert str(folder) in str(caught.value) and "remove that folder" in str(
        caught.value
    )
    name, reason = choice.resolve_auto(str(tmp_path))
    assert name == "digits" and "is damaged" in reason


def test_a_path_may_have_characters_that_are_patterns_elsewhere(tmp_path):
    folder = tmp_path / "data [1] *?"
    official.write_folder(folder, official.files("cifar10", "binary"))
    data = DataConfig(name="cifar10", path=str(folder))
    digest, *files = sources.local_fingerprint(data).split()
    assert len(digest) == 32 and len(files) == 6
    assert choice.resolve_auto(None, path=str(folder))[0] == "cifar10"


def test_nothing_heavy_is_imported():
    code = (
        "import sys, components.example_gen.choice, components.example_gen.sources as s;"
        "from contract.config.data import *;"
        "s.local_fingerprint(DataConfig(name='digits'));"
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
