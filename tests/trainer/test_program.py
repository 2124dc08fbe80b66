"""Programs: published counts, and where each rule of the papers shows up in the steps."""

import pytest

from trainer.program import count_multiply_adds, count_parameters, expand
from trainer.units import NetworkSpec, parse_network


@pytest.mark.parametrize(
    ("name", "cifar10", "cifar100"),
    [
        ("preact_resnet164", 1_703_258, 1_726_388),
        ("preact_resnet1001", 10_327_706, 10_350_836),
        ("resnet164", 1_704_154, 1_727_284),
        ("resnet1001", 10_328_602, 10_351_732),
        ("resnet110", 1_727_962, 1_733_812),
        ("preact_resnet110", 1_727_962, 1_733_812),
    ],
)
def test_published_parameter_counts(name, cifar10, cifar100):
    assert count_parameters(parse_network(name), 10) == cifar10
    assert count_parameters(parse_network(name), 100) == cifar100


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # torchvision's model cards, whose basic nets and bottlenecks have the same arrays
        ("imagenet_resnet18", 11_689_512),
        ("imagenet_resnet34", 21_797_672),
        ("imagenet_resnet50", 25_557_032),
        ("imagenet_resnet101", 44_549_160),
        ("imagenet_resnet152", 60_192_808),
    ],
)
def test_imagenet_parameter_counts(name, parameters):
    assert count_parameters(parse_network(name), 1000) == parameters


def test_grey_images_cost_the_stem_two_thirds_of_its_kernels():
    spec = parse_network("preact_resnet164")
    assert count_parameters(spec, 10) - count_parameters(spec, 10, 1) == 3 * 3 * 2 * 16


def test_every_convolution_costs_a_quarter_at_half_the_size():
    spec = parse_network("preact_resnet20")
    dense = 64 * 10
    whole, half, eighth = (
        count_multiply_adds(spec, 10, (side, side, 3)) - dense for side in (32, 16, 8)
    )
    assert whole == 4 * half == 16 * eighth


def test_multiply_adds():
    released = parse_network("preact_resnet164")
    on_3x3 = parse_network("preact_resnet164:stride_on=3x3")
    assert round(count_multiply_adds(released, 10) / 1e6, 1) == 244.5
    assert round(count_multiply_adds(on_3x3, 10) / 1e6, 1) == 247.6
    assert count_parameters(released, 10) == count_parameters(on_3x3, 10)
    # 2016a, Table 1: FLOPs of 18, 34, 50, 101, 152 (multiply-adds).
    for depth, billions in ((18, 1.8), (34, 3.6), (50, 3.8), (101, 7.6), (152, 11.3)):
        counted = count_multiply_adds(parse_network(f"imagenet_resnet{depth}"), 1000)
        assert counted / 1e9 == pytest.approx(billions, rel=0.03)


def test_depth_adds_no_section_and_no_tensor():
    shapes = {}
    for depth in (29, 164, 1001):
        sections = expand(parse_network(f"preact_resnet{depth}_bottleneck"), 10)
        trainable = [w for s in sections for w in s.weights if w.trainable]
        shapes[depth] = [(s.name, s.program) for s in sections]
        assert len(trainable) == 62
    assert shapes[29] == shapes[164] == shapes[1001]


def steps(name, section):
    """A section's steps as short text, e.g. "bn1(x)->branch"."""
    found = {s.name: s for s in expand(parse_network(name), 10)}[section].program
    return " ".join(
        f"{s.name or s.op}({','.join(s.reads)})->{s.writes}"
        + (f"/{s.stride}" if s.stride > 1 else "")
        for s in found
    )


def test_width_change_of_a_preactivation_bottleneck_shares_one_activation():
    assert steps("preact_resnet164", "stage2_unit1") == (
        "bn1(x)->x relu(x)->x conv1(x)->branch/2 bn2(branch)->branch relu(branch)->branch "
        "conv2(branch)->branch bn3(branch)->branch relu(branch)->branch "
        "conv3(branch)->branch projection(x)->shortcut/2 add(shortcut,branch)->x"
    )


def test_unchanged_width_keeps_the_raw_shortcut():
    assert steps("preact_resnet110", "stage2_units") == (
        "bn1(x)->branch relu(branch)->branch conv1(branch)->branch bn2(branch)->branch "
        "relu(branch)->branch conv2(branch)->branch add(x,branch)->x"
    )


def test_original_projection_has_its_own_batch_norm():
    assert steps("resnet164", "stage1_unit1").endswith(
        "projection(x)->shortcut projection_bn(shortcut)->shortcut "
        "add(shortcut,branch)->x relu(x)->x"
    )


def test_option_a_starts_after_the_shared_activation():
    assert steps("preact_resnet110", "stage2_unit1").startswith(
        "bn1(x)->x relu(x)->x conv1(x)"
    )
    assert "widen(x)->shortcut/2" in steps("preact_resnet110", "stage2_unit1")


