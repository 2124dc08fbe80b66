"""The table of networks: names, rules, refusals. Loads no TensorFlow."""

import dataclasses
import itertools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import units
from trainer.program import expand
from trainer.tables import ARRANGEMENTS, BLOCKS, FAMILIES, SHORTCUTS
from trainer.units import NetworkError, NetworkSpec, parse_network


def spec(**fields):
    """A small pre-activation network with some fields changed."""
    defaults = {"arrangement": "full_preactivation", "block": "basic", "depth": 20}
    return NetworkSpec(**{**defaults, **fields})


def test_the_fixed_form_builds():
    fixed = NetworkSpec(
        arrangement="full_preactivation",
        shortcut="identity",
        block="bottleneck",
        depth=164,
    )
    assert fixed == parse_network("preact_resnet164")
    assert fixed.units_per_stage == (18, 18, 18)


def test_arrangements_have_the_papers_names():
    assert list(ARRANGEMENTS) == [
        "original",
        "bn_after_addition",
        "relu_before_addition",
        "relu_only_preactivation",
        "full_preactivation",
    ]


@pytest.mark.parametrize(
    ("name", "block", "units_per_stage"),
    [
        ("resnet20", "basic", 3),
        ("preact_resnet56", "basic", 9),
        ("resnet110", "basic", 18),
        ("preact_resnet110", "basic", 18),
        ("resnet1202", "basic", 200),
        ("resnet164", "bottleneck", 18),
        ("preact_resnet1001", "bottleneck", 111),
        ("preact_resnet110_1layer", "single_layer", 36),
        ("resnet110_bottleneck", "bottleneck", 12),
        ("resnet164_basic", "basic", 27),
        ("plain56", "basic", 9),
        # Other depths: basic where 6n+2 fits, else bottleneck.
        ("resnet38", "basic", 6),
        ("resnet47", "bottleneck", 5),
    ],
)
def test_names_mean_the_papers_networks(name, block, units_per_stage):
    parsed = parse_network(name)
    assert parsed.block == block
    assert parsed.units_per_stage == (units_per_stage,) * 3
    assert parsed.name == name


@pytest.mark.parametrize(
    ("name", "depth", "counts"),
    [
        ("imagenet_resnet18", 18, (2, 2, 2, 2)),
        ("imagenet_plain34", 34, (3, 4, 6, 3)),
        ("imagenet_resnet50", 50, (3, 4, 6, 3)),
        ("imagenet_resnet101", 101, (3, 4, 23, 3)),
        ("imagenet_preact_resnet152", 152, (3, 8, 36, 3)),
        ("imagenet_preact_resnet200", 200, (3, 24, 36, 3)),
    ],
)
def test_imagenet_names(name, depth, counts):
    parsed = parse_network(name)
    assert (parsed.depth, parsed.units_per_stage) == (depth, counts)
    assert 2 + sum(counts) * len(BLOCKS[parsed.block].kernels) == depth
    assert parsed.name == name


def test_settings_of_a_name():
    parsed = parse_network("resnet110:shortcut=exclusive_gating:gate_bias=-7")
    assert (parsed.shortcut, parsed.gate_bias) == ("exclusive_gating", -7.0)
    assert parse_network("resnet110:shortcut=constant_scaling").shortcut_scale == 0.5
    assert parse_network("imagenet_resnet34:option=A").option == "A"
    assert parse_network("preact_resnet164:stride_on=3x3").stride_on == "3x3"


def test_option_c_is_the_convolution_shortcut():
    assert parse_network("resnet110:option=C") == parse_network(
        "resnet110:shortcut=convolution"
    )


def test_every_named_network_parses_and_keeps_its_name():
    names = units.named_networks()
    assert len(set(names)) == len(names) > 40
    for name in names:
        assert parse_network(name).name == name


def all_specifications():
    """Every combination of the tables' rows and choices, with n = 2."""
    for arrangement, block, shortcut, family, option, stride_on in itertools.product(
        ARRANGEMENTS,
        BLOCKS,
        SHORTCUTS,
        FAMILIES,
        (None, "A", "B", "C"),
        (None, "first_1x1", "3x3"),
    ):
        depth = {"basic": 34, "bottleneck": 50, "single_layer": 18}[block]
        if family == "cifar":
            depth = 2 * BLOCKS[block].layers_per_n + 2
        yield {
            "arrangement": arrangement,
            "block": block,
            "shortcut": shortcut,
            "family": family,
            "option": option,
            "stride_on": stride_on,
            "depth": depth,
        }


def makes_sense(fields):
    """The rules once more, in one place."""
    plain = fields["shortcut"] == "none"
    option = fields["option"]
    return not (
        (plain and (fields["arrangement"] != "original" or fields["block"] != "basic"))
        or (plain and option)
        or (option == "C" and fields["shortcut"] not in ("identity", "convolution"))
        or (option in ("A", "B") and fields["shortcut"] == "convolution")
        or (fields["stride_on"] and fields["block"] != "bottleneck")
        or (fields["family"] == "imagenet" and fields["block"] == "single_layer")
    )


