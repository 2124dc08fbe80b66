"""Sets of tensorflow-datasets as images of one's own: made by it, and read by it, too."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.example_gen import own_files, own_records, own_tfds, sources
from components.example_gen.errors import DataError
from contract.config.data import DataConfig
from contract.fields import override
from tests.components.example_gen import own
from tests.components.example_gen.test_executor import contents_of, ingest

pytestmark = pytest.mark.tf

CLASSES = ("zebra", "ant")  # in no order of the alphabet


def grey(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def rows(first, count):
    """Content of a file, and its label: JPEG, PNG, grey PNG and WebP in turns."""
    return [
        (
            grey(first + n)
            if n % 4 == 2
            else own.picture(first + n, kind=("JPEG", "PNG", "", "WEBP")[n % 4]),
            n % 2,
        )
        for n in range(count)
    ]


def store(root, name, splits, *, features=None, config=None, version="1.0.0"):
    """Lets tensorflow-datasets store examples; returns the folder."""
    import tensorflow_datasets as tfds

    features = features or {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=CLASSES),
    }
    keyed = {
        split: [
            (n, {"image": row[0], "label": row[1]} if isinstance(row, tuple) else row)
            for n, row in enumerate(examples)
        ]
        for split, examples in splits.items()
    }
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        features=tfds.features.FeaturesDict(features),
        split_datasets=keyed,
        config=config,
        data_dir=str(root),
    )
    return Path(builder.data_dir)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root with the set `pets`, and what is in it."""
    splits = {"train": rows(0, 80), "validation": rows(200, 20), "extra": rows(300, 3)}
    root = tmp_path_factory.mktemp("tfds")
    store(root, "pets", splits)
    return root, splits


@pytest.fixture(scope="module")
def images(made, tmp_path_factory):
    """The same as a folder, whose classes have the same order."""
    _, splits = made
    files = {
        f"{split}/{label}-{CLASSES[label]}/{n}.png": content
        for split in ("train", "validation")
        for n, (content, label) in enumerate(splits[split])
    }
    return own.write(tmp_path_factory.mktemp("folder"), files)


def config(root, name="pets", **settings):
    return DataConfig(name="folder", tfds=name, tfds_dir=str(root), **settings)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_set_is_ingested_as_a_folder_of_the_same_files(
    tmp_path, made, images, encoded
):
    root, splits = made
    settings = {"encoded": encoded, "image_size": 16}
    one = ingest(
        tmp_path / "one", name="folder", tfds="pets", tfds_dir=str(root), **settings
    )
    other = ingest(tmp_path / "other", name="folder", path=images, **settings)
    written, wanted = contents_of(one.uri), contents_of(other.uri)
    described = json.loads(written.pop("dataset.json"))
    folder = json.loads(wanted.pop("dataset.json"))
    assert written == wanted and len(written) == 12
    assert described["labels"] == {"label": list(CLASSES)}
    assert described["title"] == "pets:1.0.0"
    assert described["counts"]["test"] == 20 and described["counts"]["eval"] > 0
    same = ("counts", "digest", "image_shape", "crop")
    assert [described[key] for key in same] == [folder[key] for key in same]

    assert one.get_string_custom_property("source") == (
        f"tensorflow-datasets pets:1.0.0 in {root}/pets/1.0.0"
    )
    said = one.get_string_custom_property("verification")
    size = sum(len(c) for s in ("train", "validation") for c, _ in splits[s])
    assert said.startswith("no checksum is published for prepared records: 100 files, ")
    assert f"{size:,} bytes" in said and one.get_int_custom_property("verified") == 0
    (remark,) = json.loads(one.get_string_custom_property("remarks"))
    assert remark.startswith("splits that are no train") and remark.endswith("extra")


def test_files_are_what_tensorflow_datasets_reads_without_decoding(made):
    import tensorflow_datasets as tfds

    root, _ = made
    found = own_tfds.listed(own_tfds.find("pets", str(root)))
    read = [
        (own_files.content(found.root, image, 1 << 20), image.label, image.split)
        for image in found.images
    ]
    builder = tfds.builder_from_directory(f"{root}/pets/1.0.0")
    names = builder.info.features["label"].names
    wanted = [
        (row["image"], names[row["label"]], split)
        for theirs, split in (("train", "train"), ("validation", "test"))
        for row in tfds.as_numpy(
            builder.as_dataset(
                split=theirs, decoders={"image": tfds.decode.SkipDecoding()}
            )
        )
    ]
    assert sorted(read) == sorted(wanted) and len(read) == 100


def test_a_set_is_described_before_its_records_are_read(made):
    root, _ = made
    found = sources.expected(config(root, image_size=32))
    assert found.class_names == CLASSES and found.image_shape == (32, 32, 3)
    assert found.counts == {"train": 80, "test": 20}


