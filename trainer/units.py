"""Which networks there are: a checked specification, and names for it.

Comes in: a name ("preact_resnet164") or the fields of a `NetworkSpec`, which choose rows of
`trainer.tables`. Goes out: a specification that can be built, or one sentence that says why
there is no such network. Standard library only, so that a wrong name is refused in
milliseconds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from trainer.tables import ARRANGEMENTS, BLOCKS, FAMILIES, PAPER_DEPTHS, SHORTCUTS

ArrangementName = Literal[
    "original",
    "bn_after_addition",
    "relu_before_addition",
    "relu_only_preactivation",
    "full_preactivation",
]
ShortcutName = Literal[
    "identity",
    "constant_scaling",
    "exclusive_gating",
    "shortcut_only_gating",
    "convolution",
    "dropout",
    "none",
]
BlockName = Literal["single_layer", "basic", "bottleneck"]
FamilyName = Literal["cifar", "imagenet"]


class NetworkError(ValueError):
    """No such network; the message names the field, the value, the rule and a remedy."""


_CONSTANTS = ("shortcut_scale", "residual_scale", "gate_bias", "dropout_rate")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """One residual network; every instance can be built.

    Fields left None are filled with the row's default, so two ways to write one network
    compare equal.

    Raises:
        NetworkError: The combination is not a network of the tables.
    """

    arrangement: ArrangementName
    block: BlockName
    depth: int  # layers with weights on the longest path, dense layer included
    shortcut: ShortcutName = "identity"  # "none": a plain network
    family: FamilyName = "cifar"
    # Where the width changes: A zero channels appended, B 1x1 projection; C projections in all
    # units (2016a, section 4.1), which is 2016b's shortcut "convolution".
    option: Literal["A", "B", "C"] | None = None
    # Bottlenecks: first_1x1 as released (and 2016a), 3x3 as fb.resnet.torch.
    stride_on: Literal["first_1x1", "3x3"] | None = None
    shortcut_scale: float | None = None  # constant_scaling
    residual_scale: float | None = None  # constant_scaling
    gate_bias: float | None = None  # both gatings: initial value of b_g
    dropout_rate: float | None = None  # dropout: probability of a zero

    def __post_init__(self):
        _check_choices(self)
        if self.shortcut == "none":
            _check_plain(self)
        _check_depth(self)
        _fill_option(self)
        _fill_stride(self)
        _fill_constants(self)

    @property
    def units_per_stage(self) -> tuple[int, ...]:
        """Residual units in each stage."""
        family = FAMILIES[self.family]
        if family.depths is not None:
            return family.depths[self.depth][1]
        n = (self.depth - 2) // BLOCKS[self.block].layers_per_n
        return (n,) * len(family.widths)

    @property
    def name(self) -> str:
        """The canonical name; `parse_network` gives the same specification back."""
        return _name(self)


def parse_network(name: str) -> NetworkSpec:
    """Returns the specification that a name stands for.

    A name is `[imagenet_][preact_|<arrangement>_]resnet<depth>[_1layer|_basic|_bottleneck]` or
    `[imagenet_]plain<depth>`, then any number of `:<field>=<value>`. Examples: resnet110,
    preact_resnet1001, preact_resnet110_1layer, relu_before_addition_resnet164, plain56,
    imagenet_resnet50, resnet110:shortcut=exclusive_gating:gate_bias=-7.

    Without a suffix, 164 and 1001 mean bottleneck units and 20, 32, 44, 56, 110 and 1202 basic
    ones, as in the papers; any other depth means basic if it is 6n+2, else bottleneck (9n+2).

    Raises:
        NetworkError: No such network; the message suggests close names.
    """
    head, *settings = name.split(":")
    match = _NAME.fullmatch(head)
    if match is None:
        raise NetworkError(f"network={name!r}: no such network{_suggest(head)}")
    fields: dict[str, Any] = {"depth": int(match["depth"])}
    fields["family"] = "imagenet" if match["imagenet"] else "cifar"
    if match["plain"]:
        fields |= {"arrangement": "original", "shortcut": "none"}
    else:
        prefix = (match["arrangement"] or "original").removesuffix("_")
        fields["arrangement"] = _PREFIXES.get(prefix, prefix)
    try:
        fields["block"] = _block(fields, match["block"] or "")
        return NetworkSpec(**fields | _settings(settings, fields))
    except NetworkError as error:
        raise NetworkError(f"network={name!r}: {error}") from None


_PREFIXES = {"preact": "full_preactivation"}
_SUFFIXES = {block.suffix: name for name, block in BLOCKS.items()}
_NAME = re.compile(
    r"(?P<imagenet>imagenet_)?"
    r"(?:(?P<plain>plain)|"
    rf"(?P<arrangement>(?:{'|'.join([*_PREFIXES, *ARRANGEMENTS])})_)?resnet)"
    r"(?P<depth>[1-9][0-9]{0,4})"
    rf"(?P<block>{'|'.join(_SUFFIXES)})?"
)
# What a name's settings may say; the other fields are said by the name itself.
_SETTINGS = ("shortcut", "option", "stride_on", *_CONSTANTS)


def _block(fields: Mapping[str, Any], suffix: str) -> str:
    """The block a name means (see `parse_network`)."""
    depth = fields["depth"]
    if suffix:
        return _SUFFIXES[suffix]
    depths = FAMILIES[fields["family"]].depths
    if depths is not None:
        return depths[depth][0] if depth in depths else "basic"
    if depth in PAPER_DEPTHS:
        return PAPER_DEPTHS[depth]
    for block in ("basic", "bottleneck"):
        if _units(block, depth):
            return block
    close = ", ".join(str(d) for d in _closest(depth, ("basic", "bottleneck")))
    sentence = (
        f"depth={depth} is neither 6n+2 (basic units) nor 9n+2 (bottleneck); "
        f"close depths: {close}"
    )
    if _units("single_layer", depth):
        sentence += f"; resnet{depth}_1layer is a network"
    if depth in _imagenet():
        sentence += f"; imagenet_resnet{depth} is a network"
    raise NetworkError(sentence)


def _settings(texts: Iterable[str], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The `:<field>=<value>` parts of a name that says `fields` itself."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in _SETTINGS:
            raise NetworkError(
                f"{text!r} is no setting; one is <field>=<value> with a field of "
                f"{', '.join(_SETTINGS)}{_did_you_mean(key, _SETTINGS)}"
            )
        if key in found:
            raise NetworkError(f"{key} is given twice; leave one of them out")
        if key in fields:
            raise NetworkError(
                f"{text} contradicts a name that says {key}={fields[key]}"
            )
        try:
            found[key] = float(value) if key in _CONSTANTS else value
        except ValueError:
            raise NetworkError(f"{key}={value!r} must be a number") from None
    return found


def _name(spec: NetworkSpec) -> str:
    """The shortest name that gives `spec` back."""
    stem = "imagenet_" if spec.family == "imagenet" else ""
    if spec.shortcut == "none":
        stem += "plain"
    elif spec.arrangement == "original":
        stem += "resnet"
    else:
        short = {arrangement: prefix for prefix, arrangement in _PREFIXES.items()}
        stem += short.get(spec.arrangement, spec.arrangement) + "_resnet"
    stem += str(spec.depth)
    try:
        bare = _block({"depth": spec.depth, "family": spec.family}, "")
    except NetworkError:
        bare = None
    if bare != spec.block:
        stem += BLOCKS[spec.block].suffix
    settings: dict[str, Any] = {}
    if spec.shortcut not in ("identity", "none"):
        settings["shortcut"] = spec.shortcut
    default = FAMILIES[spec.family].default_option[spec.block]
    if spec.option not in (None, "C", default):
        settings["option"] = spec.option
    if spec.stride_on == "3x3":
        settings["stride_on"] = spec.stride_on
    for key, value in SHORTCUTS[spec.shortcut].constants.items():
        if getattr(spec, key) != value:
            settings[key] = repr(getattr(spec, key)).removesuffix(".0")
    return ":".join([stem, *(f"{key}={value}" for key, value in settings.items())])


def named_networks() -> tuple[str, ...]:
    """The names a person is offered: the networks of the papers' tables."""
    cifar = [depth for depth in PAPER_DEPTHS if depth != 1202]
    return (
        *(f"{kind}resnet{depth}" for kind in ("", "preact_") for depth in cifar),
        *(f"{kind}resnet110_1layer" for kind in ("", "preact_")),
        *(f"plain{depth}" for depth in cifar if PAPER_DEPTHS[depth] == "basic"),
        *(f"{row}_resnet{depth}" for row in ARRANGEMENTS for depth in (110, 164)
          if row not in ("original", "full_preactivation")),
        *(f"resnet110:shortcut={row}" for row in SHORTCUTS
          if row not in ("identity", "none")),
        "resnet1202",
        *(f"imagenet_plain{depth}" for depth in (18, 34)),
        *(f"imagenet_{kind}resnet{depth}" for kind in ("", "preact_")
          for depth in _imagenet()),
    )  # fmt: skip


