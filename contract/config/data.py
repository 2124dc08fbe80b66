"""Section `data`: which images, from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract import paths
from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, from where."""

    name: Literal["auto", "cifar10", "cifar100", "digits"] = setting(
        "auto",
        "data set; auto takes cifar10 if it is on disk or can be downloaded, else digits",
    )
    path: str | None = setting(
        None,
        "folder or .tar.gz in the official binary or python layout (else tensorflow-datasets)",
        problem=paths.text_problem,
    )
    allow_unverified: bool = setting(
        False, "accept files under data.path whose checksum is not the published one"
    )
    tfds_dir: str | None = setting(
        None,
        "tensorflow-datasets folder (default: $TFDS_DATA_DIR)",
        problem=paths.pattern_problem,
    )
    label: Literal["fine", "coarse"] = setting(
        "fine", "cifar100 only: 100 fine or 20 coarse classes"
    )
    image_size: int | None = setting(
        None,
        "pixels per side, 8, 16 or 32: means over blocks of the published 32 x 32 "
        "(digits: 8 x 8, enlarged); none: 32",
        low=8,
        high=32,
    )
    channels: int | None = setting(
        None,
        "of the images: 3, or 1 for grey (luminance, ITU-R 601); none: 3",
        low=1,
        high=3,
    )
    eval_fraction: float = setting(
        0.1, "share of train that becomes the eval split", low=0.01, high=0.5
    )
    shards: int = setting(4, "TFRecord files per split", low=1, high=1000)
    compression: Literal["gzip", "none"] = setting("gzip", "of the TFRecords")
