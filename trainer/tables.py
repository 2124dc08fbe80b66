"""The two papers' figures as rows: arrangements, shortcuts, blocks, families.

Nothing comes in, and data goes out: `trainer.units` checks which rows go together,
`trainer.program` turns them into steps. Standard library only.

Sources: He et al. 2016a, "Deep Residual Learning for Image Recognition"
(arXiv:1512.03385); He et al. 2016b, "Identity Mappings in Deep Residual Networks"
(arXiv:1603.05027); the authors' released Torch model (KaimingHe/resnet-1k-layers). Where
they are silent, a row's comment says "our choice".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Where BN and ReLU stand around the convolutions and the addition (2016b, Fig. 4)."""

    stem: str  # after conv1
    before: str  # before a unit's first convolution; a stage's first one feeds both branches
    after: str  # after its last convolution
    addition: str  # after the addition
    final: str  # after the network's last addition
    projection_bn: bool  # a 1x1 projection on the shortcut has its own BN


# Between two convolutions of a unit stand BN and ReLU in all five.
BETWEEN = "BN ReLU"

# 2016b, Fig. 4 (a) to (e). Pre-activation networks have "an extra activation right after"
# the last addition (2016b, section 4). Our choice: in (d), too, it is BN ReLU; (b), (c) and
# (d) have BN after conv1; (b) and (c) have BN on projections, as (a).
ARRANGEMENTS: Mapping[str, Arrangement] = {
    "original": Arrangement(
        stem="BN ReLU", before="", after="BN", addition="ReLU", final="",
        projection_bn=True,
    ),
    "bn_after_addition": Arrangement(
        stem="BN ReLU", before="", after="", addition="BN ReLU", final="",
        projection_bn=True,
    ),
    "relu_before_addition": Arrangement(
        stem="BN ReLU", before="", after="BN ReLU", addition="", final="",
        projection_bn=True,
    ),
    "relu_only_preactivation": Arrangement(
        stem="BN", before="ReLU", after="BN", addition="", final="BN ReLU",
        projection_bn=False,
    ),
    "full_preactivation": Arrangement(
        stem="", before="BN ReLU", after="", addition="", final="BN ReLU",
        projection_bn=False,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """What happens on the shortcut and at the end of the residual branch (2016b, Fig. 2)."""

    on_shortcut: str = ""
    on_branch: str = ""
    constants: Mapping[str, float] = field(default_factory=dict)  # field -> default


# 2016b, Fig. 2 (a) to (f), and plain networks. "g" is sigmoid(W_g x + b_g), a 1x1
# convolution with bias, over what the shortcut starts from; `gate_bias` is b_g's initial
# value (default: the best one of Table 1). Our choice: where the width changes, the gate's
# convolution has the unit's stride and output width and gates the widened shortcut.
# "dropout" is the layer of Torch and Caffe: in training kept values are divided by the keep
# probability, in inference nothing happens.
SHORTCUTS: Mapping[str, Shortcut] = {
    "identity": Shortcut(),
    "constant_scaling": Shortcut(
        on_shortcut="scale", on_branch="scale",
        constants={"shortcut_scale": 0.5, "residual_scale": 0.5},
    ),
    "exclusive_gating": Shortcut(
        on_shortcut="1-g", on_branch="g", constants={"gate_bias": -6.0}
    ),
    "shortcut_only_gating": Shortcut(on_shortcut="1-g", constants={"gate_bias": -6.0}),
    "convolution": Shortcut(on_shortcut="projection"),
    "dropout": Shortcut(on_shortcut="dropout", constants={"dropout_rate": 0.5}),
    "none": Shortcut(),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Block:
    """The convolutions of one unit (2016a, Fig. 5)."""

    kernels: tuple[int, ...]  # side of each convolution
    widths: tuple[
        int, ...
    ]  # output channels of each, in multiples of the stage's width
    suffix: str  # of a name, where the depth alone would mean another block

    @property
    def layers_per_n(self) -> int:
        """The a of the depth rule a * n + 2: three stages of n units, conv1 and dense."""
        return 3 * len(self.kernels)

    @property
    def expansion(self) -> int:
        """Output channels of a unit, in multiples of the stage's width."""
        return self.widths[-1]


BLOCKS: Mapping[str, Block] = {
    "single_layer": Block(kernels=(3,), widths=(1,), suffix="_1layer"),
    "basic": Block(kernels=(3, 3), widths=(1, 1), suffix="_basic"),
    "bottleneck": Block(kernels=(1, 3, 1), widths=(1, 1, 4), suffix="_bottleneck"),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Stem and stages for one kind of images."""

    image_side: int  # pixels, of the papers; pooling is global, so others will do
    stem_kernel: int
    stem_stride: int
    stem_width: int
    max_pool: bool  # 3x3, stride 2, after conv1 and its activation
    widths: tuple[int, ...]  # per stage; a bottleneck's output is 4 times as wide
    # depth -> (block, units per stage); None: the depth rules a * n + 2
    depths: Mapping[int, tuple[str, tuple[int, ...]]] | None
    default_option: Mapping[str, str]  # block -> what happens where the width changes


FAMILIES: Mapping[str, Family] = {
    # 2016a, section 4.2; 2016b, appendix.
    "cifar": Family(
        image_side=32, stem_kernel=3, stem_stride=1, stem_width=16, max_pool=False,
        widths=(16, 32, 64), depths=None,
        default_option={"single_layer": "A", "basic": "A", "bottleneck": "B"},
    ),
    # 2016a, Table 1; 200 is 2016b's.
    "imagenet": Family(
        image_side=224, stem_kernel=7, stem_stride=2, stem_width=64, max_pool=True,
        widths=(64, 128, 256, 512),
        depths={
            18: ("basic", (2, 2, 2, 2)),
            34: ("basic", (3, 4, 6, 3)),
            50: ("bottleneck", (3, 4, 6, 3)),
            101: ("bottleneck", (3, 4, 23, 3)),
            152: ("bottleneck", (3, 8, 36, 3)),
            200: ("bottleneck", (3, 24, 36, 3)),
        },
        default_option={"basic": "B", "bottleneck": "B"},
    ),
}  # fmt: skip

# The CIFAR depths of the papers: their block is what a bare depth means. Any other depth means
# basic if it is 6n+2, else bottleneck if it is 9n+2; single-layer units are always asked for.
PAPER_DEPTHS: Mapping[int, str] = {
    20: "basic",
    32: "basic",
    44: "basic",
    56: "basic",
    110: "basic",
    164: "bottleneck",
    1001: "bottleneck",
    1202: "basic",
}
