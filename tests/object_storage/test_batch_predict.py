"""Batch prediction where images, model and answers lie in a bucket."""

import json

import pytest

from contract.fields import ConfigError
from tests.components.batch_predict.brightness import NAMES, picture, save

pytestmark = pytest.mark.tf


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    """Beam would look for some for half a minute; the emulator wants none."""
    from apache_beam.internal.gcp import auth

    monkeypatch.setattr(auth._Credentials, "_credentials_init", True)


def in_process():
    import apache_beam

    from components.beam import IN_PROCESS

    return apache_beam.Pipeline(argv=[*IN_PROCESS])


def test_what_was_stopped_goes_on_and_nothing_is_left_but_the_answers(
    object_storage, monkeypatch
):
    import tensorflow as tf

    from components.batch_predict import answering
    from components.batch_predict import plan as plans

    bucket = object_storage.client().bucket(object_storage.bucket)
    values = {f"{n % 2}/{n}.png": n * 60 for n in range(5)}
    for name, value in values.items():
        bucket.blob(f"photos/{name}").upload_from_string(picture(value))
    with tf.io.gfile.GFile(object_storage.url("photos/notes.txt"), "w") as file:
        file.write("no image")
    model = plans.Model(object_storage.url("serving/7"), 7)
    save(model.path)
    monkeypatch.setattr(plans, "PART_IMAGES", 2)
    images = object_storage.url("photos")
    output = plans.output_file(object_storage.url("predictions"), images, 7)
    plan = plans.Plan(model, plans.find_files(images), output)
    assert len(plan.items) == 3
    write, written = plans.write_whole, []

    def once(path, lines):
        if written:
            raise RuntimeError("stopped")
        written.append(path)
        write(path, lines)

    monkeypatch.setattr(plans, "write_whole", once)
    with pytest.raises(Exception, match="stopped"):
        answering.predict(plan, in_process)
    monkeypatch.setattr(
        plans, "write_whole", lambda p, t: (written.append(p), write(p, t))
    )  # fmt: skip
    again = plans.Plan(model, plans.find_files(images), output)
    answering.predict(again, in_process)
    assert len(written) == len({*written}) == 3  # no part twice
    plans.join(again)
    with tf.io.gfile.GFile(output) as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    assert [row["image"] for row in rows] == sorted(values)
    assert all(row["class"] == NAMES[int(values[row["image"]] / 86)] for row in rows)
    assert object_storage.names("predictions/") == ["predictions/photos-v7.jsonl"]


def test_a_folder_without_images_is_one_sentence(object_storage):
    from components.batch_predict import plan as plans

    folder = object_storage.url("nothing")
    with pytest.raises(ConfigError, match=rf"^batch_predict.images={folder}: holds no"):
        plans.find_files(folder, plans.FIELD)
