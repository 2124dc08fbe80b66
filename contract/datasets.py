"""What is fixed about each data set: its title, the names of its classes, its counts.

A leaf: standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is fixed about a data set."""

    title: str
    class_names: tuple[str, ...]
    train_examples: int  # before the eval split is carved out of them
    test_examples: int
    coarse_class_names: tuple[str, ...] = ()
    superclasses: tuple[int, ...] = ()  # label -> coarse label


DATASETS = {
    "cifar10": Dataset(
        title="CIFAR-10",
        class_names=tuple(_CIFAR10.split()),
        train_examples=50_000,
        test_examples=10_000,
    ),
    "cifar100": Dataset(
        title="CIFAR-100",
        class_names=tuple(_CIFAR100_FINE),
        coarse_class_names=tuple(_CIFAR100),
        superclasses=tuple(_CIFAR100_COARSE_OF[name] for name in _CIFAR100_FINE),
        train_examples=50_000,
        test_examples=10_000,
    ),
    # scikit-learn bundles the test part of the UCI optical digits; `test` is carved from it.
    "digits": Dataset(
        title="Handwritten digits (scikit-learn)",
        class_names=tuple("0123456789"),
        train_examples=1_437,
        test_examples=360,
    ),
}


def class_names(dataset: str, granularity: str = "fine") -> tuple[str, ...]:
    """Class names in label order.

    Args:
        dataset: Key of `DATASETS`.
        granularity: "fine", or "coarse" for the 20 super-classes of cifar100.

    Raises:
        ValueError: "coarse" for a data set that has no coarse classes.
    """
    entry = DATASETS[dataset]
    if granularity == "coarse":
        if not entry.coarse_class_names:
            raise ValueError(f"data.label=coarse: {dataset} has no coarse classes")
        return entry.coarse_class_names
    return entry.class_names