@pytest.mark.parametrize(
    ("prefix", "stem", "unit", "head"),
    [
        ("", "stem_bn relu", "conv1 bn1 relu conv2 bn2 add relu", ""),
        ("bn_after_addition_", "stem_bn relu", "conv1 bn1 relu conv2 add bn2 relu", ""),
        ("relu_before_addition_", "stem_bn relu", "conv1 bn1 relu conv2 bn2 relu add", ""),
        ("relu_only_preactivation_", "stem_bn", "relu conv1 bn1 relu conv2 bn2 add",
         "final_bn relu "),
        ("preact_", "", "bn1 relu conv1 bn2 relu conv2 add", "final_bn relu "),
    ],
)  # fmt: skip
def test_arrangements_are_figure_4(prefix, stem, unit, head):
    sections = {s.name: s for s in expand(parse_network(f"{prefix}resnet20"), 10)}

    def words(name):
        return " ".join(s.name or s.op for s in sections[name].program)

    assert words("stem") == f"stem {stem}".strip()
    assert words("stage1_units") == unit
    assert words("head") == f"{head}mean_pool dense"


@pytest.mark.parametrize(
    ("settings", "tail"),
    [
        ("", "add(x,branch)->x"),
        ("constant_scaling",
         "scale(x)->shortcut scale(branch)->branch add(shortcut,branch)->x"),
        ("exclusive_gating",
         "gate(x)->gate sigmoid(gate)->gate multiply(branch,gate)->branch "
         "one_minus(gate)->gate multiply(x,gate)->shortcut add(shortcut,branch)->x"),
        ("shortcut_only_gating",
         "gate(x)->gate sigmoid(gate)->gate one_minus(gate)->gate "
         "multiply(x,gate)->shortcut add(shortcut,branch)->x"),
        ("convolution",
         "projection(x)->shortcut projection_bn(shortcut)->shortcut "
         "add(shortcut,branch)->x"),
        ("dropout", "dropout(x)->shortcut add(shortcut,branch)->x"),
    ],
)  # fmt: skip
def test_shortcuts_are_figure_2(settings, tail):
    name = f"resnet110:shortcut={settings}" if settings else "resnet110"
    branch = (
        "conv1(x)->branch bn1(branch)->branch relu(branch)->branch conv2(branch)->branch "
        "bn2(branch)->branch "
    )
    assert steps(name, "stage1_units") == f"{branch}{tail} relu(x)->x"


def test_a_plain_network_has_the_arrays_of_its_residual_twin():
    plain, residual = parse_network("plain56"), parse_network("resnet56")
    assert count_parameters(plain, 10) == count_parameters(residual, 10)
    assert "add" not in steps("plain56", "stage2_unit1")


def test_stride_sits_where_asked():
    assert "conv1(x)->branch/2" in steps("preact_resnet164", "stage3_unit1")
    moved = steps("preact_resnet164:stride_on=3x3", "stage3_unit1")
    assert "conv2(branch)->branch/2" in moved and "projection(x)->shortcut/2" in moved
    assert "/2" not in steps("preact_resnet164", "stage1_unit1")


def test_imagenet_activation_stands_before_the_pooling():
    assert steps("imagenet_preact_resnet50", "stem") == (
        "stem(x)->x/2 stem_bn(x)->x relu(x)->x max_pool(x)->x/2"
    )
    assert steps("imagenet_preact_resnet50", "stage1_unit1").startswith(
        "conv1(x)->branch "
    )
    assert steps("imagenet_preact_resnet50", "stage2_unit1").startswith("bn1(x)->x")


def test_only_gates_and_the_dense_layer_have_biases():
    for name in (
        "resnet164",
        "preact_resnet110",
        "resnet110:shortcut=exclusive_gating",
    ):
        biased = {
            weight.name.split("/")[0]
            for section in expand(parse_network(name), 10)
            for weight in section.weights
            if weight.role == "bias"
        }
        assert biased == ({"gate", "dense"} if "gating" in name else {"dense"})


def test_flat_prefixes_name_every_unit_once():
    prefixes = [
        prefix
        for section in expand(parse_network("resnet20"), 10)
        for prefix in section.prefixes
        if prefix
    ]
    assert prefixes == [f"stage{s}/unit{u}/" for s in (1, 2, 3) for u in (1, 2, 3)]


def test_constants_reach_the_steps():
    spec = NetworkSpec(
        arrangement="original", block="basic", depth=110,
        shortcut="constant_scaling", shortcut_scale=0.0, residual_scale=1.0,
    )  # fmt: skip
    scales = [s for x in expand(spec, 10) for s in x.program if s.op == "scale"]
    assert [s.value for s in scales] == [0.0, 1.0] * 6  # two sections per stage
