"""What the examples of a data set must look like, as a TensorFlow Metadata schema.

Data set in, text form of a `tensorflow.metadata.v0.Schema` out: one of the examples,
and one of what the ExampleValidator compares over time. No TensorFlow and
no protobuf here: the text is short, and its author is this file.

Source: tensorflow_metadata/proto/v0/schema.proto.
"""

from __future__ import annotations

import json

from components.drift.image_statistics import numbers_of
from contract import features
from contract.config.drift import DriftConfig
from contract.datasets import Dataset

# Every example has exactly one value of each feature.
_EXACTLY_ONE = "presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } }"

# `image_domain` tells TFDV that these bytes are no text: it collects their lengths
# instead of counting "words" of a whole image. It can check an upper bound of a length but no
# lower one, and no uniqueness; tags state both, for this project's ExampleValidator.
MINIMUM_BYTES_TAG = "minimum_bytes:"
UNIQUE_TAG = "unique"


def schema_text(dataset: Dataset) -> str:
    """The schema of a data set's ingested examples."""
    if dataset.crop is None:
        size = dataset.image_bytes
        domain = f"image_domain {{ max_image_byte_size: {size} }}"
    else:  # files
        size, domain = 1, "image_domain { }"
    parts = [
        f'feature {{ name: "{features.IMAGE}" type: BYTES {_EXACTLY_ONE} {domain} '
        f'annotation {{ tag: "{MINIMUM_BYTES_TAG}{size}" }} }}',
        f'feature {{ name: "{features.EXAMPLE_ID}" type: BYTES {_EXACTLY_ONE} '
        f'annotation {{ tag: "{UNIQUE_TAG}" }} }}',
    ]
    parts += [_label(name, len(classes)) for name, classes in dataset.labels.items()]
    return "\n".join(parts) + "\n"


def invariants_text(dataset: Dataset, drift: DriftConfig) -> str:
    """What must not change from run to run, nor differ from split to split.

    A schema of its own, because its features are made of the examples' (class names,
    numbers that describe an image) and are not in them, and because another threshold
    must not make the Trainers, which depend on the examples' schema, train again.

    A `drift_comparator` compares a split with the same one of the last accepted run, a
    `skew_comparator` compares train with eval and with test.

    Args:
        dataset: Whose classes and image numbers are compared.
        drift: The thresholds; of labels in even shares, which become shares here.
    """
    parts = [_classes(name, names, drift) for name, names in dataset.labels.items()]
    comparators = _comparators(
        "jensen_shannon_divergence", drift.images, drift.skew_images
    )
    parts += [
        f'feature {{ name: "{name}" type: FLOAT {comparators}}}'
        for name in numbers_of(dataset.pixels[-1])
    ]
    return "\n".join(parts) + "\n"


def _classes(name: str, classes: tuple[str, ...], drift: DriftConfig) -> str:
    shares = [
        None if threshold is None else threshold / len(classes)
        for threshold in (drift.labels, drift.skew_labels)
    ]
    # Class names may hold quotation marks; JSON quotes as this format does.
    values = " ".join(
        f"value: {json.dumps(value, ensure_ascii=False)}" for value in classes
    )
    return (
        f'feature {{ name: "{name}" type: BYTES string_domain {{ {values} }} '
        f"{_comparators('infinity_norm', *shares)}}}"
    )


def _comparators(measure: str, drift: float | None, skew: float | None) -> str:
    return "".join(
        f"{kind}_comparator {{ {measure} {{ threshold: {threshold!r} }} }} "
        for kind, threshold in (("drift", drift), ("skew", skew))
        if threshold is not None
    )


def _label(name: str, classes: int) -> str:
    return (
        f'feature {{ name: "{name}" type: INT {_EXACTLY_ONE} '
        f"int_domain {{ min: 0 max: {classes - 1} }} }}"
    )