def test_every_combination_builds_or_is_refused_in_a_sentence():
    built = refused = 0
    for fields in all_specifications():
        try:
            found = NetworkSpec(**fields)
        except NetworkError as error:
            assert not makes_sense(fields), fields
            assert len(str(error)) > 30 and "\n" not in str(error)
            refused += 1
        else:
            assert makes_sense(fields), fields
            assert parse_network(found.name) == found
            assert len(expand(found, 10)) == 2 + 2 * len(found.units_per_stage)
            built += 1
    assert built > 500 and refused > 500


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arrangement": "preact"}, ["arrangement='preact'", "full_preactivation"]),
        ({"arrangement": "full_preactivaton"}, ["did you mean full_preactivation?"]),
        ({"shortcut": "gating"}, ["shortcut='gating'", "did you mean"]),
        ({"depth": 21}, ["depth=21", "6n+2", "20 and 26"]),
        ({"depth": 165, "block": "bottleneck"}, ["9n+2", "164 and 173"]),
        ({"depth": 23}, ["6n+2", 'take block="single_layer"']),
        ({"depth": 2}, ["6n+2", "close depths: 8"]),
        ({"depth": "20"}, ["depth='20'", "whole number"]),
        ({"depth": 20.0}, ["whole number"]),
        ({"depth": True}, ["whole number"]),
        ({"stride_on": "3x3"}, ["stride_on=3x3", "bottleneck"]),
        ({"gate_bias": -6.0}, ["gate_bias=-6.0", "exclusive_gating or shortcut_only"]),
        ({"shortcut": "dropout", "dropout_rate": 1.0}, ["dropout_rate=1.0", "below 1"]),
        ({"shortcut": "dropout", "dropout_rate": "half"}, ["must be a number"]),
        (
            {"shortcut": "constant_scaling", "shortcut_scale": float("nan")},
            ["shortcut_scale=nan", "finite"],
        ),
        (
            {"shortcut": "dropout", "option": "C"},
            ["option=C", 'take option "A" or "B"'],
        ),
        ({"shortcut": "convolution", "option": "A"}, ["option=A", "leave option out"]),
        ({"shortcut": "none"}, ["full_preactivation", 'arrangement="original"']),
        (
            {"shortcut": "none", "arrangement": "original", "option": "A"},
            ["option=A", "leave option out"],
        ),
        (
            {
                "shortcut": "none",
                "arrangement": "original",
                "block": "bottleneck",
                "depth": 29,
            },
            ["block=bottleneck", 'block="basic"'],
        ),
        ({"family": "imagenet"}, ["depth=20", "18, 34, 50, 101, 152, 200"]),
        ({"family": "imagenet", "depth": 50}, ["block=basic", 'block="bottleneck"']),
        ({"family": "svhn"}, ["family='svhn'", "cifar, imagenet"]),
        ({"option": "D"}, ["option='D'", "A, B, C"]),
        ({"block": None}, ["block=None", "single_layer, basic, bottleneck"]),
    ],
    ids=str,
)
def test_refusals_say_why(fields, words):
    with pytest.raises(NetworkError) as refusal:
        spec(**fields)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("preact_resnet163", ["network='preact_resnet163'", "depth=163", "158", "164"]),
        ("resnet18", ["depth=18", "imagenet_resnet18"]),
        ("resnet23", ["resnet23_1layer"]),
        ("PreAct-ResNet-164", ["did you mean preact_resnet164"]),
        ("preactresnet110", ["did you mean", "preact_resnet110"]),
        ("vgg16", ["no such network", "names look like"]),
        ("", ["no such network"]),
        ("preact_plain20", ["did you mean"]),
        ("resnet110:gating", ["'gating' is no setting", "<field>=<value>"]),
        ("resnet110:gate_bais=-6", ["did you mean gate_bias?"]),
        ("resnet110:gate_bias=low", ["gate_bias='low'", "number"]),
        ("resnet110:option=A:option=B", ["option is given twice"]),
        ("resnet110:shortcut=dropout:shortcut=identity", ["shortcut is given twice"]),
        ("plain20:shortcut=identity", ["shortcut"]),
        ("resnet110:depth=20", ["no setting"]),
        ("imagenet_resnet51", ["depth=51", "50"]),
        ("plain164", ["basic"]),
    ],
)
def test_bad_names_are_refused_with_a_way_out(name, words):
    with pytest.raises(NetworkError) as refusal:
        parse_network(name)
    for word in words:
        assert word in str(refusal.value)


@given(st.text(alphabet="preact_resnet plain0123456789:=-.", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_network_or_refused(text):
    try:
        found = parse_network(text)
    except NetworkError as error:
        assert "\n" not in str(error)
    else:
        assert parse_network(found.name) == found


@given(st.integers(-10, 3000), st.sampled_from(list(BLOCKS)))
@settings(max_examples=300, deadline=None)
def test_depth_rules(depth, block):
    a = {"single_layer": 3, "basic": 6, "bottleneck": 9}[block]
    fits = depth > 2 and (depth - 2) % a == 0
    try:
        found = spec(block=block, depth=depth)
    except NetworkError as error:
        assert not fits and f"{a}n+2" in str(error)
    else:
        assert fits and sum(found.units_per_stage) * a // 3 + 2 == depth


@given(st.floats(-20, 20), st.floats(-5, 5), st.floats(0, 0.99))
@settings(max_examples=50, deadline=None)
def test_constants_survive_the_name(bias, scale, rate):
    for found in (
        spec(shortcut="exclusive_gating", gate_bias=bias),
        spec(shortcut="constant_scaling", shortcut_scale=scale, residual_scale=bias),
        spec(shortcut="dropout", dropout_rate=rate),
    ):
        assert parse_network(found.name) == found


def test_specifications_are_frozen_and_keyword_only():
    found = spec()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.depth = 26
    with pytest.raises(TypeError):
        NetworkSpec("original", "basic", 20)
    assert len({found, spec(), spec(depth=26)}) == 2


def test_a_name_is_judged_without_tensorflow():
    program = (
        "import sys; from trainer import program, units; "
        "units.parse_network('preact_resnet164'); "
        "heavy = {'tensorflow', 'keras', 'numpy', 'tfx'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
