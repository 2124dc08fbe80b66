"""Images and records through Beam: every one once, whatever happens meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.batch_predict import plan as plans
from contract.fields import ConfigError
from contract.model_run import ModelRun
from tests.components.batch_predict.brightness import NAMES, picture, save
from tests.serving import pictures

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    """1,201 images in two folders: three parts, the last of them short."""
    values = {}
    for number in range(1201):
        path = tmp_path / "images" / f"{number % 2}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        value = number * 7 % 256
        path.write_bytes(picture(value))
        values[str(path.relative_to(tmp_path / "images"))] = value
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images", values


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A SavedModel that tells dark, grey and light apart."""
    path = str(tmp_path_factory.mktemp("model") / "7")
    save(path)
    return path


def the_plan(model: str, folder: Path, output: Path) -> plans.Plan:
    found = plans.find_files(str(folder))
    return plans.Plan(plans.Model(model, 7), found, str(output))


def predict(plan: plans.Plan) -> None:
    from components.batch_predict import answering

    answering.predict(plan, in_process)


def in_process():
    import apache_beam

    from components.beam import IN_PROCESS

    return apache_beam.Pipeline(argv=[*IN_PROCESS])


def rows_of(output) -> list[dict]:
    return [json.loads(line) for line in Path(output).read_text().splitlines()]


def check_answer(row: dict, value: int) -> None:
    label = int(value / 86)
    assert (row["class"], row["label"]) == (NAMES[label], label)
    assert row["probability"] == pytest.approx(0.8)
    assert row["version"] == 7


def check(output, values: dict[str, int], broken: tuple[str, ...] = ()) -> None:
    rows = rows_of(output)
    assert [row["image"] for row in rows] == sorted(values)  # each once, in order
    for row in rows:
        if row["image"] in broken:
            assert set(row) == {"image", "problem", "version"}
        else:
            check_answer(row, values[row["image"]])


@pytest.mark.tf
def test_every_image_is_answered_once_and_a_broken_one_alone_is_told(
    model, folder, tmp_path
):
    images, values = folder
    broken = sorted(values)[700]
    (images / broken).write_bytes(b"no image")
    plan = the_plan(model, images, tmp_path / "out" / "answers.jsonl")
    assert len(plan.items) == 3
    predict(plan)
    plans.join(plan)
    check(plan.output, values, (broken,))
    assert os.listdir(tmp_path / "out") == ["answers.jsonl"]  # nothing else is left


def write_records(path: Path, numbers, *, ids: bool) -> None:
    import tensorflow as tf

    options = "GZIP" if path.suffix == ".gz" else ""
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for number in numbers:
            value = number * 7 % 256
            texts = {"image": bytes([value]) * 48}
            if ids:
                texts["example_id"] = f"id{number}".encode()
            features = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
                for key, text in texts.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


@pytest.mark.tf
def test_records_are_answered_by_file_and_number_with_their_ids(
    model, tmp_path, monkeypatch
):
    images = tmp_path / "examples" / "Split-eval"
    images.mkdir(parents=True)
    counts = {
        "data_tfrecord-00000-of-00003.gz": 1200,
        "data_tfrecord-00001-of-00003.gz": 1000,  # no part is short
        "data_tfrecord-00002-of-00003.gz": 0,
    }
    for name, count in counts.items():
        write_records(images / name, range(count), ids="00000-of" in name)
    plan = the_plan(model, images, tmp_path / "answers.jsonl")
    write = plans.write_whole
    written: list[str] = []

    def once(path, lines):
        if len(written) == 4:
            raise RuntimeError("stopped")
        written.append(os.path.basename(path))
        write(path, lines)

    monkeypatch.setattr(plans, "write_whole", once)
    with pytest.raises(Exception, match="stopped"):
        predict(plan)
    assert len(written) == 4
    again: list[str] = []
    monkeypatch.setattr(
        plans, "write_whole", lambda p, t: (again.append(os.path.basename(p)), write(p, t))
    )  # fmt: skip
    predict(plan)
    assert not {*written} & {*again} and len(again) == 2  # what was done stays
    plans.join(plan)
    rows = rows_of(plan.output)
    assert [(row["file"], row["record"]) for row in rows] == [
        (name, number) for name, count in counts.items() for number in range(count)
    ]
    for row in rows:
        check_answer(row, row["record"] * 7 % 256)
        named = "00000-of" in row["file"]
        assert row.get("id") == (f"id{row['record']}" if named else None)


