"""RunConfig: strict in, canonical out; every field a person can set is checked."""

import dataclasses
import json
import math
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config.data import DataConfig
from contract.config.run import RunConfig
from contract.fields import (
    ConfigError,
    from_json,
    leaves,
    override,
    parse_assignment,
    to_dict,
    to_json,
    value_of,
)


@pytest.mark.parametrize(("section", "field"), [("data", "name"), ("train", "recipe")])
def test_a_section_is_not_a_field(section, field):
    with pytest.raises(ConfigError) as refused:
        override(RunConfig(), {section: "digits"})
    assert str(refused.value) == (
        f"{section}: there is no such configuration field; {section} is a section, and "
        f"its fields are given one by one, such as {section}.{field}=...; "
        "`pipeline.py config` lists them"
    )


def test_json_round_trip_is_canonical():
    config = override(RunConfig(), {"train.epochs": "2.5", "data.path": "/x"})
    assert from_json(RunConfig, to_json(config)) == config
    reordered = json.dumps(dict(reversed(json.loads(to_json(config)).items())))
    assert to_json(from_json(RunConfig, reordered)) == to_json(config)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train.epochs", "3", 3.0),
        ("train.global_batch_size", "64", 64),
        ("train.flip", "false", False),
        ("train.flip", "TRUE", True),
        ("data.compression", "none", "none"),
        ("data.path", "none", None),
        ("data.path", "a=b", "a=b"),
        ("candidate.network", "preact_resnet164", "preact_resnet164"),
    ],
)
def test_text_becomes_the_type_of_the_field(name, text, value):
    section: typing.Any = override(RunConfig(), {name: text})
    for part in name.split("."):
        section = getattr(section, part)
    assert section == value
    assert type(section) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train.epochs", "many", ["train.epochs=many", "a number", "0.001"]),
        ("train.epochs", "nan", ["train.epochs=nan"]),
        ("train.epochs", "-1", ["train.epochs=-1"]),
        ("train.global_batch_size", "12.5", ["a whole number"]),
        ("train.global_batch_size", "0", ["from 1 to"]),
        ("train.flip", "perhaps", ["true or false"]),
        ("data.name", "mnist", ["one of auto, cifar10, cifar100, digits"]),
        ("data.name", "none", ["one of"]),
        ("train.epoch", "1", ["no such", "did you mean train.epochs?"]),
        ("data", "digits", ["no such"]),
        ("output_root", " ", ["output_root", "text, not empty"]),
        ("serving.model_name", "none", ["=none: must be text, not none"]),
        ("data.path", "", ["data.path=: must be text or none, not empty"]),
    ],
)
def test_refusals_name_field_value_and_rule(name, text, words):
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), {name: text})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["train.epochs", "=3", "", " = "])
def test_an_assignment_needs_a_name_and_a_sign(text):
    with pytest.raises(ConfigError, match="name=value"):
        parse_assignment(text)


def test_json_is_strict():
    values = to_dict(DataConfig())
    with pytest.raises(ConfigError, match="nmae"):
        from_json(DataConfig, json.dumps(values | {"nmae": 1}))
    del values["shards"]
    with pytest.raises(ConfigError, match="shards is missing"):
        from_json(DataConfig, json.dumps(values))
    with pytest.raises(ConfigError, match="not JSON"):
        from_json(DataConfig, "{")
    with pytest.raises(ConfigError, match="object"):
        from_json(DataConfig, "[]")
    with pytest.raises(ConfigError, match="train=1"):
        from_json(RunConfig, json.dumps(to_dict(RunConfig()) | {"train": 1}))


@given(st.sampled_from(sorted(leaves(RunConfig))), st.text(max_size=30))
def test_any_text_is_taken_or_refused_in_one_line(name, text):
    try:
        config = override(RunConfig(), {name: text})
    except ConfigError as error:
        assert name in str(error)
        return
    assert from_json(RunConfig, to_json(config)) == config


@pytest.mark.parametrize("name", leaves(RunConfig))
def test_no_field_takes_what_moves_a_cursor_or_begins_a_line(name):
    for text in ("\x1b[2J", "a\nb", "a\0b", "\u2028"):
        with pytest.raises(ConfigError) as caught:
            override(RunConfig(), {name: text})
        assert str(caught.value).isprintable()


def test_every_field_explains_itself_and_its_default_is_allowed():
    for leaf in leaves(RunConfig).values():
        assert leaf.help
        value = leaf.default
        assert override(RunConfig(), {leaf.name: value}) == RunConfig()
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert leaf.low > -math.inf and leaf.high < math.inf, leaf.name


def test_configurations_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().preset = "x"  # type: ignore[misc]


def test_a_person_names_further_contenders():
    config = override(
        RunConfig(),
        {
            "contenders.wide": "preact_resnet56",
            "contenders.ape": "resnet56",
            "contenders.gone": "resnet20",
        },
    )
    config = override(config, {"contenders.gone": "none"})
    assert from_json(RunConfig, to_json(config)) == config
    assert [(each.name, each.network) for each in config.all_contenders] == [
        ("baseline", "resnet20"),
        ("ape", "resnet56"),
        ("candidate", "preact_resnet20"),
        ("wide", "preact_resnet56"),
    ]
    assert value_of(config, "contenders.wide") == "preact_resnet56"
    assert value_of(config, "contenders.gone") is None
    whole = override(RunConfig(), {"contenders": '{"wide": "resnet56"}'})
    assert whole.contenders == {"wide": "resnet56"}


@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"contenders.baseline": "resnet56"},
            "contenders.baseline: must not be one of",
        ),
        ({"contenders.in_service": "resnet56"}, "lower-case letters and digits"),
        (
            {"contenders.Wide": "resnet56"},
            "contenders.Wide: the name must be lower-case",
        ),
        ({"contenders.": "resnet56"}, "lower-case letters"),
        ({"contenders.a.b": "resnet56"}, "no such configuration field"),
        ({"contenders.wide": ""}, "contenders.wide=: must be text, not empty"),
        ({"contenders": "resnet56"}, "contenders=resnet56: is a section"),
        ({"contenders": '{"wide": 3}'}, "contenders.wide=3: must be text"),
    ],
)
def test_what_cannot_be_a_contender_is_told(given, message):
    with pytest.raises(ConfigError, match=message):
        override(RunConfig(), given)


def test_a_field_that_was_renamed_is_refused_with_what_stands_in_its_place():
    with pytest.raises(
        ConfigError, match="vertex.spot: .* it is vertex.scheduling=spot"
    ):
        override(RunConfig(), {"vertex.spot": "true"})


@pytest.mark.parametrize("name", ["max_latency_ms", "max_latency_ratio"])
def test_a_limit_that_has_moved_is_refused_with_its_new_name(name):
    with pytest.raises(ConfigError, match=rf"it is canary\.{name} now"):
        override(RunConfig(), {f"evaluation.{name}": "2"})
