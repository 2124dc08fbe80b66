"""What an example is: names and shapes of features, splits, bands, signatures.

ExampleGen, Transform, Trainers, Evaluator, canary and monitoring take these names from
here. A leaf: standard library only.
"""

from __future__ import annotations

# Features of one ingested tf.Example; contract/datasets.py has the shape of its image.
IMAGE = "image"  # bytes[1]: raw uint8 pixels, row-major [height, width, channels]
LABEL = "label"  # int64[1]: index into the class names (cifar100: the fine class)
COARSE_LABEL = "coarse_label"  # int64[1], cifar100 only
EXAMPLE_ID = "example_id"  # bytes[1]: ASCII, of the pixels; unique within a split
EXTRA = b"-extra"  # how the ids of images end that data.extra has added

TRAIN, EVAL, TEST = SPLITS = ("train", "eval", "test")

# Output of the Transform graph: float32 [batch, height, width, channels], normalised.
TRANSFORMED_IMAGE = "transformed_image"
# Beside it, int64 [batch]: in which quarter of the train images an image's mean pixel
# (brightness) and standard deviation of pixels (contrast) lie; the Evaluator's slices.
BRIGHTNESS_BAND, CONTRAST_BAND = BANDS = ("brightness_band", "contrast_band")
BAND_NAMES = ("lowest", "low", "high", "highest")
# Of pictures that stay files, by the Evaluator: in which quarter of the eval split the
# shorter side lies, before the crop.
SIZE_BAND = "size_band"

# Signatures of the exported SavedModel (fixed: clients rely on them).
SIGNATURE_IMAGES = "serving_default"
SIGNATURE_EXAMPLES = "serialized_examples"
SIGNATURE_ENCODED = "encoded_images"
SIGNATURE_CLASSIFY = "classify"
# Of models that cut crops out of pictures themselves: another name of `encoded_images`, by
# which clients know that it takes any size.
SIGNATURE_ANY_SIZE = "any_size"
PROBABILITIES = "probabilities"
PREDICTED_LABEL = "label"
CLASS_NAME = "class_name"


def label_key(granularity: str) -> str:
    """The feature to learn: `granularity` is "fine" or "coarse" (cifar100 only)."""
    return COARSE_LABEL if granularity == "coarse" else LABEL