def test_the_fingerprint_follows_name_version_and_contents(made, tmp_path):
    root, _ = made

    def fingerprint(name, change=None):
        copy = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(root / "pets/1.0.0", copy / name)
        for each in (copy / name).iterdir():
            if change and change in each.name:
                each.write_bytes(each.read_bytes() + b"\n")
        return sources.local_fingerprint(config(copy, name.split("/")[0]))

    first = fingerprint("pets/1.0.0")
    assert fingerprint("pets/1.0.0") == first
    others = [
        fingerprint("cats/1.0.0"),
        fingerprint("pets/1.0.1"),
        *(fingerprint("pets/1.0.0", f) for f in ("-train", "features", "label.labels")),
    ]
    assert len({first, *others}) == 6
    assert fingerprint("pets/1.0.0", "-extra") == first  # is not read


def test_a_version_and_a_configuration_can_be_named(tmp_path):
    for version, first in (("1.0.0", 0), ("1.0.10", 100), ("1.0.9", 200)):
        store(tmp_path, "pets", {"train": rows(first, 6)}, version=version)
    store(tmp_path, "cats", {"train": rows(300, 6)}, config="small")

    def contents(name):
        found = own_tfds.listed(own_tfds.find(name, str(tmp_path)))
        return found.path, {
            own_files.content(found.root, i, 99999) for i in found.images
        }

    assert contents("pets") == ("pets:1.0.10", {c for c, _ in rows(100, 6)})
    assert contents("pets:1.0.9") == ("pets:1.0.9", {c for c, _ in rows(200, 6)})
    wanted = ("cats/small:1.0.0", {c for c, _ in rows(300, 6)})
    assert contents("cats/small") == contents("cats/small:1.0.0") == wanted
    for name, words in (
        ("pets:2.0.0", "where pets has 1.0.0, 1.0.10, 1.0.9; give one"),
        ("cats", "where cats has small; give one of these, cats/CONFIGURATION"),
        ("dogs", r"dogs: is not prepared in .*tfds.load\('dogs', data_dir='"),
        ("../pets", "must be name, name:version"),
        ("pets/../pets", "must be name, name:version"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            own_tfds.find(name, str(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("splits", "counts"),
    [
        ({"train": 30}, {None: 30}),
        ({"train": 30, "test": 10}, {"train": 30, "test": 10}),
        (
            {"train": 30, "val": 8, "test": 10},
            {"train": 30, "eval": 8, "test": 10},
        ),
        ({"train": 30, "test": 10, "unlabelled": 5}, {"train": 30, "test": 10}),
    ],
)
def test_splits_mean_what_folders_of_their_names_mean(tmp_path, splits, counts):
    made = {name: rows(100 * n, splits[name]) for n, name in enumerate(splits)}
    store(tmp_path, "pets", made)
    found = own_tfds.find("pets", str(tmp_path))
    assert found.counts == counts == own_tfds.listed(found).counts
    carved = own_records.placed(own_tfds.listed(found), config(tmp_path)).splits
    assert all(carved[split] for split in ("train", "test"))


def test_a_split_without_labels_is_passed_over(tmp_path):
    """As the test split of ImageNet: its labels are -1."""
    made = {"train": rows(0, 30), "validation": rows(100, 8)}
    secret = [(content, -1) for content, _ in rows(200, 5)]
    store(tmp_path, "pets", made | {"test": secret})
    found = own_tfds.listed(own_tfds.find("pets", str(tmp_path)))
    assert found.counts == {"train": 30, "test": 8} and found.passed_over == ("test",)
    store(tmp_path, "cats", {"train": rows(0, 30) + secret})
    with pytest.raises(DataError, match="has no label, and others of train have one"):
        own_tfds.listed(own_tfds.find("cats", str(tmp_path)))
    store(tmp_path, "dogs", {"train": secret})
    with pytest.raises(DataError, match="its images have no labels"):
        own_tfds.listed(own_tfds.find("dogs", str(tmp_path)))


def test_of_several_labels_the_one_for_supervised_learning_is_taken(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class Pets(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "picture": tfds.features.Image(),
                            "mask": tfds.features.Image(shape=(None, None, 1)),
                            "breed": tfds.features.ClassLabel(num_classes=2),
                            "species": tfds.features.ClassLabel(num_classes=5),
                        }
                    ),
                    supervised_keys=("picture", "breed"),
                )

            def _split_generators(self, _):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for n, (content, label) in enumerate(rows(0, 8)):
                    yield (
                        n,
                        {
                            "picture": content,
                            "mask": grey(50 + n),
                            "breed": label,
                            "species": 4,
                        },
                    )

    Pets(data_dir=str(tmp_path)).download_and_prepare()
    found = own_tfds.listed(own_tfds.find("pets", str(tmp_path)))
    assert found.class_names == ("0", "1")
    read = {(own_files.content(found.root, i, 99999), i.label) for i in found.images}
    assert read == {(content, str(label)) for content, label in rows(0, 8)}


def test_sets_of_another_kind_are_one_sentence_that_names_their_features(tmp_path):
    import tensorflow_datasets as tfds

    picture, label = tfds.features.Image(), tfds.features.ClassLabel(num_classes=2)
    content = own.picture(0)
    text = tfds.features.Text()
    cases = {
        "texts": ({"text": text, "label": label}, {"text": "a", "label": 0}),
        "captions": ({"image": picture, "text": text}, {"image": content, "text": "a"}),
        "pairs": (
            {"a": picture, "b": picture, "label": label},
            {"a": content, "b": content, "label": 1},
        ),
    }
    for name, (features, example) in cases.items():
        store(tmp_path, name, {"train": [example]}, features=features)
        with pytest.raises(DataError, match=f"data.tfds={name}: must be") as caught:
            own_tfds.find(name, str(tmp_path))
        message = str(caught.value)
        assert "\n" not in message and all(each in message for each in features)
        assert "(ClassLabel)" in message or name == "captions"
    depth = tfds.features.Image(shape=(None, None, 1), dtype=np.float32)
    example = {"image": np.zeros((4, 4, 1), np.float32), "label": 1}
    features = {"image": depth, "label": label}
    store(tmp_path, "depths", {"train": [example]}, features=features)
    with pytest.raises(DataError, match="of its image are float32, and only uint8"):
        own_tfds.find("depths", str(tmp_path))
    store(tmp_path, "tests", {"test": rows(0, 4)})
    with pytest.raises(DataError, match="has no split train, only test"):
        own_tfds.find("tests", str(tmp_path))
    store(
        tmp_path, "twins", {"train": rows(0, 4), "val": rows(9, 4), "eval": rows(20, 4)}
    )
    with pytest.raises(DataError, match="has two splits for eval"):
        own_tfds.find("twins", str(tmp_path))


def test_pictures_that_cannot_be_read_are_counted_as_those_of_a_folder(tmp_path):
    made = rows(0, 60)
    made[7] = (b"I am an ant\n", 1)
    made[8] = (b"", 0)
    store(tmp_path, "pets", {"train": made})
    for encoded in (False, True):
        settings = {"tfds": "pets", "tfds_dir": str(tmp_path), "encoded": encoded}
        artifact = ingest(
            tmp_path / f"out{encoded}", name="folder", unreadable_limit=0.1, **settings
        )
        (remark,) = json.loads(artifact.get_string_custom_property("remarks"))
        assert "2 of 60 files cannot be read" in remark
        assert "pets-train.tfrecord-00000-of-00001:" in remark
        assert "the file is empty" in remark and "no PNG, JPEG" in remark
        with pytest.raises(DataError, match=r"^data.tfds=pets:1.0.0: 2 of 60 files"):
            ingest(tmp_path / "none", name="folder", **settings)


RECORDS = "pets-train.tfrecord-00000-of-00001"


@pytest.mark.parametrize("place", [0, 5, 9, 0.3, 0.9, "cut", "a record less", "none"])
def test_damaged_records_are_one_sentence(tmp_path, made, place):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "pets/1.0.0" / RECORDS
    content = bytearray(file.read_bytes())
    if place == "cut":
        content = content[:-10]
    elif place == "a record less":
        content = content[int.from_bytes(content[:8], "little") + 16 :]
    elif place == "none":
        file.unlink()
    else:
        content[int(place * len(content)) if place < 1 and place else place] ^= 255
    if place != "none":
        file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        ingest(tmp_path / "out", name="folder", tfds="pets", tfds_dir=str(tmp_path))
    message = str(caught.value)
    assert "\n" not in message and "prepare" in message and len(message) < 600


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("features.json", "{"),
        ("features.json", "[" * 100_000),
        ("features.json", '{"featuresDict": {"features": {"../x": {}}}}'),
        ("features.json", '{"featuresDict": {"features": {"image": 5}}}'),
        ("features.json", '{"type": "old", "content": {"image": {}}}'),
        ("features.json", " " * (9 << 20)),
        ("label.labels.txt", "zebra\n"),
        ("label.labels.txt", "zebra\nzebra\n"),
        ("label.labels.txt", "zebra\n\x1b[2J\n"),
        ("label.labels.txt", "zebra\nZEBRA\n"),
        ("dataset_info.json", "{}"),
    ],
)
def test_damaged_descriptions_are_one_sentence(tmp_path, made, name, content):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "pets/1.0.0" / name).write_text(content)
    with pytest.raises(DataError) as caught:
        own_tfds.find("pets", str(tmp_path))
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500 + len(str(tmp_path))
    os.unlink(tmp_path / "pets/1.0.0" / name)
    if name != "label.labels.txt":  # of which numbers take the place
        with pytest.raises(DataError, match="damaged"):
            own_tfds.find("pets", str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "cifar10"}, "data.name=cifar10 another one"),
        ({"path": "/x"}, "give its folder as data.tfds_dir"),
        ({"tfds_dir": "gs://bucket/x"}, "data.tfds does not run on Vertex AI"),
        ({"label": "coarse"}, "leave data.label out"),
        ({"channels": 2}, "must be 1"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(made, settings, words):
    with pytest.raises(DataError, match=words):
        sources.expected(override(config(made[0]), settings))
