"""What examples are, and how they are read, against examples made by hand."""

import numpy as np
import pytest

from contract.datasets import known
from contract.typed_json import RecordError

pytestmark = pytest.mark.tf


def test_the_file_beside_the_examples_says_what_they_are(tmp_path):
    from trainer.examples import dataset_of

    written = known(
        "cifar100", "coarse", image_size=16, channels=1, counts={"train": 3}
    )
    (tmp_path / "dataset.json").write_text(written.to_json())
    assert dataset_of(str(tmp_path), "cifar10") == written  # whatever else is said
    (tmp_path / "dataset.json").write_text(written.to_json()[:-9])
    with pytest.raises(RecordError, match="dataset.json.*put back what was written"):
        dataset_of(str(tmp_path), "cifar10")


def test_examples_of_an_earlier_version_are_what_they_are_called(tmp_path):
    from trainer.examples import dataset_of

    assert dataset_of(str(tmp_path), "cifar10").pixels == (32, 32, 3)
    coarse = dataset_of(str(tmp_path), "cifar100", "coarse")
    assert len(coarse.class_names) == 20 and coarse.label_key == "coarse_label"
    with pytest.raises(FileNotFoundError, match="dataset.json is missing"):
        dataset_of(str(tmp_path), "flowers")


@pytest.mark.parametrize(
    ("patterns", "artifact"),
    [
        (["/runs/examples/5/Split-train/*"], "/runs/examples/5"),
        (["gs://b/Split-x/5/Split-train/a", "gs://b/Split-x/5/Split-eval/*"],
         "gs://b/Split-x/5"),
        (["/a/Split-train/*", "/b/Split-train/*"], None),
        (["/somewhere/train.gz"], None),
        ([], None),
    ],
)  # fmt: skip
def test_files_of_a_split_tell_their_artifact(patterns, artifact):
    from trainer.examples import artifact_of

    if artifact is not None:
        assert artifact_of(patterns) == artifact
    else:
        with pytest.raises(ValueError, match="must be files of one Examples artifact"):
            artifact_of(patterns)


def test_named_features_are_parsed_and_images_have_their_shape():
    import tensorflow as tf

    from trainer.examples import example_of, parse, pixels_of

    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    rows = []
    for number, image in enumerate(images):
        example = tf.train.Example()
        values = example.features.feature
        values["image"].bytes_list.value.append(image.tobytes())
        values["label"].int64_list.value.append(number)
        values["example_id"].bytes_list.value.append(b"%d" % number)
        rows.append(example.SerializeToString())
    found = parse(rows, ["label", "image"])
    assert set(found) == {"label", "image"}
    assert found["label"].numpy().tolist() == [0, 1, 2, 3, 4]
    grey = known("digits", image_size=8, channels=1)
    np.testing.assert_array_equal(pixels_of(found["image"].numpy(), grey), images)
    with pytest.raises(ValueError, match="reshape"):
        pixels_of(found["image"].numpy(), known("digits"))
    content = images[2].tobytes()
    alone = parse([example_of(content).SerializeToString()], ["image"])["image"]
    assert alone.numpy()[0] == content
