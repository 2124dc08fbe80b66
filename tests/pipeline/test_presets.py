"""Presets and recipes against the figures of the papers."""

import dataclasses

import pytest

from contract.fields import ConfigError
from pipeline.local import rules as local_rules
from pipeline.presets import ANY, PRESETS, RECIPES
from pipeline.resolve import resolve


def config(*assignments):
    return resolve(["data.name=digits", *assignments], {}, "/", local_rules).config


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_hold_known_fields_and_networks(preset):
    for dataset in ("cifar10", "cifar100", "digits"):
        chosen = resolve(
            [f"preset={preset}", f"data.name={dataset}", "data.tfds_dir=/none"],
            {},
            "/",
            local_rules,
        ).config
        assert chosen.preset == preset
    assert set(PRESETS[preset]) <= {ANY, "cifar10", "cifar100", "digits", "folder"}


def test_an_unknown_preset_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="quick"):
        config("preset=huge")


def test_the_default_trains_the_papers_networks_and_fast_shallow_ones():
    chosen = config()
    assert chosen == config("preset=quick")
    assert chosen.baseline.network == "resnet164"
    assert chosen.candidate.network == "preact_resnet164"
    fast = config("preset=fast")
    assert fast.baseline.network == "resnet20"
    assert fast.candidate.network == "preact_resnet20"
    # On digits they differ in the networks and the images' size alone.
    assert (chosen.data.image_size, fast.data.image_size) == (16, None)
    assert fast.train == chosen.train
    assert dataclasses.replace(chosen.data, image_size=None) == fast.data


def test_the_papers_recipe():
    chosen = config("preset=resnet164")
    train = chosen.train
    assert (train.steps, train.global_batch_size) == (64_000, 128)
    assert (train.learning_rate, train.momentum, train.nesterov) == (0.1, 0.9, False)
    assert train.weight_decay == 1e-4
    assert train.initialiser == "he_fan_in"
    assert chosen.preprocessing.statistics == "per_pixel"
    assert chosen.preprocessing.divide_by_std is False


def test_the_released_recipe():
    chosen = config("preset=resnet1001")
    train = chosen.train
    assert (train.epochs, train.steps, train.global_batch_size) == (200, None, 64)
    assert (train.learning_rate, train.nesterov, train.last_batch) == (
        0.1,
        True,
        "keep",
    )
    assert train.initialiser == "released"
    assert chosen.preprocessing.statistics == "per_channel"
    assert chosen.preprocessing.divide_by_std is True
    shallow = config("train.recipe=released", "candidate.network=preact_resnet164")
    assert shallow.train.epochs == 164


def test_the_recipe_of_imagenet(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(200):
            (tmp_path / label / f"{number}.png").touch()
    asked = [
        "data.name=folder",
        f"data.path={tmp_path}",
        "train.recipe=imagenet",
        "candidate.network=imagenet_preact_resnet50",
    ]
    chosen = resolve(asked, {}, "/", local_rules).config
    assert chosen.data.image_size == 224
    assert chosen.baseline.network == "imagenet_resnet50"
    train = chosen.train
    assert (train.global_batch_size, train.steps) == (256, 600_000)
    assert (train.learning_rate, train.schedule) == (0.1, "plateau")
    assert (train.momentum, train.nesterov) == (0.9, False)
    assert train.weight_decay == 1e-4
    assert train.evaluation_steps is None  # after each pass, not the preset's 50 steps
    short = resolve([*asked, "train.steps=10"], {}, "/", local_rules).config
    assert short.train.steps == 10


def test_what_wins_over_what():
    assert config("preset=fast").train.flip is False  # the preset's, for digits
    asked = config("preset=fast", "train.recipe=released").train
    assert asked.epochs == 200  # a recipe that is asked for is meant whole
    assert asked.flip is False  # it says nothing of mirror images
    assert config("train.recipe=paper", "train.steps=5").train.steps == 5
    # The papers' images are whole, unless a person wants small ones.
    assert config("train.recipe=paper").data.image_size is None
    assert config("train.recipe=paper", "data.image_size=8").data.image_size == 8
    assert set(RECIPES) == {"quick", "paper", "released", "imagenet"}


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["train.replicas=2"], "train.strategy=mirrored"),
        (
            [
                "train.strategy=mirrored",
                "train.replicas=3",
                "train.global_batch_size=64",
            ],
            "must divide by train.replicas=3",
        ),
        (
            ["train.strategy=mirrored", "train.replicas=2", "train.last_batch=keep"],
            "train.last_batch=drop",
        ),
        (["train.strategy=single", "train.tpu=local"], "choose train.strategy=tpu"),
        (["train.replicas=8", "train.tpu=local"], "choose train.strategy=tpu"),
        (["train.strategy=multi_worker"], "on this machine alone"),
        (
            ["train.strategy=multi_worker", "train.last_batch=keep"],
            "train.last_batch=drop",
        ),
        (["train.last_batch=keep", "train.tpu=local"], "train.last_batch=drop"),
        (["train.global_batch_size=2000"], "the train split has only"),
        (["candidate.network=imagenet_resnet50"], "224"),
        (["candidate.network=vgg16"], "candidate.network=vgg16: no such network"),
    ],
)
def test_what_does_not_fit_together_is_refused(assignments, words):
    with pytest.raises(ConfigError) as caught:
        config(*assignments)
    assert words in str(caught.value)
