"""Training from pictures on disk: order, chances, resuming, and what is exported."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract import features
from contract.config.train import TrainConfig
from contract.datasets import Dataset
from tests.serving.pictures import encoded, photograph
from tests.trainer import transform_graph
from tests.trainer.test_run import call, started_from, weights

pytestmark = pytest.mark.tf

CROP = 16
TRAIN, EVAL = 46, 19  # images
CLASSES = ("dark", "light")
DATASET = Dataset(
    name="folder",
    title="Made",
    image_shape=(None, None, 3),
    crop=CROP,
    labels={features.LABEL: CLASSES},
    counts={features.TRAIN: TRAIN, features.EVAL: EVAL},
    digest="0" * 64,
)
CONFIG = TrainConfig(
    steps=12, global_batch_size=8, learning_rate=0.02, schedule="constant", seed=5
)


def picture(number: int) -> tuple[bytes, int]:
    """A file of any size and kind, and whether it is light."""
    draw = np.random.default_rng(number)
    height, width = draw.integers(12, 70, 2)
    label = number % 2
    image = photograph(int(height), int(width), number) // 2 + 120 * label
    return encoded(image.astype(np.uint8), ("PNG", "JPEG")[number // 2 % 2]), label


def write(folder: Path, split: str, first: int, count: int, shards: int = 3) -> None:
    """A split as ExampleGen writes it; labels are the numbers of the pictures, if asked."""
    import tensorflow as tf

    (folder / f"Split-{split}").mkdir(parents=True)
    for shard in range(shards):
        name = f"Split-{split}/data_tfrecord-{shard:05d}-of-{shards:05d}"
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for number in range(first + shard, first + count, shards):
                content, label = picture(number)
                example = tf.train.Example()
                values = example.features.feature
                values[features.IMAGE].bytes_list.value.append(content)
                values[features.EXAMPLE_ID].bytes_list.value.append(b"%d-0" % number)
                values[features.LABEL].int64_list.value.append(label)
                values[features.COARSE_LABEL].int64_list.value.append(number)
                writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    write(folder, features.TRAIN, 0, TRAIN)
    write(folder, features.EVAL, 1000, EVAL)
    (folder / "dataset.json").write_text(DATASET.to_json())
    transform_graph.write(
        folder, [picture(number)[0] for number in range(TRAIN)], dataset=DATASET
    )
    return folder


def stream(folder: Path, split: str = features.TRAIN, label: str = features.LABEL):
    import tensorflow as tf

    from trainer.streaming import Stream

    return Stream(
        files=tuple(map(str, sorted((folder / f"Split-{split}").iterdir()))),
        count=DATASET.counts[split],
        label_key=label,
        crop=CROP,
        mean=tf.constant([120.0, 121, 122]),
        std=tf.constant([60.0, 61, 62]),
        covariance=tf.constant(np.diag([900.0, 800, 700]) + 300, tf.float32),
    )


def batches(folder, first=0, steps=12, **settings):
    """[(images, numbers of the pictures)]"""
    from trainer.input import training_batches

    config = dataclasses.replace(CONFIG, **settings)
    source = stream(folder, label=features.COARSE_LABEL)
    found = training_batches(source, None, config, first_step=first, steps=steps)
    return [(images.numpy(), labels.numpy()) for images, labels in found]


def test_a_pass_has_each_image_once_and_passes_have_their_own_order(flow):
    found = batches(flow, steps=12, last_batch="keep")
    assert [len(labels) for _, labels in found] == 2 * [8, 8, 8, 8, 8, 6]
    first, second = (
        np.concatenate([labels for _, labels in part])
        for part in (found[:6], found[6:])
    )
    assert sorted(first) == sorted(second) == list(range(TRAIN))
    assert (first != second).mean() > 0.8
    (other, _), *_ = batches(flow, steps=1, seed=6)
    assert (other != found[0][0]).any()
    assert all(len(labels) == 8 for _, labels in batches(flow))


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
@pytest.mark.parametrize("first", [1, 5, 7])
def test_a_resumed_training_sees_the_same_bits(flow, first, last_batch):
    whole = batches(flow, steps=9, last_batch=last_batch)
    rest = batches(flow, first, steps=9, last_batch=last_batch)
    assert len(rest) == 9 - first
    for (images, labels), (again, same) in zip(whole[first:], rest, strict=True):
        assert (images == again).all() and (labels == same).all()


def test_what_an_image_becomes_depends_on_its_id_and_pass_alone(flow, tmp_path):
    """In other shards, in another order, it is the same; in the next pass it is not."""
    write(tmp_path, features.TRAIN, 0, TRAIN, shards=10)

    def by_number(found):
        return {n: i for images, numbers in found for n, i in zip(numbers, images)}  # noqa: B905

    keep = {"last_batch": "keep"}
    whole = batches(flow, **keep)
    first, second = by_number(whole[:6]), by_number(whole[6:])
    other = batches(tmp_path, steps=6, **keep)
    assert [n for _, n in other][0].tolist() != [n for _, n in whole][0].tolist()
    for number, image in by_number(other).items():
        assert (image == first[number]).all()
    assert all((first[number] != second[number]).any() for number in first)
    assert len({image.tobytes() for image in first.values()}) == TRAIN


def test_images_are_cut_tinted_and_normalised(flow):
    """A tint is one colour for the whole image; without it pixels are those of a crop."""
    (tinted, numbers), *_ = batches(flow, steps=1)
    (plain, same), *_ = batches(flow, steps=1, colour_noise=0.0)
    assert (numbers == same).all()
    std = np.array([60.0, 61, 62])
    colours = (tinted - plain) * std
    assert np.abs(colours - colours[:, :1, :1]).max() < 1e-3
    assert 0.05 < np.abs(colours).mean() < 2  # C a / 255 with a of deviation 0.1
    pixels = plain * std + [120, 121, 122]
    assert -0.01 < pixels.min() < 100 < 200 < pixels.max() < 255.01
    for image, number in zip(pixels, numbers, strict=True):
        assert (image.mean() > 120) == number % 2


def test_evaluation_has_each_image_once_and_fills_up(flow):
    import tensorflow as tf

    from trainer.input import evaluation_batches

    def normalised(files):
        return tf.zeros([tf.shape(files)[0], CROP, CROP, 3])

    source = stream(flow, features.EVAL, features.COARSE_LABEL)
    found = list(evaluation_batches(source, normalised, 8))
    assert [images.shape for images, _, _ in found] == 3 * [(8, CROP, CROP, 3)]
    labels, counted = (
        np.concatenate([part[place].numpy() for part in found]) for place in (1, 2)
    )
    assert counted.tolist() == 19 * [1] + 5 * [0]
    assert sorted(labels[:EVAL]) == list(range(1000, 1000 + EVAL))


def test_the_graphs_statistics_are_those_of_the_crops(flow):
    import tensorflow_transform as tft

    from trainer import examples, preprocessing

    layer = tft.TFTransformOutput(str(flow / "graph")).transform_features_layer()
    files = [picture(number)[0] for number in range(TRAIN)]
    pixels = examples.pixels_of(files, DATASET)
    colours = pixels.reshape(-1, 3).astype(float)
    mean, std = preprocessing.mean_and_deviation(layer, DATASET)
    np.testing.assert_allclose(mean[0, 0], colours.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std[0, 0], colours.std(0), rtol=1e-6)
    covariance = preprocessing.colour_covariance(layer, DATASET)
    np.testing.assert_allclose(covariance, np.cov(colours.T, ddof=0), rtol=1e-6)
    outputs = layer({features.IMAGE: np.array(files, object)[:, None]})
    rank = np.argsort(np.argsort(pixels.mean((1, 2, 3))))
    bands = outputs[features.BRIGHTNESS_BAND].numpy()
    assert np.abs(bands - rank * 4 // TRAIN).max() <= 1
    assert np.corrcoef(bands, rank)[0, 1] > 0.9


def history(output: Path):
    return json.loads((output / "run/history.json").read_text())["history"]


def test_killed_and_resumed_is_bit_identical(flow, tmp_path, monkeypatch):
    """In the middle of the second pass; and the exported model takes any picture."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from trainer import fit

    config = dataclasses.replace(CONFIG, checkpoint_seconds=0)
    call(flow, tmp_path / "whole", config)

    class Died(Exception):
        pass

    advance = fit._State.advance

    def die(self, steps, seconds):
        if self.step == 7:
            raise Died
        advance(self, steps, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(fit._State, "advance", die)
        with pytest.raises(Died):
            call(flow, tmp_path / "killed", config)
    steps = []
    monkeypatch.setattr(
        fit._State,
        "advance",
        lambda self, n, seconds: (steps.append(self.step), advance(self, n, seconds)),
    )
    call(flow, tmp_path / "killed", config)
    assert steps == [7, 8, 9, 10, 11]
    assert history(tmp_path / "killed") == history(tmp_path / "whole")

    models = [
        tf.saved_model.load(str(tmp_path / name / "model"))
        for name in ("whole", "killed")
    ]
    files = [picture(number) for number in range(1000, 1000 + EVAL)]
    contents = tf.constant([content for content, _ in files])
    asked = [m.signatures["encoded_images"](encoded=contents) for m in models]
    one, other = (answers["probabilities"].numpy() for answers in asked)
    assert (one == other).all()
    # As the training path has counted them, and as crops cut elsewhere are answered.
    correct = sum(asked[0]["label"].numpy() == [label for _, label in files])
    assert correct / EVAL == pytest.approx(
        history(tmp_path / "whole")[-1]["eval_accuracy"]
    )
    from trainer import examples

    crops = examples.pixels_of([content for content, _ in files], DATASET)
    answers = models[0].signatures["serving_default"](images=tf.constant(crops))
    np.testing.assert_allclose(answers["probabilities"], one, atol=1e-5)
    expected = np.load(tmp_path / "whole/model/assets.extra/expected_answers.npz")
    rows = [(expected["images"][0] == crop).all() for crop in crops].index(True)
    np.testing.assert_allclose(expected["probabilities"][0], one[rows], atol=1e-5)

    # Several crops: the mean of what the model says of each.
    from components.answers import inference

    given = inference.ask(
        str(tmp_path / "whole/model"),
        {"eval": stream(flow, features.EVAL).files},
        DATASET,
        batch_size=25,
        crops="ten",
    )
    assert not given.problems
    described = inference.describe(
        stream(flow, features.EVAL).files,
        DATASET,
        tft.TFTransformOutput(str(flow / "graph")),
        part=5,
    )
    for number, size, probabilities in zip(
        described.ids, described.sizes, given.probabilities["eval"], strict=True
    ):
        content, _ = picture(int(number.split(b"-")[0]))
        with Image.open(io.BytesIO(content)) as opened:
            assert size == min(opened.size)
        pixels = ten(content)
        answers = models[0].signatures["serving_default"](images=tf.constant(pixels))
        mean = answers["probabilities"].numpy().mean(axis=0)
        np.testing.assert_allclose(probabilities, mean, atol=0.01)


def test_fine_tuning_on_pictures_keeps_what_is_frozen(flow, tmp_path):
    """From a model of pictures, or from weights whose classes are others."""
    import tensorflow as tf

    first, second = tmp_path / "first/model", tmp_path / "second/model"
    call(flow, first.parent, dataclasses.replace(CONFIG, steps=6))
    before = weights(first, CLASSES)
    tuning = dataclasses.replace(CONFIG, steps=3, freeze="stage1", ema=0.9)
    call(flow, second.parent, tuning, **started_from(first))
    after = weights(second, CLASSES)
    frozen = {name for name in after if name.startswith(("stem/", "stage1/"))}
    assert {n for n in after if np.array_equal(before[n], after[n])} == frozen != set()
    for name in ("stage3/unit1/conv2/kernel", "dense/kernel"):  # it went on from there
        moved = np.abs(after[name] - before[name]).mean()
        assert 0 < moved < 0.5 * np.abs(before[name]).mean(), name
    record = json.loads((second / "assets.extra/run.json").read_text())
    assert record["initial_weights"] == str(first) and record["encoded"]

    # What is exported is what was measured, and takes any picture.
    files = [picture(number) for number in range(1000, 1000 + EVAL)]
    served = tf.saved_model.load(str(second)).signatures[features.SIGNATURE_ANY_SIZE]
    said = served(encoded=tf.constant([content for content, _ in files]))["label"]
    correct = sum(said.numpy() == [label for _, label in files])
    assert correct / EVAL == pytest.approx(
        history(second.parent)[-1]["eval_accuracy"], abs=1e-6
    )

    # A body alone, without the head of other classes.
    body = {k: v for k, v in before.items() if not k.startswith("dense/")}
    np.savez(tmp_path / "body.npz", **body)
    third = tmp_path / "third/model"
    call(flow, third.parent, tuning, **started_from(tmp_path / "body.npz"))
    kept = weights(third, CLASSES)
    assert all(np.array_equal(kept[name], before[name]) for name in frozen)


def ten(content: bytes) -> np.ndarray:
    """Corners and middle, mirrored too, by Pillow."""
    with Image.open(io.BytesIO(content)) as opened:
        rgb = opened.convert("RGB")
    size = [round(18 * length / min(rgb.size)) for length in rgb.size]
    rgb = rgb.resize(size, Image.Resampling.BILINEAR)
    right, bottom = (length - CROP for length in size)
    corners = [
        (0, 0),
        (right, 0),
        (0, bottom),
        (right, bottom),
        (right // 2, bottom // 2),
    ]
    cuts = [np.asarray(rgb.crop((x, y, x + CROP, y + CROP))) for x, y in corners]
    return np.stack([*cuts, *(cut[:, ::-1] for cut in cuts)])
