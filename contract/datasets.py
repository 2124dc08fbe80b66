"""What a data set is: names of the classes, shape of the images, counts.

`Dataset` is what travels: ExampleGen writes it beside the examples as dataset.json, and
every later node reads it from there. `DATASETS` is what is known of some sets beforehand.
A leaf: standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from contract import features
from contract.typed_json import Count, Record, Within

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
# Super-class -> its classes, as the authors publish them
# (https://www.cs.toronto.edu/~kriz/cifar.html). Labels are places in the alphabet, of
# super-classes and of classes.
_CIFAR100 = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
_CIFAR100_COARSE_OF = {
    name: coarse
    for coarse, names in enumerate(_CIFAR100.values())
    for name in names.split()
}
_CIFAR100_FINE = sorted(_CIFAR100_COARSE_OF)

Pixels = Annotated[int, Within(1, 1 << 16)]
# Of the sets whose images have one size. None, as height and width: they vary.
Shape = tuple[Pixels | None, Pixels | None, Annotated[int, Within(1, 4)]]
# Of CIFAR, as published.
PUBLISHED_SHAPE = (32, 32, 3)
# Red, green and blue of 2^16: the luminance of ITU-R BT.601, as Pillow's "L" counts it.
LUMINANCE = (19_595, 38_470, 7_471)
# What a published image can be ingested as, besides its own shape.
_SIZES = (8, 16, 32)
_CHANNELS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Extra(Record):
    """Labelled images of live requests that were added to the train split."""

    path: str  # data.extra
    added: Count
    # Why -> images: the split that they stand in already, "contradictory" (equal images
    # with several labels), "repeated" (an equal one was added).
    left_out: Mapping[str, Count] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """For people."""
        reasons = [
            f"{number:,} {_LEFT_OUT.get(why, f'in {why} already')}"
            for why, number in self.left_out.items()
        ]
        rest = f"; left out: {', '.join(reasons)}" if reasons else ""
        return f"Of {self.path}, {self.added:,} images were added to train{rest}"


_LEFT_OUT = {"contradictory": "with several labels", "repeated": "equal to another one"}


@dataclass(frozen=True, kw_only=True)
class Dataset(Record):
    """A data set as it was ingested: dataset.json."""

    name: str
    title: str  # for people
    image_shape: Shape  # height, width, channels of each image
    # Of images of any size, which examples hold as PNG or JPEG files: side of the square
    # that is cut out of them for a network. None: examples hold pixels.
    crop: Pixels | None = None
    # Feature of an example -> names of its classes, in label order.
    labels: Mapping[str, tuple[str, ...]]
    label_key: str = features.LABEL  # which of them is learnt
    # Split -> examples; of a set that is known, and not ingested yet, as expected.
    counts: Mapping[str, Count] = field(default_factory=dict)
    extra: Extra | None = None  # of `counts`
    # Of a person's own images: SHA-256 of what is in which split, with which label.
    digest: str | None = None

    def __post_init__(self) -> None:
        for feature, names in self.labels.items():
            if len(names) < 2 or len(set(names)) < len(names) or not all(names):
                raise ValueError(
                    f"labels.{feature} must be two classes or more, each with a name of its "
                    "own"
                )
        if self.label_key not in self.labels:
            raise ValueError(f"label_key={self.label_key}: must be one of the labels")
        if (self.image_shape[0] is None) != (self.image_shape[1] is None):
            raise ValueError("image_shape must tell height and width, or neither")
        if self.crop is not None and self.image_shape[0] is not None:
            raise ValueError(
                "crop is for images of any size, and image_shape tells one"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the feature that is learnt, in label order."""
        return self.labels[self.label_key]

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Height, width and channels of what a network is shown of every image.

        In an example it is raw uint8, but for images of which it is a `crop`.

        Raises:
            ValueError: The images have no common size, and none is cut out of them.
        """
        height, width, channels = self.image_shape
        if self.crop is not None:
            return self.crop, self.crop, channels
        if height is None or width is None:
            raise ValueError(
                f"{self.name}: its images have no common size, and only images of one size "
                "are read as pixels; ingest them in one size"
            )
        return height, width, channels

    @property
    def image_bytes(self) -> int:
        """Of one image, as `pixels`."""
        return math.prod(self.pixels)


@dataclass(frozen=True, kw_only=True)
class KnownDataset:
    """What is known of a data set before it is ingested."""

    title: str
    class_names: tuple[str, ...]
    train_examples: int  # before the eval split is carved out of them
    test_examples: int
    coarse_class_names: tuple[str, ...] = ()
    superclasses: tuple[int, ...] = ()  # label -> coarse label
    image_shape: Shape = PUBLISHED_SHAPE

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """As of `Dataset`."""
        found = {features.LABEL: self.class_names}
        if self.coarse_class_names:
            found[features.COARSE_LABEL] = self.coarse_class_names
        return found


DATASETS = {
    "cifar10": KnownDataset(
        title="CIFAR-10",
        class_names=tuple(_CIFAR10.split()),
        train_examples=50_000,
        test_examples=10_000,
    ),
    "cifar100": KnownDataset(
        title="CIFAR-100",
        class_names=tuple(_CIFAR100_FINE),
        coarse_class_names=tuple(_CIFAR100),
        superclasses=tuple(_CIFAR100_COARSE_OF[name] for name in _CIFAR100_FINE),
        train_examples=50_000,
        test_examples=10_000,
    ),
    # scikit-learn bundles the test part of the UCI optical digits; `test` is carved from it.
    "digits": KnownDataset(
        title="Handwritten digits (scikit-learn)",
        class_names=tuple("0123456789"),
        train_examples=1_437,
        test_examples=360,
    ),
}


def known(
    name: str,
    granularity: str = "fine",
    *,
    image_size: int | None = None,
    channels: int | None = None,
    counts: Mapping[str, int] | None = None,
) -> Dataset:
    """A known data set as it travels.

    Args:
        name: Key of `DATASETS`.
        granularity: "fine", or "coarse" for the 20 super-classes of cifar100.
        image_size: Pixels per side of the images as ingested; None: as published.
        channels: 1 (grey) or 3 (RGB); None: as published.
        counts: Split -> examples; None: train (with eval) and test as published.

    Raises:
        ValueError: "coarse" for a data set that has no coarse classes, or a size or a number
            of channels that its images cannot have; one sentence.
    """
    entry = DATASETS[name]
    side, _, depth = entry.image_shape
    if image_size not in (None, *_SIZES):
        raise ValueError(
            f"data.image_size={image_size}: must be {_SIZES[0]}, {_SIZES[1]} or "
            f"{_SIZES[2]}; an image of {name} is cut into whole blocks of its {side} x {side} "
            "pixels"
        )
    if channels not in (None, *_CHANNELS):
        raise ValueError(
            f"data.channels={channels}: must be {_CHANNELS[0]} (grey) or {_CHANNELS[1]} (RGB)"
        )
    key = features.label_key(granularity)
    if key not in entry.labels:
        raise ValueError(f"data.label={granularity}: {name} has no coarse classes")
    return Dataset(
        name=name,
        title=entry.title,
        image_shape=(image_size or side, image_size or side, channels or depth),
        labels=entry.labels,
        label_key=key,
        counts=counts
        or {
            features.TRAIN: entry.train_examples,
            features.TEST: entry.test_examples,
        },
    )