def _check_choices(spec: NetworkSpec) -> None:
    """Refuses values that no table has."""
    for key, hint in get_type_hints(NetworkSpec).items():
        choices = _choices(hint)
        value = getattr(spec, key)
        if value is None and key in ("arrangement", "block", "shortcut", "family"):
            raise NetworkError(f"{key}=None: choose one of {', '.join(choices)}")
        if choices and value is not None and value not in choices:
            raise NetworkError(
                f"{key}={value!r} is none of {', '.join(choices)}"
                f"{_did_you_mean(str(value), choices)}"
            )
    if not isinstance(spec.depth, int) or isinstance(spec.depth, bool):
        raise NetworkError(f"depth={spec.depth!r} must be a whole number")


def _check_plain(spec: NetworkSpec) -> None:
    """Plain networks are the basic layout with the shortcuts left out (2016a, section 4.2)."""
    if spec.arrangement != "original":
        raise NetworkError(
            f"arrangement={spec.arrangement} places BN and ReLU around an addition, and "
            'shortcut="none" leaves none; take arrangement="original"'
        )
    if spec.block != "basic":
        raise NetworkError(
            f'block={spec.block} needs a shortcut; plain networks (shortcut="none") have '
            'block="basic"'
        )
    if spec.option is not None:
        raise NetworkError(
            f"option={spec.option} says how a shortcut changes its width, and "
            'shortcut="none" has none; leave option out'
        )


