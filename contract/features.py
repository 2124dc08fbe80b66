"""The contract of all stages: feature names, shapes, splits and data sets.

Every stage (ExampleGen, Transform, Trainers, Evaluator, server, client) takes its names
from here and from nowhere else. A leaf: standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

# Features of one ingested tf.Example.
IMAGE = "image"  # bytes[1]: 3,072 raw uint8 pixels, row-major [32, 32, 3], RGB
LABEL = "label"  # int64[1]: index into the class names (cifar100: the fine class)
COARSE_LABEL = "coarse_label"  # int64[1], cifar100 only
EXAMPLE_ID = "example_id"  # bytes[1]: ASCII, of the pixels; unique within a split

IMAGE_SHAPE = (32, 32, 3)
IMAGE_BYTES = 32 * 32 * 3

TRAIN, EVAL, TEST = SPLITS = ("train", "eval", "test")

# Output of the Transform graph: float32 [batch, 32, 32, 3], normalised.
TRANSFORMED_IMAGE = "transformed_image"
# Too, int64 [batch]: in which quarter of the train images an image's mean pixel
# (brightness) and standard deviation of pixels (contrast) lie; the Evaluator's slices.
BRIGHTNESS_BAND, CONTRAST_BAND = BANDS = ("brightness_band", "contrast_band")
BAND_NAMES = ("lowest", "low", "high", "highest")

# Signatures of the exported SavedModel (fixed: clients rely on them).
SIGNATURE_IMAGES = "serving_default"
SIGNATURE_EXAMPLES = "serialized_examples"
SIGNATURE_ENCODED = "encoded_images"
SIGNATURE_CLASSIFY = "classify"
PROBABILITIES = "probabilities"
PREDICTED_LABEL = "label"
CLASS_NAME = "class_name"

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


def label_key(granularity: str) -> str:
    """The feature to learn: `granularity` is "fine" or "coarse" (cifar100 only)."""
    return COARSE_LABEL if granularity == "coarse" else LABEL


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