PROGRAM = """
import sys, time
from pathlib import Path
import apache_beam
from components.batch_predict import answering, plan as plans
from components.beam import IN_PROCESS
model, folder, output = sys.argv[1:]
plan = plans.Plan(plans.Model(model, 7), plans.find_files(folder), output)
write = plans.write_whole
def slowly(path, lines):
    write(path, lines)
    print(path, flush=True)
    time.sleep(60)
plans.write_whole = slowly
answering.predict(plan, lambda: apache_beam.Pipeline(argv=[*IN_PROCESS]))
"""


@pytest.mark.tf
def test_killed_and_started_again_nothing_is_lost_and_nothing_is_done_twice(
    model, folder, tmp_path
):
    images, values = folder
    plan = the_plan(model, images, tmp_path / "answers.jsonl")
    arguments = [model, str(images), plan.output]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert first and not os.path.exists(plan.output)
    done = {path: path.stat().st_mtime_ns for path in Path(plan.parts_folder).iterdir()}
    assert [str(path) for path in done] == [first]
    time.sleep(0.01)
    predict(plan)
    # What was done was not done again.
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    plans.join(plan)
    check(plan.output, values)


def test_other_images_or_another_model_are_another_prediction(folder, tmp_path):
    images, values = folder
    before = the_plan("/models/7", images, tmp_path / "a.jsonl").parts_folder
    assert the_plan("/models/7", images, tmp_path / "a.jsonl").parts_folder == before
    assert the_plan("/models/8", images, tmp_path / "a.jsonl").parts_folder != before
    changed = images / next(iter(values))
    changed.write_bytes(changed.read_bytes() + b" ")
    assert the_plan("/models/7", images, tmp_path / "a.jsonl").parts_folder != before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "is no folder"),
        ("empty", "holds no file"),
        ("both", "holds both images"),
    ],
)
def test_a_folder_that_cannot_be_predicted_is_one_sentence(name, words, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "a.png").write_bytes(b"x")
    (tmp_path / "both" / "data_tfrecord-00000-of-00001").write_bytes(b"x")
    with pytest.raises(ConfigError, match=rf"^--images=.*{words}"):
        plans.find_files(str(tmp_path / name))


def test_items_cover_all_images_once():
    names = tuple(f"{n:04d}.png" for n in range(plans.PART_IMAGES * 2 + 1))
    found = plans.Found("f", names, False, "d")
    plan = plans.Plan(plans.Model("m", 1), found, "o")
    assert sum((item.names for item in plan.items), ()) == names
    assert [len(item.names) for item in plan.items] == [500, 500, 1]


def test_an_item_is_whole_with_its_last_part_and_all_before(tmp_path):
    plan = plans.Plan(
        plans.Model("m", 1),
        plans.Found("f", ("a_tfrecord", "b_tfrecord"), True, "d"),
        str(tmp_path / "o.jsonl"),
    )
    for item, part, last in ((0, 0, False), (0, 1, True), (1, 1, True)):
        plans.write_whole(plan.file(item, part, last=last), ["{}"])
    there = plans.done(plan)
    assert there.whole == {0} and set(there.parts) == {(0, 0), (0, 1), (1, 1)}
    with pytest.raises(RuntimeError, match="1 of 2 parts"):
        plans.join(plan)