def _check_depth(spec: NetworkSpec) -> None:
    depths = FAMILIES[spec.family].depths
    if depths is not None:
        block = depths.get(spec.depth, ("",))[0]
        if not block:
            known = ", ".join(str(depth) for depth in depths)
            raise NetworkError(
                f"depth={spec.depth} is no ImageNet depth; choose one of {known}"
            )
        if block != spec.block:
            fitting = [str(d) for d, (row, _) in depths.items() if row == spec.block]
            remedy = f" or depth {', '.join(fitting)}" if fitting else ""
            raise NetworkError(
                f"block={spec.block}: the ImageNet network of depth {spec.depth} has {block} "
                f'units; take block="{block}"{remedy}'
            )
    elif not _units(spec.block, spec.depth):
        a = BLOCKS[spec.block].layers_per_n
        close = " and ".join(str(d) for d in _closest(spec.depth, (spec.block,)))
        fitting = [name for name in BLOCKS if _units(name, spec.depth)]
        also = f', or take block="{fitting[-1]}"' if fitting else ""
        raise NetworkError(
            f"depth={spec.depth} is not {a}n+2, the rule of {spec.block} units; "
            f"close depths: {close}{also}"
        )


def _fill_option(spec: NetworkSpec) -> None:
    if spec.shortcut == "none":
        return
    if spec.option == "C" and spec.shortcut == "identity":
        _set(spec, "shortcut", "convolution")  # two papers, two names
    if spec.shortcut == "convolution":
        if spec.option not in (None, "C"):
            raise NetworkError(
                f"option={spec.option}: shortcut=convolution has a projection in every unit, "
                'which is option "C"; leave option out'
            )
        _set(spec, "option", "C")
    elif spec.option == "C":
        raise NetworkError(
            f"option=C puts a projection on every shortcut, and shortcut={spec.shortcut} "
            'something else; take option "A" or "B", or shortcut="convolution"'
        )
    elif spec.option is None:
        _set(spec, "option", FAMILIES[spec.family].default_option[spec.block])


