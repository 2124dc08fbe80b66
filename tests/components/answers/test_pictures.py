"""Pictures of every kind and size: what is served is what is evaluated.

One side is ingestion and Answers, the other a client, a server and `encoded_images`. Both
are held against NumPy and Pillow, which know nothing of either.
"""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from contract import features
from contract.crops import SEVERAL_SIDES
from contract.datasets import Dataset
from contract.model_run import ModelRun
from serving.client import Classifier
from tests.components.example_gen import own
from tests.serving import pictures
from tests.trainer import transform_graph

pytestmark = pytest.mark.tf

CROP = 32
DATASET = Dataset(
    name="folder",
    title="Made",
    image_shape=(None, None, 3),
    crop=CROP,
    labels={features.LABEL: ("ant", "bee", "fly")},
    counts={features.TRAIN: 1, features.EVAL: 1},
    digest="0" * 64,
)
SIZES = [(16, 16), (236, 300), (500, 333), (512, 768), (768, 236), (6000, 250)]


def made() -> dict[str, pictures.Picture]:
    """Every kind, and photographs of many sizes."""
    found = pictures.examples()
    for number, size in enumerate(SIZES):
        image = pictures.photograph(*size, seed=number)
        kind, options = [("JPEG", {"quality": 90}), ("PNG", {})][number % 2]
        content = pictures.encoded(image, kind, **options)
        found[f"{size}"] = pictures.Picture(content, pictures.decoded(content))
    return found


PICTURES = made()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """The pictures as ingested, and a model of files that was exported."""
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.example_gen import own_encoded, own_files, own_records
    from contract.config.data import DataConfig
    from trainer import examples, export

    folder = tmp_path_factory.mktemp("pictures")
    names = {f"a/{number:03}.png": name for number, name in enumerate(PICTURES)}
    files = {file: PICTURES[name].content for file, name in names.items()}
    own.write(folder / "own", {**files, "b/1.png": own.picture(0)})
    found = own_files.find(str(folder / "own"))
    placed = own_records.placed(found, DataConfig(name="folder"))
    by_name = {
        names[item.image.name]: own_encoded.encoded(found.root, item)
        for part in placed.splits.values()
        for item in part
        if item.image.name in names
    }
    ingested = {name: by_name[name] for name in PICTURES}
    records = str(folder / "eval.tfrecord")
    with tf.io.TFRecordWriter(records) as writer:
        for content in ingested.values():
            writer.write(examples.example_of(content).SerializeToString())

    graph = transform_graph.write(folder, [*ingested.values()], dataset=DATASET)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((CROP, CROP, 3)),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    saved = folder / "made/1"
    export.save(
        model,
        tft.TFTransformOutput(graph),
        DATASET,
        directory=str(saved),
        run=ModelRun(network="tiny"),
    )
    served = tf.saved_model.load(str(saved))
    return SimpleNamespace(
        ingested=ingested,
        records=records,
        folder=saved,
        answer=lambda pixels: served.signatures[features.SIGNATURE_IMAGES](
            images=tf.constant(pixels)
        )[features.PROBABILITIES].numpy(),
    )


def evaluated(world: SimpleNamespace, crops: str) -> np.ndarray:
    """What Answers keeps of the model, [pictures, classes]."""
    from components.answers import inference

    given = inference.ask(
        str(world.folder), {"eval": [world.records]}, DATASET, batch_size=8, crops=crops
    )
    assert not given.problems
    return given.probabilities["eval"]


def scaled(content: bytes, side: int) -> Image.Image:
    """The picture in a file, with that shorter side."""
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    size = [round(side * length / min(picture.size)) for length in picture.size]
    return picture.resize(size, Image.Resampling.BILINEAR)


def squares(content: bytes, crops: str) -> np.ndarray:
    """What a network is shown of a picture, by Pillow: uint8 [squares, CROP, CROP, 3]."""
    found = []
    for side in SEVERAL_SIDES.get(crops, (256,)):
        picture = scaled(content, round(side * CROP / 224))
        right, bottom = (length - CROP for length in picture.size)
        places = [(right // 2, bottom // 2)]
        if crops != "center":
            places = [(0, 0), (right, 0), (0, bottom), (right, bottom), *places]
        for left, top in places:
            cut = picture.crop((left, top, left + CROP, top + CROP))
            found += [np.asarray(cut), np.asarray(cut)[:, ::-1]]
    return np.stack(found if crops != "center" else found[:1])


def test_what_is_ingested_shows_the_same_picture(world):
    for name, content in world.ingested.items():
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.format in ("PNG", "JPEG") and opened.mode in ("RGB", "L")
            pixels = np.asarray(opened.convert("RGB"), int)
        wanted = PICTURES[name].rgb
        assert pixels.shape == wanted.shape, name
        assert np.abs(pixels - wanted).max() <= 1, name


@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_client_is_answered_as_in_evaluation(world, way):
    from serving.server import application, flags

    parsed, _ = flags.parse(
        [
            "--port=0", "--rest_api_port=-1", "--model_name=made",
            f"--model_base_path={Path(world.folder).parent}",
        ]
    )  # fmt: skip
    running = application.start(parsed)
    try:
        addresses = {
            "grpc": f"127.0.0.1:{running.port}",
            "rest": f"http://127.0.0.1:{running.rest.port}",
        }
        with Classifier(addresses[way], model="made") as classifier:
            contents = [picture.content for picture in PICTURES.values()]
            answers = classifier.classify(contents)
    finally:
        running.stop(1.0)
    found = np.stack([answer.probabilities for answer in answers])
    wanted = evaluated(world, "center")
    assert wanted.std(axis=0).min() > 0.05  # other pictures, other answers
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("crops", ["center", "ten", "multi_scale"])
def test_evaluation_sees_what_pillow_cuts(world, crops):
    import tensorflow as tf

    from trainer import crops as cutting

    found = evaluated(world, crops)
    for (name, content), probabilities in zip(
        world.ingested.items(), found, strict=True
    ):
        wanted = squares(content, crops)
        file = tf.constant([content])
        if crops == "center":
            pixels = cutting.center(file, CROP).numpy()
        else:
            (pixels,) = cutting.several(file, CROP, SEVERAL_SIDES[crops]).numpy()
        assert np.abs(pixels.astype(int) - wanted).max() <= 1, name
        mean = world.answer(wanted).mean(axis=0)
        np.testing.assert_allclose(probabilities, mean, atol=0.01, err_msg=name)