@pytest.mark.tf
def test_pictures_of_any_kind_and_size_are_answered(model, tmp_path):
    """By the client's rule; a model that does not say what it takes gets files as they are."""
    import numpy as np

    folder = tmp_path / "images"
    folder.mkdir()
    wide = np.full((30, 90, 3), 20, np.uint8)
    wide[:, 30:60] = 250  # what is outside of the middle square does not count
    alpha = np.zeros((8, 8, 4), np.uint8)  # black, and transparent: on white
    for name, content in {
        "a.webp": pictures.encoded(wide, "WEBP", lossless=True),
        "b.gif": pictures.encoded(np.full((50, 20), 130, np.uint8), "GIF"),
        "c.PNG": pictures.encoded(alpha, "PNG"),
        "d.jpg": pictures.encoded(wide, "JPEG")[:300],
        "e.png": picture(10),
    }.items():
        (folder / name).write_bytes(content)
    told = Path(shutil.copytree(model, tmp_path / "told"))
    (told / "assets.extra").mkdir()
    (told / "assets.extra/run.json").write_text(
        ModelRun(image_shape=(4, 4, 3)).to_json()
    )
    answers = {}
    for path in (str(told), model):
        plan = the_plan(path, folder, tmp_path / "answers.jsonl")
        predict(plan)
        plans.join(plan)
        answers[path] = {
            row["image"]: row.get("class", row.get("problem"))
            for row in rows_of(plan.output)
        }
    found = answers[str(told)]
    assert "the JPEG file is cut short" in found.pop("d.jpg")
    assert found == {
        "a.webp": "light", "b.gif": "grey", "c.PNG": "light", "e.png": "dark",
    }  # fmt: skip
    plain = answers[model]
    assert plain.pop("e.png") == "dark" and not set(plain.values()) & {*NAMES}


def node(model: str, images: Path, output: Path, *, pushed: int = 1) -> Any:
    """What the node's executor makes of a push; Beam runs here."""
    from tfx.types.standard_artifacts import PushedModel

    from components import artifacts
    from components.batch_predict.executor import predict_pushed

    push, prediction = PushedModel(), artifacts.BatchPrediction()
    push.set_int_custom_property("pushed", pushed)
    push.set_string_custom_property("pushed_version", "7")
    push.set_string_custom_property("pushed_destination", model)
    predict_pushed(
        pushed_model=push,
        images=str(images),
        fingerprint="",
        output=str(output),
        prediction=prediction,
        make_pipeline=in_process,
    )
    return prediction


@pytest.mark.tf
def test_the_node_goes_on_where_a_stopped_one_ended(
    model, folder, tmp_path, monkeypatch
):
    images, values = folder
    output = tmp_path / "predictions"
    write = plans.write_whole
    written: list[str] = []

    def once(path, lines):
        if len(written) == 1:
            raise RuntimeError("stopped")
        written.append(path)
        write(path, lines)

    monkeypatch.setattr(plans, "write_whole", once)
    with pytest.raises(Exception, match="stopped"):
        node(model, images, output)
    assert not (output / "images-v7.jsonl").exists()
    again: list[str] = []
    monkeypatch.setattr(
        plans, "write_whole", lambda p, t: (again.append(p), write(p, t))
    )  # fmt: skip
    prediction = node(model, images, output)
    assert len(again) == 2 and not {*written} & {*again}
    check(output / "images-v7.jsonl", values)
    assert os.listdir(output) == ["images-v7.jsonl"]
    assert prediction.get_string_custom_property("output") == str(
        output / "images-v7.jsonl"
    )
    assert prediction.get_string_custom_property("pushed_version") == "7"
    assert prediction.get_int_custom_property("files") == len(values)


@pytest.mark.tf
def test_the_node_predicts_nothing_when_nothing_was_pushed(model, folder, tmp_path):
    prediction = node(model, folder[0], tmp_path / "predictions", pushed=0)
    assert prediction.get_string_custom_property("output") == ""
    assert not (tmp_path / "predictions").exists()


@pytest.mark.tf
def test_the_node_says_when_its_images_are_gone(model, tmp_path):
    with pytest.raises(ConfigError, match=r"^batch_predict.images=.*is no folder"):
        node(model, tmp_path / "gone", tmp_path / "predictions")