def _fill_stride(spec: NetworkSpec) -> None:
    if spec.block == "bottleneck":
        _set(spec, "stride_on", spec.stride_on or "first_1x1")
    elif spec.stride_on is not None:
        raise NetworkError(
            f"stride_on={spec.stride_on} is a choice of bottleneck units; {spec.block} units "
            "have their stride on the first convolution: leave stride_on out"
        )


def _fill_constants(spec: NetworkSpec) -> None:
    constants = SHORTCUTS[spec.shortcut].constants
    for key in _CONSTANTS:
        value = getattr(spec, key)
        if key not in constants:
            if value is not None:
                users = (
                    name for name, row in SHORTCUTS.items() if key in row.constants
                )
                raise NetworkError(
                    f"{key}={value}: shortcut={spec.shortcut} has no such constant; leave "
                    f"it out, or take shortcut={' or '.join(users)}"
                )
            continue
        value = constants[key] if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise NetworkError(f"{key}={value!r} must be a number")
        if not math.isfinite(value):
            raise NetworkError(f"{key}={value} must be finite")
        if key == "dropout_rate" and not 0 <= value < 1:
            raise NetworkError(
                f"dropout_rate={value} must be at least 0 and below 1: a rate of 1 leaves "
                "nothing of the shortcut"
            )
        _set(spec, key, float(value))


def _set(spec: NetworkSpec, key: str, value: Any) -> None:
    """Fills a field of a frozen specification that is still being made."""
    object.__setattr__(spec, key, value)


def _choices(hint: Any) -> tuple[str, ...]:
    """The text values of a Literal, also of an optional one."""
    found = [item for item in get_args(hint) if isinstance(item, str)]
    for item in get_args(hint):
        found += [text for text in get_args(item) if isinstance(text, str)]
    return tuple(found)


def _units(block: str, depth: int) -> int:
    """Units per stage of a CIFAR network, 0 where the depth does not fit the rule."""
    n, rest = divmod(depth - 2, BLOCKS[block].layers_per_n)
    return n if n > 0 and rest == 0 else 0


def _closest(depth: int, blocks: Iterable[str]) -> list[int]:
    """The nearest depths on either side that one of `blocks` has."""
    fits = [BLOCKS[block].layers_per_n for block in blocks]
    span = range(max(depth - 9, 0), depth + 10)
    depths = {a + 2 for a in fits} | {
        d for d in span for a in fits if d > 2 and d % a == 2 % a
    }
    below = [d for d in depths if d < depth]
    above = [d for d in depths if d > depth]
    return [*([max(below)] if below else []), *([min(above)] if above else [])]


def _imagenet() -> tuple[int, ...]:
    return tuple(FAMILIES["imagenet"].depths or ())


def _suggest(name: str) -> str:
    """Close names, or what names look like."""
    plain = re.sub(r"[\s-]+", "_", name.strip().lower())
    known = named_networks()
    close = difflib.get_close_matches(plain, known, n=3, cutoff=0.6)
    if not close:
        return (
            f"; names look like {', '.join(known[5:9])}, preact_resnet1001 or plain56"
        )
    return f"; did you mean {' or '.join(close)}?"


def _did_you_mean(value: str, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(value, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
