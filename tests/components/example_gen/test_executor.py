import functools
import hashlib
import http.server
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from components.beam import IN_PROCESS
from components.example_gen import download, identity, sources
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from contract.datasets import DATASETS
from contract.fields import to_json
from tests.components.example_gen import official, own
from tests.serving import pictures

# TensorFlow and TFX are imported inside the functions: pytest imports this file also when
# it is asked for the fast tests only.
pytestmark = pytest.mark.tf

BEAM = [*IN_PROCESS]
# Enough that each split of each of a few shards gets some.
SIZES = {f"data_batch_{i}": 40 for i in range(1, 6)} | {"test_batch": 30}
REPOSITORY = Path(__file__).parents[3]


def ingest(uri, *, fingerprint=None, **settings):
    """Runs the executor alone; returns the artifact."""
    from tfx.types import standard_artifacts

    from components.example_gen import executor

    artifact = standard_artifacts.Examples()
    artifact.uri = str(uri)
    settings.setdefault("allow_unverified", True)
    data = DataConfig(**settings)
    context = executor.Executor.Context(beam_pipeline_args=BEAM)
    fingerprint = fingerprint or sources.fingerprint(data)
    executor.Executor(context).Do(
        {},
        {"examples": [artifact]},
        {"data": to_json(data), "fingerprint": fingerprint},
    )
    return artifact


def read_back(uri, split):
    """All examples of a split as dictionaries, in file and record order."""
    import tensorflow as tf

    found = []
    shape = json.loads(Path(uri, "dataset.json").read_text())["image_shape"]
    for file in sorted(Path(uri, f"Split-{split}").iterdir()):
        kind = "GZIP" if file.suffix == ".gz" else ""
        for record in tf.data.TFRecordDataset(str(file), kind).as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            row = {"file": file.name, "id": features["example_id"].bytes_list.value[0]}
            row["image"] = np.frombuffer(
                features["image"].bytes_list.value[0], np.uint8
            ).reshape(shape)
            row["label"] = features["label"].int64_list.value[0]
            if "coarse_label" in features:
                row["coarse"] = features["coarse_label"].int64_list.value[0]
            found.append(row)
    return found


def contents_of(uri):
    return {
        str(file.relative_to(uri)): file.read_bytes()
        for file in sorted(Path(uri).rglob("*"))
        if file.is_file()
    }


def as_rows(rows):
    return sorted((r["image"].tobytes(), r["label"], r.get("coarse")) for r in rows)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_every_image_arrives_once_bit_by_bit(tmp_path, dataset, compression):
    import apache_beam as beam
    from tfx.components.util import tfxio_utils

    sizes = SIZES if dataset == "cifar10" else {"train": 200, "test": 30}
    made = official.dataset(dataset, sizes)
    folder = official.write_folder(
        tmp_path / "in", official.files(dataset, "binary", made)
    )
    artifact = ingest(
        tmp_path / "out",
        name=dataset,
        path=str(folder),
        shards=3,
        compression=compression,
    )
    expected = {"train": [], "test": []}
    for stem, (pixels, labels, coarse) in made.items():
        for image, fine, superclass in zip(pixels, labels, coarse, strict=True):
            expected["test" if "test" in stem else "train"].append(
                (image.tobytes(), fine, superclass if dataset == "cifar100" else None)
            )
    read = {
        split: read_back(artifact.uri, split) for split in ("train", "eval", "test")
    }
    assert as_rows(read["train"] + read["eval"]) == sorted(expected["train"])
    assert as_rows(read["test"]) == sorted(expected["test"])
    for rows in read.values():
        for row in rows:
            digest = hashlib.sha256(row["image"].tobytes()).digest()
            assert row["id"] == digest[:16].hex().encode() + b"-0"
    suffix = ".gz" if compression == "gzip" else ""
    assert {Path(name).name for name in contents_of(artifact.uri)} == {
        "dataset.json",
        *(f"data_tfrecord-{i:05d}-of-00003{suffix}" for i in range(3)),
    }
    counts = json.loads(artifact.get_string_custom_property("counts"))
    assert counts == {split: len(rows) for split, rows in read.items()}
    written = json.loads(Path(artifact.uri, "dataset.json").read_text())
    assert written["name"] == dataset and written["counts"] == counts
    assert written["image_shape"] == [32, 32, 3]
    names = written["labels"]["label"]
    assert names[0] == {"cifar10": "airplane", "cifar100": "apple"}[dataset]
    assert len(names) == {"cifar10": 10, "cifar100": 100}[dataset]
    assert ("coarse_label" in written["labels"]) == (dataset == "cifar100")
    assert artifact.split_names == '["train", "eval", "test"]'
    assert artifact.get_string_custom_property("name") == dataset
    assert artifact.get_int_custom_property("verified") == 0
    assert "no checksum is published" in artifact.get_string_custom_property(
        "verification"
    )
    # What StatisticsGen, Transform and Evaluator read with.
    for split, rows in read.items():
        source = tfxio_utils.get_split_tfxio([artifact], split, ["test"])
        counted = []
        with beam.Pipeline(argv=BEAM) as pipeline:
            _ = (
                pipeline
                | source.BeamSource(batch_size=50)
                | beam.Map(lambda batch: batch.num_rows)
                | beam.combiners.ToList()
                | beam.Map(lambda rows, split=split: record(split, rows))
            )
        counted = sum(RECORDED.pop(split))
        assert counted == len(rows)


