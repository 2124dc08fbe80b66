"""Logged images and the labels that came in for them, as a run takes them."""

import hashlib
import json
import stat

import numpy as np
import pytest

pytest.importorskip("tensorflow")
import tensorflow as tf  # noqa: E402

from components.example_gen import extra  # noqa: E402
from contract.baseline import Baseline  # noqa: E402
from monitoring import NothingToCompare, labelled  # noqa: E402
from monitoring.__main__ import main  # noqa: E402
from monitoring.baselines import Baselines  # noqa: E402
from tests.monitoring import logs  # noqa: E402

pytestmark = pytest.mark.tf


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def served(tmp_path):
    """Versions with a baseline of their own, below output/serving/cifar."""

    def serve(version, names=logs.CLASSES, shape=(32, 32, 3)):
        folder = tmp_path / f"output/serving/cifar/{version}/assets.extra"
        folder.mkdir(parents=True)
        told = Baseline(class_names=names, image_shape=shape)
        (folder / "baseline.json").write_text(told.to_json())

    serve(1)
    return serve


@pytest.fixture
def asked(tmp_path):
    """Logs images in a form, for a version; returns their ids."""

    def ask(pixels, version=1, form="images"):
        sent = pixels
        if form == "png":
            sent = np.array([*map(logs.png, pixels)], object)
        logs.write(
            tmp_path / "log",
            logs.predict_log({"x": sent}, ["cat"] * len(pixels), version=version),
        )
        as_sent = [image.tobytes() for image in pixels] if form == "images" else sent
        return [sha(content) for content in as_sent]

    return ask


def gather(tmp_path, labels, **chosen):
    return labelled.gather(
        tmp_path / "labelled",
        [str(tmp_path / "log")],
        Baselines(str(tmp_path / "output")),
        labels,
        **chosen,
    )


def held(tmp_path):
    """What TensorFlow reads there: pixels -> label and id."""
    found = {}
    for record in tf.data.TFRecordDataset(str(tmp_path / "labelled/labelled.tfrecord")):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        found[feature["image"].bytes_list.value[0]] = (
            feature["label"].int64_list.value[0],
            feature["example_id"].bytes_list.value[0].decode(),
        )
    told = json.loads((tmp_path / "labelled/dataset.json").read_text())
    assert told["counts"] == {"train": len(found)}
    return found


def test_images_with_a_label_are_kept_in_whatever_form_they_came(
    served, asked, tmp_path
):
    pixels = logs.images(9, 1)
    ids = asked(pixels[:4]) + asked(pixels[4:7], form="png") + asked(pixels[7:])
    labels = {ids[0]: "ship", ids[4]: "dog", ids[8]: "cat", "f" * 64: "cat"}
    found = gather(tmp_path, labels)
    assert (found.images, found.new) == (3, 3)
    assert held(tmp_path) == {
        pixels[0].tobytes(): (2, ids[0]),
        pixels[4].tobytes(): (1, ids[4]),
        pixels[8].tobytes(): (0, ids[8]),
    }
    for path in (tmp_path / "labelled").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "labelled").stat().st_mode) == 0o700


def test_what_is_held_outlives_the_log_and_the_newest_label_counts(
    served, asked, tmp_path
):
    pixels = logs.images(4, 2)
    ids = asked(pixels[:2])
    gather(tmp_path, dict.fromkeys(ids, "cat"))
    for path in (tmp_path / "log").iterdir():  # rotated away
        path.unlink()
    ids += asked(pixels[1:])
    found = gather(tmp_path, {ids[1]: "dog", ids[3]: "ship"})
    assert (found.images, found.new) == (3, 1)
    assert {k: label for k, (label, _) in held(tmp_path).items()} == {
        pixels[0].tobytes(): 0,
        pixels[1].tobytes(): 1,
        pixels[2].tobytes(): 2,
    }


