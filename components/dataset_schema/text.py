"""What the examples of a data set must look like, as a TensorFlow Metadata schema.

Data set name in, text form of a `tensorflow.metadata.v0.Schema` out. No TensorFlow and
no protobuf here: the text is short, and its author is this file.

Source: tensorflow_metadata/proto/v0/schema.proto.
"""

from __future__ import annotations

from trainer import features

# Every example has exactly one value of each feature.
_EXACTLY_ONE = "presence { min_fraction: 1 min_count: 1 } shape { dim { size: 1 } }"

# `image_domain` tells TFDV that these bytes are no text: it collects their lengths
# instead of counting 3,072-byte "words". It can check an upper bound of a length but no
# lower one, and no uniqueness; tags state both, for this project's ExampleValidator.
MINIMUM_BYTES_TAG = "minimum_bytes:"
UNIQUE_TAG = "unique"


def schema_text(dataset: str) -> str:
    """The schema of a data set's ingested examples.

    Args:
        dataset: Key of `features.DATASETS`.
    """
    entry = features.DATASETS[dataset]
    size = features.IMAGE_BYTES
    parts = [
        f'feature {{ name: "{features.IMAGE}" type: BYTES {_EXACTLY_ONE} '
        f"image_domain {{ max_image_byte_size: {size} }} "
        f'annotation {{ tag: "{MINIMUM_BYTES_TAG}{size}" }} }}',
        _label(features.LABEL, len(entry.class_names)),
        f'feature {{ name: "{features.EXAMPLE_ID}" type: BYTES {_EXACTLY_ONE} '
        f'annotation {{ tag: "{UNIQUE_TAG}" }} }}',
    ]
    if entry.coarse_class_names:
        parts.append(_label(features.COARSE_LABEL, len(entry.coarse_class_names)))
    return "\n".join(parts) + "\n"


def _label(name: str, classes: int) -> str:
    return (
        f'feature {{ name: "{name}" type: INT {_EXACTLY_ONE} '
        f"int_domain {{ min: 0 max: {classes - 1} }} }}"
    )