RECORDED = {}


def record(split, rows):
    RECORDED[split] = rows


def test_bytes_do_not_depend_on_source_order_or_time(tmp_path):
    made = official.dataset("cifar10", SIZES)
    contents = official.files("cifar10", "binary", made)
    folder = official.write_folder(tmp_path / "in", contents)
    archive = official.write_tar(
        tmp_path / "in.tar.gz",
        official.files("cifar10", "python", made),
        shuffle_seed=5,
    )
    one = ingest(tmp_path / "one", name="cifar10", path=str(folder))
    other = ingest(tmp_path / "other", name="cifar10", path=str(archive))
    assert contents_of(one.uri) == contents_of(other.uri)


def test_ids_and_splits_do_not_depend_on_shards(tmp_path):
    split_of = []
    for shards in (1, 7):
        uri = ingest(tmp_path / str(shards), name="digits", shards=shards).uri
        rows = {split: read_back(uri, split) for split in ("train", "eval", "test")}
        split_of.append({r["id"]: s for s, found in rows.items() for r in found})
        for found in rows.values():
            for file in {row["file"] for row in found}:
                ids = [row["id"] for row in found if row["file"] == file]
                assert ids == sorted(ids)
    assert split_of[0] == split_of[1] and len(split_of[0]) == 1797