def test_labels_that_contradict_each_other_or_are_no_class_are_left_out(
    served, asked, tmp_path
):
    pixels = logs.images(3, 3)
    one, other = asked(pixels[:1]), asked(pixels[:1], form="png")
    rest = asked(pixels[1:])
    labels = {one[0]: "cat", other[0]: "dog", rest[0]: "ship", rest[1]: "3"}
    found = gather(tmp_path, labels)
    assert (found.images, found.contradictory, found.unknown) == (1, 1, 1)
    assert found.sentence == (
        "1 labelled images, 1 of them new; left out: 1 with several labels, 1 with a label "
        "that is no class of the model's"
    )
    assert [*held(tmp_path)] == [pixels[1].tobytes()]


def test_the_oldest_go_first(served, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(extra, "MOST_IMAGES", 3)
    pixels = logs.images(5, 4)
    ids = asked(pixels[:2])
    gather(tmp_path, dict.fromkeys(ids, "cat"))
    ids += asked(pixels[2:])
    found = gather(tmp_path, dict.fromkeys(ids[2:], "cat"))
    assert (found.images, found.oldest) == (3, 2)
    assert [*held(tmp_path)] == [image.tobytes() for image in pixels[2:]]


def test_nothing_is_written_where_no_image_has_a_label(served, asked, tmp_path):
    asked(logs.images(2, 5))
    assert gather(tmp_path, {"f" * 64: "cat"}) is None
    assert not (tmp_path / "labelled").exists()


@pytest.mark.parametrize(
    ("names", "shape", "says"),
    [
        (("cat", "ship", "dog"), (32, 32, 3), "version 2 has other images or classes"),
        (
            logs.CLASSES,
            (32, 32, 1),
            "version 2 has other images or classes than versio",
        ),
        (logs.CLASSES, (None, None, 3), "version 2: its images have no common size"),
    ],
)
def test_versions_that_differ_are_not_mixed(
    served, asked, tmp_path, names, shape, says
):
    served(2, names, shape)
    ids = asked(logs.images(2, 6)) + asked(logs.images(2, 7), version=2)
    with pytest.raises(NothingToCompare, match=says):
        gather(tmp_path, dict.fromkeys(ids, "cat"))
    assert gather(tmp_path, dict.fromkeys(ids, "cat"), version=1).images == 2


def test_a_folder_of_other_images_is_not_touched(served, asked, tmp_path):
    ids = asked(logs.images(2, 8))
    gather(tmp_path, dict.fromkeys(ids, "cat"))
    told = tmp_path / "labelled/dataset.json"
    told.write_text(told.read_text().replace('"cat"', '"lion"'))
    with pytest.raises(NothingToCompare, match="other classes: choose another folder"):
        gather(tmp_path, dict.fromkeys(ids, "cat"))
    told.write_text("{")
    with pytest.raises(NothingToCompare, match="dataset.json"):
        gather(tmp_path, dict.fromkeys(ids, "cat"))


def test_the_command_and_what_an_alarm_starts_with_the_images(
    served, asked, tmp_path, capsys
):
    ids = asked(logs.images(3, 9))
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n" + "".join(f"{key},dog\n" for key in ids[:2]))
    places = [f"--requests={tmp_path}/log", f"--pipeline_output={tmp_path}/output"]
    words = [*places, f"--labels={labels}", f"--output={tmp_path}/labelled"]
    assert main(["labelled", *words]) == 0
    assert capsys.readouterr().out == (
        f"{tmp_path}/labelled: 2 labelled images, 2 of them new\n"
    )
    taken = tmp_path / "file"
    taken.touch()
    assert main(["labelled", *words, f"--output={taken}"]) == 2
    assert f"--output={taken}: must be a folder" in capsys.readouterr().err
    labels.write_text(f"id,label\n{ids[0].upper()},cat\n")
    assert main(["labelled", *words]) == 2
    assert "no logged image has a label in" in capsys.readouterr().err
    main(["once", *places, f"--labels={labels}", "--fewest=1"])
    assert "none of its ids is of a logged image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--retrain=run {labelled}", "--output=o"],
            "with {labelled} needs --labels CSV",
        ),
        (["--retrain=run 'x", "--output=o"], "cannot be read as words"),
        (["--retrain= ", "--output=o"], "must name a program"),
    ],
)
def test_a_command_that_cannot_be_started_is_refused_at_once(options, says, capsys):
    assert main(["once", "--requests=log", *options]) == 2
    assert says in capsys.readouterr().err
