"""Section `data`: which images, from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contract import paths
from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, from where."""

    name: Literal["auto", "cifar10", "cifar100", "digits", "folder"] = setting(
        "auto",
        "data set; folder: your own images under data.path, or data.tfds; auto: folder with "
        "data.tfds, what lies at data.path, else cifar10 if it is on disk or can be "
        "downloaded, else digits",
    )
    path: str | None = setting(
        None,
        "folder or .tar.gz in the official binary or python layout (else "
        "tensorflow-datasets); of your own images: folder of class folders, .tar or .csv",
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
    tfds: str | None = setting(
        None,
        "name[/configuration][:version] of a set of tensorflow-datasets that is prepared in "
        "data.tfds_dir; ingested as a folder of your own images (data.name=folder)",
        problem=paths.text_problem,
    )
    extra: str | None = setting(
        None,
        "folder of labelled images of live requests, added to train "
        "(`python -m monitoring labelled` writes it)",
        problem=paths.text_problem,
    )
    label: Literal["fine", "coarse"] = setting(
        "fine", "cifar100 only: 100 fine or 20 coarse classes"
    )
    image_size: int | None = setting(
        None,
        "pixels per side, 8, 16 or 32: means over blocks of the published 32 x 32 "
        "(digits: 8 x 8, enlarged); none: 32; your own images: any multiple of 8, scaled "
        "and cut to a square; none: 64",
        low=8,
        high=256,
    )
    channels: int | None = setting(
        None,
        "of the images: 3, or 1 for grey (luminance, ITU-R 601); none: 3",
        low=1,
        high=3,
    )
    encoded: bool = setting(
        False,
        "folder: keep the pictures' files, and cut the images out of them while training, "
        "at random places and sizes; else each is brought to data.image_size once",
    )
    eval_fraction: float = setting(
        0.1, "share of train that becomes the eval split", low=0.01, high=0.5
    )
    test_fraction: float = setting(
        0.2,
        "folder: share of all images that becomes the test split, if none is given",
        low=0.01,
        high=0.5,
    )
    unreadable_limit: float = setting(
        0.01,
        "folder: share of the files that may be no readable pictures, and are left out",
        low=0.0,
        high=0.5,
    )
    shards: int = setting(4, "TFRecord files per split", low=1, high=1000)
    compression: Literal["gzip", "none"] = setting(
        "none",
        "of the TFRecords: gzip saves 7 to 9 % of CIFAR's pixels, and ingestion takes twice as "
        "long; encoded ones never",
    )
