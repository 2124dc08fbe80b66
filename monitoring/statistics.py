"""How far live traffic is from what the model that answered was trained on.

Raw pixels have no statistics worth comparing: TFDV sees one string of bytes per image. So
both sides come as the numbers that the pipeline's own checks use (brightness, contrast,
...), and the classes of the live answers stand beside those of the model's answers to the
eval images: true labels would show its errors as drift. TFDV measures the distances: the
Jensen-Shannon divergence of numbers, the L-infinity norm of classes. One is drift if it
exceeds its threshold and chance does not explain it (components/drift/invariants.py).

A table is a column per name: the keys of image_statistics.NUMBERS, float32 [images], and
`CLASS`, object (str) [answers].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from components.drift import image_statistics, invariants

CLASS = "class"

# What a change of a number looks like: less of it, and more.
WORDS = {
    image_statistics.BRIGHTNESS: ("darker", "brighter"),
    image_statistics.CONTRAST: ("flatter", "richer in contrast"),
    image_statistics.RED: ("less red", "more red"),
    image_statistics.GREEN: ("less green", "more green"),
    image_statistics.BLUE: ("less blue", "more blue"),
    image_statistics.SHARPNESS: ("blurrier", "sharper"),
}


def compare(
    training: Mapping[str, np.ndarray],
    live: Mapping[str, np.ndarray],
    most_divergence: float,
    most_class_change: float,
) -> list[invariants.Distance]:
    """The distance of every column.

    Args:
        training: Table of one version: its training images, and its answers to the eval
            images.
        live: Table of the requests that it answered.
        most_divergence: Jensen-Shannon divergence of a number that is still no drift.
        most_class_change: Change of a class's share that is still no drift, 0 to 1.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    numbers, classes = schema_pb2.Schema(), schema_pb2.Schema()
    for name in WORDS:
        if name not in training or name not in live:
            continue  # grey images have no colours
        feature = numbers.feature.add(name=name, type=schema_pb2.FLOAT)
        limit = feature.skew_comparator.jensen_shannon_divergence
        limit.threshold = most_divergence
    feature = classes.feature.add(name=CLASS, type=schema_pb2.BYTES)
    feature.skew_comparator.infinity_norm.threshold = most_class_change
    found = []
    # Apart, because there are fewer answers to eval images than training images.
    for schema in (numbers, classes):
        here, there = (
            image_statistics.statistics({f.name: table[f.name] for f in schema.feature})
            for table in (live, training)
        )
        found += invariants.compare(here, there, schema, "skew")
    return found


def report(
    distances: Sequence[invariants.Distance],
    training: Mapping[str, np.ndarray],
    live: Mapping[str, np.ndarray],
    named: str,
) -> str:
    """The text that is printed: a line per column, and the verdict.

    Args:
        distances: Of `compare`.
        training: As there.
        live: As there.
        named: Model and version, in words.
    """
    trained = len(training[image_statistics.BRIGHTNESS])
    lines = [
        f"{len(live[CLASS]):,} live images of {named} against the {trained:,} it was "
        f"trained on and its answers to {len(training[CLASS]):,} eval images"
    ]
    for distance in distances:
        name = distance.feature
        side = "evaluation" if name == CLASS else "training"
        words = f"{distance.here}, in {side} {distance.there}"
        if distance.violated and name in WORDS:
            words += f": {WORDS[name][int(live[name].mean() > training[name].mean())]}"
        lines.append(
            f"  {name:<10}  {'DRIFT' if distance.violated else 'fine':<5}  "
            f"{distance.value:.3f} (at most {distance.threshold:g})  {words}"
        )
    drifted = [distance.feature for distance in distances if distance.violated]
    lines.append(
        f"Live traffic has drifted in {', '.join(drifted)}." if drifted else "No drift."
    )
    return "\n".join(lines) + "\n"