def test_an_image_keeps_id_label_and_split_in_every_size(tmp_path):
    made = official.dataset("cifar100", {"train": 200, "test": 30})
    folder = official.write_folder(
        tmp_path / "in", official.files("cifar100", "binary", made)
    )
    whole, small = (
        {
            split: read_back(uri, split)
            for uri in [
                ingest(
                    tmp_path / name, name="cifar100", path=str(folder), **settings
                ).uri
            ]
            for split in ("train", "eval", "test")
        }
        for name, settings in {
            "whole": {},
            "small": {"image_size": 16, "channels": 1},
        }.items()
    )
    described = json.loads((tmp_path / "small/dataset.json").read_text())
    assert described["image_shape"] == [16, 16, 1]
    for split, rows in whole.items():
        assert len(rows) == described["counts"][split] > 0
        for row, reduced in zip(rows, small[split], strict=True):
            for key in ("id", "label", "coarse", "file"):
                assert row[key] == reduced[key]
            means = row["image"].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
            picture = PIL.Image.fromarray(np.rint(means).astype(np.uint8)).convert("L")
            assert (np.asarray(picture) == reduced["image"][..., 0]).all()


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_are_scikit_learns_in_every_size(tmp_path, size):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values = bunch.images.astype(int) * 255 // 16
    expected = sorted(
        (
            np.kron(image, np.ones((size // 8, size // 8))).astype(np.uint8).tobytes(),
            label,
        )
        for image, label in zip(values, bunch.target.tolist(), strict=True)
    )
    settings = {} if size == 32 else {"image_size": size}  # 32 is the default
    uri = ingest(tmp_path, name="digits", **settings).uri
    rows = [row for split in ("train", "eval", "test") for row in read_back(uri, split)]
    for channel in range(3):
        found = sorted((r["image"][..., channel].tobytes(), r["label"]) for r in rows)
        assert found == expected


def test_duplicates_share_a_split_and_are_numbered(tmp_path):
    made = official.dataset("cifar10", SIZES)
    pixels = made["data_batch_1"][0]
    in_eval = identity.is_eval(identity.digests(pixels.reshape(40, -1)), 0.1)
    for chosen, stem in (
        (in_eval.argmin(), "data_batch_2"),
        (in_eval.argmax(), "data_batch_3"),
    ):
        made[stem][0][:2] = pixels[chosen]
    folder = official.write_folder(
        tmp_path / "in", official.files("cifar10", "binary", made)
    )
    uri = ingest(tmp_path / "out", name="cifar10", path=str(folder)).uri
    rows = read_back(uri, "train") + read_back(uri, "eval")
    assert len(rows) == len({row["id"] for row in rows}) == 200
    copies = [row["id"][:33] for row in rows if row["id"].endswith(b"-2")]
    assert len(copies) == 2
    for split in ("train", "eval"):
        ids = [row["id"] for row in read_back(uri, split)]
        for copy in copies:
            assert sum(i.startswith(copy) for i in ids) in (0, 3)


def test_more_shards_than_images_leave_readable_empty_files(tmp_path):
    uri = ingest(tmp_path, name="digits", shards=150).uri
    assert len(list(Path(uri, "Split-eval").iterdir())) == 150
    empty = {file.name for file in Path(uri, "Split-eval").iterdir()}
    assert empty - {row["file"] for row in read_back(uri, "eval")}


def test_empty_split_is_refused_and_nothing_is_left(tmp_path):
    made = official.dataset("cifar10", dict.fromkeys(SIZES, 1))
    folder = official.write_folder(
        tmp_path / "in", official.files("cifar10", "binary", made)
    )
    with pytest.raises(DataError, match="the eval split would be empty"):
        ingest(tmp_path / "out", name="cifar10", path=str(folder), eval_fraction=0.01)
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small cifar10, prepared by tensorflow-datasets itself."""
    import tensorflow_datasets as tfds

    made = official.dataset("cifar10", SIZES)

    with tfds.core.registered.skip_registration():

        class Cifar10(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("3.0.2")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "image": tfds.features.Image(shape=(32, 32, 3)),
                            "label": tfds.features.ClassLabel(num_classes=10),
                        }
                    ),
                )

            def _split_generators(self, _):
                return {s: self._generate_examples(s) for s in ("train", "test")}

            def _generate_examples(self, split):
                for stem, (pixels, labels, _) in made.items():
                    if ("test" in stem) == (split == "test"):
                        for i, image in enumerate(pixels):
                            yield f"{stem}{i}", {"image": image, "label": labels[i]}

    root = tmp_path_factory.mktemp("tfds")
    Cifar10(data_dir=str(root)).download_and_prepare()
    return root, made


def test_prepared_data_set_gives_the_same_bytes_as_the_files(tmp_path, prepared):
    root, made = prepared
    folder = official.write_folder(
        tmp_path / "in", official.files("cifar10", "binary", made)
    )
    one = ingest(tmp_path / "one", name="cifar10", path=str(folder))
    other = ingest(tmp_path / "other", name="cifar10", tfds_dir=str(root))
    assert contents_of(one.uri) == contents_of(other.uri)
    assert other.get_int_custom_property("verified") == 0
    assert other.get_string_custom_property("verification").startswith(
        f"prepared by tensorflow-datasets at {root}"
    )


@pytest.mark.parametrize("place", [0.3, 0.9])
def test_corrupt_prepared_records_are_one_line(tmp_path, prepared, place):
    root = tmp_path / "tfds"
    shutil.copytree(prepared[0], root)
    (file,) = root.glob("cifar10/3.0.2/cifar10-train.*")
    payload = bytearray(file.read_bytes())
    payload[int(place * len(payload))] ^= 255
    file.write_bytes(payload)
    with pytest.raises(DataError) as caught:
        ingest(tmp_path / "out", name="cifar10", tfds_dir=str(root))
    message = str(caught.value)
    assert "3.0.2, train: cannot be read after record" in message
    assert "remove that folder" in message and "\n" not in message
    assert not list((tmp_path / "out").iterdir())


def test_unreadable_description_is_one_line(tmp_path, prepared):
    root = tmp_path / "tfds"
    shutil.copytree(prepared[0], root)
    (root / "cifar10/3.0.2/features.json").write_text("{")
    with pytest.raises(DataError, match="remove that folder"):
        ingest(tmp_path / "out", name="cifar10", tfds_dir=str(root))


NAME = "pythonClassName"
IMAGE = "tensorflow_datasets.core.features.image_feature.Image"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(IMAGE, "planted.Image"),
        lambda text: text.replace(NAME, "python_class_name").replace(
            IMAGE, "planted.X"
        ),
        lambda _: json.dumps({"type": "planted.X", "content": {"features": {}}}),
        lambda text: json.dumps(
            {
                NAME: json.loads(text)[NAME],
                "jsonFeature": {"json": '{"type": "planted.X"}'},
            }
        ),
        lambda text: "[" * 50_000 + text,
        lambda text: text + " " * 10**6,
    ],
    ids=["class", "other spelling", "older form", "as text", "deep", "large"],
)
def test_a_description_names_nothing_to_import(tmp_path, monkeypatch, prepared, change):
    root = tmp_path / "tfds"
    shutil.copytree(prepared[0], root)
    file = root / "cifar10/3.0.2/features.json"
    changed = change(file.read_text())
    assert changed != file.read_text()
    file.write_text(changed)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="remove that folder"):
        ingest(tmp_path / "out", name="cifar10", tfds_dir=str(root))
    assert not (tmp_path / "ran").exists()


CLAIM = """
import struct, sys
from pathlib import Path

import google_crc32c

from components.example_gen import prepared_records
from components.example_gen.errors import DataError

folder = sys.argv[1]
(file,) = Path(folder).glob("cifar10-train.*")
length = struct.pack("<Q", 2**40)
crc = google_crc32c.value(length)
masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
file.write_bytes(length + struct.pack("<I", masked) + bytes(file.stat().st_size))
try:
    list(prepared_records.read(folder, "cifar10", "train"))
except DataError as error:
    print(error)
"""


def test_a_record_that_claims_a_terabyte_ends_nothing(tmp_path, prepared):
    root = tmp_path / "tfds"
    shutil.copytree(prepared[0], root)
    done = subprocess.run(
        [sys.executable, "-c", CLAIM, root / "cifar10/3.0.2"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "a record claims 1,099,511,627,776 bytes" in done.stdout


def test_a_picture_larger_than_promised_is_not_decoded(tmp_path, prepared):
    import tensorflow as tf

    root = tmp_path / "tfds"
    shutil.copytree(prepared[0], root)
    (file,) = root.glob("cifar10/3.0.2/cifar10-test.*")
    records = [bytes(r) for r in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()]
    example = tf.train.Example.FromString(records[-1])
    bomb = io.BytesIO()
    PIL.Image.new("L", (12_000, 12_000)).save(bomb, "PNG")  # 432 MB as RGB
    example.features.feature["image"].bytes_list.value[0] = bomb.getvalue()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in [*records[:-1], example.SerializeToString()]:
            writer.write(record)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="no PNG file of 32 x 32"):
        ingest(tmp_path / "out", name="cifar10", tfds_dir=str(root))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000  # KiB


def test_data_that_change_during_the_run_are_not_kept_for_what_they_were(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    official.write_folder(
        folder, official.files("cifar10", "binary", official.dataset("cifar10", SIZES))
    )
    before = "0" * 32  # what the command line saw
    with pytest.raises(DataError, match="was changed between this run's start"):
        ingest(tmp_path / "out", path=str(folder), name="cifar10", fingerprint=before)


def run_pipeline(root, data):
    from tfx import v1 as tfx
    from tfx.orchestration import metadata

    from components.example_gen.component import CifarExampleGen

    root.mkdir(exist_ok=True)
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(
        str(root / "metadata.sqlite")
    )
    node = CifarExampleGen(data=data, fingerprint=sources.local_fingerprint(data))
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="ingest",
            pipeline_root=str(root / "artifacts"),
            components=[node],
            metadata_connection_config=connection,
            beam_pipeline_args=BEAM,
            enable_cache=True,
        )
    )
    with metadata.Metadata(connection) as handle:
        return handle.store.get_artifacts_by_type("Examples")


KILLED = """
import os, signal, sys
from pathlib import Path
from components.example_gen import executor
from contract.config.data import DataConfig
from tests.components.example_gen import test_executor

whole, written = executor.serialise, []

def dies(chunks):
    for example in whole(chunks):
        written.append(example)
        if len(written) == 700:
            os.kill(os.getpid(), signal.SIGKILL)
        yield example

executor.serialise = dies
test_executor.run_pipeline(Path(sys.argv[1]), DataConfig(name="digits"))
"""


def test_killed_run_leaves_nothing_that_is_read(tmp_path):
    root = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(root)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert list(root.rglob(".partial/Split-*/*"))  # it died while writing
    assert not [p for p in root.rglob("Split-*") if ".partial" not in p.parts]
    artifacts = run_pipeline(root, DataConfig(name="digits"))
    (live,) = [a for a in artifacts if a.state == a.LIVE]
    counts = json.loads(live.custom_properties["counts"].string_value)
    assert sum(counts.values()) == 1797 and counts["test"] == 360
    for split, count in counts.items():
        assert len(read_back(live.uri, split)) == count
    # The cache knows it now.
    again = run_pipeline(root, DataConfig(name="digits"))
    assert len([a for a in again if a.state == a.LIVE]) == 1


@pytest.fixture
def official_site(tmp_path, monkeypatch):
    """A local web server in the place of the official one, with a small archive."""
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.image_classification import cifar

    site = tmp_path / "site"
    site.mkdir()
    contents = official.files("cifar10", "binary", official.dataset("cifar10", SIZES))
    contents["batches.meta.txt"] = "\n".join(DATASETS["cifar10"].class_names).encode()
    archive = official.write_tar(site / "cifar-10-binary.tar.gz", contents)
    handler = functools.partial(QuietHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
    info = checksums.UrlInfo(
        size=archive.stat().st_size,
        checksum=hashlib.sha256(archive.read_bytes()).hexdigest(),
        filename=archive.name,
    )
    real = cifar.Cifar10._cifar_info.fget
    monkeypatch.setattr(
        cifar.Cifar10,
        "_cifar_info",
        property(lambda self: real(self)._replace(url=url)),
    )
    monkeypatch.setattr(cifar.Cifar10, "url_infos", {url: info})
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: {url: info})
    monkeypatch.setattr(download, "URL", url.replace(archive.name, "{archive}"))
    monkeypatch.setenv("no_proxy", "*")
    yield archive
    server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_download_is_verified_then_found_again(tmp_path, official_site):
    root = tmp_path / "tfds"
    artifact = ingest(tmp_path / "one", name="cifar10", tfds_dir=str(root))
    assert artifact.get_int_custom_property("verified") == 1
    verification = artifact.get_string_custom_property("verification")
    assert verification.startswith("downloaded in this run from http://127.0.0.1")
    assert not list(root.glob(".download-*"))
    official_site.unlink()
    again = ingest(tmp_path / "two", name="cifar10", tfds_dir=str(root))
    assert again.get_int_custom_property("verified") == 0
    assert contents_of(artifact.uri) == contents_of(again.uri)


def test_changed_download_is_refused(tmp_path, official_site):
    payload = bytearray(official_site.read_bytes())
    payload[-1] ^= 1
    official_site.write_bytes(payload)
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        ingest(tmp_path / "out", name="cifar10", tfds_dir=str(tmp_path / "tfds"))
    assert "hecksum" in str(caught.value) and "data.path" in str(caught.value)
    assert not list((tmp_path / "tfds").rglob("dataset_info.json"))


def own_images(tmp_path):
    """60 pictures of two classes, some in two splits, one that is none."""
    made = own.contents(count=30, top="train/")
    made |= {f"val/{c}/{n}.png": own.picture(f) for f, (c, n) in enumerate(
        [("cat", 1), ("cat", 2), ("dog", 1), ("dog", 2)], start=5000)}  # fmt: skip
    made["train/cat/copy.png"] = made["val/dog/1.png"]
    made["train/dog/broken.jpg"] = b"I am a dog\n"
    return made


def test_own_images_are_the_same_from_a_folder_an_archive_and_a_table(tmp_path):
    made = own_images(tmp_path)
    folder = own.write(tmp_path / "pets", made)
    archive = own.write_tar(tmp_path / "pets.tar", made)
    table = tmp_path / "pets.csv"
    table.write_text(
        "path,label,split\n"
        + "".join(
            f"pets/{name},{name.split('/')[1]},{name.split('/')[0]}\n" for name in made
        )
    )
    artifacts = {
        path: ingest(
            tmp_path / str(number),
            name="folder",
            path=path,
            image_size=16,
            unreadable_limit=0.05,
        )
        for number, path in enumerate((folder, archive, str(table)))
    }
    first, *others = map(contents_of, (a.uri for a in artifacts.values()))
    assert others == [first, first]
    for path, artifact in artifacts.items():
        said = artifact.get_string_custom_property("verification")
        size = sum(map(len, made.values()))
        assert f"{len(made)} files, {size:,} bytes, SHA-256" in said
        assert artifact.get_string_custom_property("source").endswith(path)
        assert artifact.get_int_custom_property("verified") == 0
        broken, twice = json.loads(artifact.get_string_custom_property("remarks"))
        assert "1 of 66 files cannot be read" in broken and "broken.jpg" in broken
        assert "train/cat/copy.png" in twice and "in two splits" in twice

    uri = artifacts[folder].uri
    described = json.loads(Path(uri, "dataset.json").read_text())
    assert described["labels"] == {"label": ["cat", "dog"]}
    assert described["title"] == "pets" and described["image_shape"] == [16, 16, 3]
    rows = {split: read_back(uri, split) for split in ("train", "eval", "test")}
    assert described["counts"] == {split: len(found) for split, found in rows.items()}
    assert len(rows["test"]) == 4 and len(rows["train"] + rows["eval"]) == 60
    by_id = {
        hashlib.sha256(content).digest()[:16].hex().encode() + b"-0": (name, content)
        for name, content in made.items()
        if name not in ("train/cat/copy.png", "train/dog/broken.jpg")
    }
    for split, found in rows.items():
        for row in found:
            name, content = by_id.pop(row["id"])
            assert name.startswith("val/" if split == "test" else "train/")
            assert ["cat", "dog"][row["label"]] == name.split("/")[1]
            with PIL.Image.open(io.BytesIO(content)) as picture:
                wanted = PIL.ImageOps.fit(
                    picture, (16, 16), PIL.Image.Resampling.BILINEAR
                )
            assert (row["image"] == np.asarray(wanted)).all()
    assert not by_id


def test_too_many_unreadable_pictures_are_refused_and_nothing_is_left(tmp_path):
    folder = own.write(tmp_path / "in", own_images(tmp_path))
    with pytest.raises(DataError, match="1 of 66 files cannot be read, more than data"):
        ingest(tmp_path / "out", name="folder", path=folder)
    assert not list((tmp_path / "out").iterdir())


def test_encoded_pictures_stay_files_in_order_of_content(tmp_path):
    """Upright grey and RGB files as they are, all else as PNG; damaged ones named."""
    import tensorflow as tf

    kinds = pictures.examples()
    made = {f"train/a/{name}.png": kind.content for name, kind in kinds.items()}
    made |= {f"train/b/{n}.jpg": own.picture(n, kind="JPEG") for n in range(20)}
    made |= {f"val/{c}/1.png": own.picture(100 + i) for i, c in enumerate("ab")}
    made["train/b/cut.jpg"] = made["train/b/1.jpg"][:300]
    folder = own.write(tmp_path / "in", made)
    settings = {"name": "folder", "path": folder, "encoded": True, "image_size": 16}
    artifact = ingest(tmp_path / "out", unreadable_limit=0.1, **settings)
    (remark,) = json.loads(artifact.get_string_custom_property("remarks"))
    assert "1 of" in remark and "cut.jpg" in remark
    described = json.loads(Path(artifact.uri, "dataset.json").read_text())
    assert described["image_shape"] == [None, None, 3] and described["crop"] == 16
    assert sum(described["counts"].values()) == len(made) - 1
    by_id = {
        hashlib.sha256(content).digest()[:16].hex().encode() + b"-0": (name, content)
        for name, content in made.items()
    }
    same = 0
    for split in ("train", "eval", "test"):
        files = sorted(Path(artifact.uri, f"Split-{split}").iterdir())
        assert [file.suffix for file in files] == [""] * 4  # never compressed
        for file in files:
            keys = []
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                values = tf.train.Example.FromString(record).features.feature
                (key,) = values["example_id"].bytes_list.value
                keys.append(key)
                name, content = by_id.pop(key)
                assert ["a", "b"][values["label"].int64_list.value[0]] == name.split(
                    "/"
                )[1]
                (stored,) = values["image"].bytes_list.value
                if stored == content:
                    same += 1
                    continue
                kind = kinds[name.removeprefix("train/a/").removesuffix(".png")]
                with PIL.Image.open(io.BytesIO(stored)) as picture:
                    assert picture.format == "PNG" and picture.mode == "RGB"
                    assert (np.abs(np.asarray(picture, int) - kind.rgb) <= 1).all()
            assert keys == sorted(keys)
    assert [name for name, _ in by_id.values()] == ["train/b/cut.jpg"]
    assert 23 <= same < len(made) - 20

    again = ingest(tmp_path / "again", unreadable_limit=0.1, **settings)
    assert contents_of(again.uri) == contents_of(artifact.uri)
    os.rename(f"{folder}/train/b/2.jpg", f"{folder}/train/a/2.jpg")
    other = ingest(tmp_path / "other", unreadable_limit=0.1, **settings)
    digest = json.loads(Path(other.uri, "dataset.json").read_text())["digest"]
    assert len(digest) == 64 and digest != described["digest"]


def test_encoded_is_for_ones_own_images_in_colour(tmp_path):
    folder = own.write(tmp_path / "in", own.contents())
    for settings, words in (
        ({"name": "digits"}, "data.name=folder"),
        ({"name": "folder", "path": folder, "channels": 1}, "data.channels=1"),
        ({"name": "folder", "path": folder, "extra": "more"}, "data.extra=more"),
    ):
        with pytest.raises(ValueError, match=words):
            sources.expected(DataConfig(encoded=True, **settings))
