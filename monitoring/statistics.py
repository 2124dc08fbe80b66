"""Compares what the server was asked with what the model that answered was trained on.

    python -m monitoring.statistics --request_log_dir DIR [--pipeline_output output]
        [--model NAME] [--version N]

Raw pixels have no statistics worth comparing: TFDV sees one string of 3,072 bytes per
image. So images of both sides, from the request log and from the Examples that the version
was trained on, become the numbers that the pipeline's own checks use (brightness,
contrast, ...), and the classes of its live answers stand beside those of its answers to
the eval images: true labels would show its errors as drift. TFDV measures the distances:
the Jensen-Shannon divergence of numbers, the L-infinity norm of classes. One is drift if
it exceeds its threshold and chance does not explain it
(components/drift/invariants.py).

A log holds all models of its server, and their versions: one model is compared, each
version with its own training (monitoring/lineage.py). A record that cannot be used is
skipped and counted, whatever is wrong with it; so is a version that cannot be compared,
unless no other can.

Exit status: 0 no drift, 1 drift, 2 nothing to compare or a failure.
"""

from __future__ import annotations

import argparse
import io
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.drift import image_statistics, invariants
from contract import features
from monitoring.lineage import NothingToCompare, origin
from serving import quiet
from serving.server import images as headers
from serving.server import request_log

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

# Larger encoded images are not decoded: 32 x 32 is what the signature takes.
_MOST_PIXELS = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the comparison and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.statistics",
        description="compare logged requests with the training data",
    )
    parser.add_argument(
        "--request_log_dir", required=True, help="the server's --request_log_dir"
    )
    parser.add_argument(
        "--model", help="the model's name; needed if the log has several"
    )
    parser.add_argument(
        "--version", type=int, help="one of its versions instead of each"
    )
    parser.add_argument(
        "--pipeline_output",
        default="output",
        help="the output folder of the runs that published the versions",
    )
    parser.add_argument(
        "--most_divergence", type=float, default=0.1,
        help="Jensen-Shannon divergence of a number that is still no drift (0 to 1)",
    )  # fmt: skip
    parser.add_argument(
        "--most_class_change", type=float, default=0.15,
        help="change of a class's share that is still no drift (0 to 1)",
    )  # fmt: skip
    parser.add_argument(
        "--fewest", type=int, default=200, help="images needed on either side"
    )
    parser.add_argument(
        "--most", type=int, default=20_000, help="images used of either side"
    )
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (NothingToCompare, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except Exception:  # which would end with 1, and that says drift
        traceback.print_exc()
        return 2


def _run(options: argparse.Namespace) -> int:
    """Compares each version; returns the exit status."""
    _check_log(options.request_log_dir)
    with quiet.loading_tensorflow():
        import tensorflow as tf
        import tensorflow_data_validation  # noqa: F401

        tf.config.list_physical_devices()
    model, tables = live_tables(
        options.request_log_dir, options.most, options.model, options.version
    )
    measured: dict[Path, dict[str, np.ndarray]] = {}
    drift, compared = False, False
    for version, live in sorted(tables.items()):
        named = f"{model}, version {version},"
        try:
            examples, answers = origin(options.pipeline_output, model, version)
            if examples not in measured:
                measured[examples] = training_table(examples, options.most)
            training = measured[examples] | {CLASS: answers}
            _check_enough(live, training, named, options.fewest)
        except NothingToCompare as problem:
            sys.stderr.write(f"{problem}\n")
            continue
        distances = compare(
            training, live, options.most_divergence, options.most_class_change
        )
        sys.stdout.write(report(distances, training, live, named))
        compared = True
        drift = drift or any(distance.violated for distance in distances)
    return int(drift) if compared else 2


def _check_log(directory: str) -> None:
    if not Path(directory).is_dir():
        raise NothingToCompare(f"{directory}: there is no such request log.")


def _check_enough(
    live: Mapping[str, np.ndarray],
    training: Mapping[str, np.ndarray],
    named: str,
    fewest: int,
) -> None:
    for what, table, column in (
        ("live", live, CLASS),
        ("training", training, image_statistics.BRIGHTNESS),
        ("eval", training, CLASS),
    ):
        if len(table[column]) < fewest:
            raise NothingToCompare(
                f"There are {len(table[column])} {what} images of {named} but a "
                f"comparison needs {fewest}: wait for more, or pass --fewest."
            )


def training_table(examples: Path, most: int) -> dict[str, np.ndarray]:
    """The measured images of the training split: a column per number.

    Raises:
        NothingToCompare: There are none, or they are damaged.
    """
    paths = sorted(Path(examples, f"Split-{features.TRAIN}").glob("data_tfrecord-*"))
    if not paths:
        raise NothingToCompare(f"{examples} has no files of the training split.")
    try:
        pixels = np.frombuffer(b"".join(_training_images(paths, most)), np.uint8)
        pixels = pixels.reshape(-1, *features.IMAGE_SHAPE)
    except Exception as problem:  # TensorFlow's, protobuf's, or a missing feature's
        raise NothingToCompare(
            f"{examples} cannot be read as training examples: {problem}"
        ) from problem
    return image_statistics.measure(pixels)


def _training_images(paths: Sequence[Path], most: int) -> list[bytes]:
    import tensorflow as tf

    compression = "GZIP" if paths[0].suffix == ".gz" else ""
    # One file after the other would give only the first ones' share of a large split.
    dataset = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    records = dataset.interleave(
        lambda path: tf.data.TFRecordDataset(path, compression), len(paths)
    ).take(most)
    return [
        tf.train.Example.FromString(record)
        .features.feature[features.IMAGE]
        .bytes_list.value[0]
        for record in records.as_numpy_iterator()
    ]


def live_tables(
    directory: str, most: int, model: str | None = None, version: int | None = None
) -> tuple[str, dict[int, dict[str, np.ndarray]]]:
    """The measured request log of one model; the newest requests count.

    How many records could not be used is said on stderr.

    Args:
        directory: The server's --request_log_dir.
        most: Images used of each version.
        model: May be left out if the log has only one.
        version: Of the model; None means all.

    Returns:
        The model's name; by version a column per number, and the answered classes.

    Raises:
        NothingToCompare: No such model, version or image; or several models.
        OSError: The log may not be read.
    """
    found, versions, unused = _collect(directory, model, version)
    chosen = _choose(directory, versions, model, version)
    if unused:
        records = "1 record" if len(unused) == 1 else f"{len(unused):,} records"
        sys.stderr.write(f"{records} could not be used: {unused[0]}\n")
    if not any(found.values()):
        raise NothingToCompare(
            f"{directory} holds no logged request with images and their classes."
        )
    tables = {}
    for number, pairs in found.items():
        if pairs:
            images, classes = zip(*pairs[-most:], strict=True)
            table = image_statistics.measure(np.stack(images))
            tables[number] = table | {CLASS: np.array(classes, object)}
    return chosen, tables


def _collect(
    directory: str, model: str | None, version: int | None
) -> tuple[dict[int, list[tuple[np.ndarray, str]]], dict[str, set[int]], list[str]]:
    """Reads the log once.

    Returns:
        By version the images of what is asked for, each with its class; the versions of
        all models that the log has; of each record that cannot be used, why.
    """
    found: dict[int, list[tuple[np.ndarray, str]]] = {}
    versions: dict[str, set[int]] = {}
    unused: list[str] = []
    for log in request_log.read(directory):
        if log.WhichOneof("log_type") is None:
            continue
        spec = log.log_metadata.model_spec
        number = spec.version.value
        versions.setdefault(spec.name, set()).add(number)
        if model is None and len(versions) > 1:
            continue  # `_choose` refuses them, but wants all their names
        if model not in (None, spec.name) or version not in (None, number):
            continue
        try:
            found.setdefault(number, []).extend(_answered_images(log))
        except Exception as problem:  # clients decide what a record holds
            unused.append(str(problem) or type(problem).__name__)
    return found, versions, unused


def _choose(
    directory: str,
    versions: Mapping[str, set[int]],
    model: str | None,
    version: int | None,
) -> str:
    """The model to compare; refuses what the log does not have."""
    names = _listed(sorted(versions))
    if model is None and len(versions) > 1:
        raise NothingToCompare(
            f"{directory} holds requests of {len(versions)} models, {names}: choose one "
            "with --model NAME."
        )
    if not versions:
        return ""  # an empty log, which has no images either
    chosen = next(iter(versions)) if model is None else model
    if chosen not in versions:
        raise NothingToCompare(
            f"{directory} holds no request of --model {chosen}, only of {names}."
        )
    if version is not None and version not in versions[chosen]:
        raise NothingToCompare(
            f"{directory} holds no request of {chosen}, --version {version}, only of "
            f"{_versions(versions[chosen])}."
        )
    return chosen


def _versions(numbers: Iterable[int]) -> str:
    words = [str(number) for number in sorted(numbers)]
    return f"{'version' if len(words) == 1 else 'versions'} {_listed(words)}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _answered_images(log: Any) -> list[tuple[np.ndarray, str]]:
    """Each image of a request, with the class that the answer gave it.

    A request of another kind has none.

    Raises:
        ValueError: The record is odd; the message says in what.
    """
    import tensorflow as tf

    kind = log.WhichOneof("log_type")
    images: list[np.ndarray | None] = []
    names: list[str] = []
    if kind == "predict_log":
        outputs = log.predict_log.response.outputs
        if features.CLASS_NAME not in outputs:
            return []
        classes = tf.make_ndarray(outputs[features.CLASS_NAME])
        if classes.dtype != object:
            raise ValueError(f"its {features.CLASS_NAME} is {classes.dtype}, not text")
        names = [name.decode(errors="replace") for name in classes.ravel()]
        for tensor in log.predict_log.request.inputs.values():
            images = [_image(value) for value in tf.make_ndarray(tensor)]
    elif kind == "classify_log":
        request = log.classify_log.request.input
        for example in request.example_list.examples:
            images.append(_image(example.SerializeToString()))
        for row in log.classify_log.response.result.classifications:
            if not row.classes:
                raise ValueError("a classification has no classes")
            names.append(max(row.classes, key=lambda c: c.score).label)
    if len(images) != len(names):
        return []
    pairs = zip(images, names, strict=True)
    return [(image, name) for image, name in pairs if image is not None]


def _image(value: Any) -> np.ndarray | None:
    """One input as uint8 [32, 32, 3]: pixels, a serialized tf.Example, PNG or JPEG.

    Raises:
        ValueError: It would take too much memory to decode.
    """
    import tensorflow as tf
    from PIL import Image, UnidentifiedImageError

    if isinstance(value, np.ndarray):
        fits = value.dtype == np.uint8 and value.shape == features.IMAGE_SHAPE
        return value if fits else None
    if not isinstance(value, bytes):
        return None
    if headers.pixels(value) > _MOST_PIXELS:  # before Pillow, which warns or raises
        raise ValueError(f"an image has more than {_MOST_PIXELS:,} pixels")
    try:
        with Image.open(io.BytesIO(value), formats=("PNG", "JPEG")) as picture:
            # Pillow believes the last of several headers, `headers` the first.
            if (picture.height, picture.width, 3) != features.IMAGE_SHAPE:
                return None
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        pass  # no picture; perhaps an example
    try:
        example = tf.train.Example.FromString(value)
    except Exception:  # protobuf's DecodeError, which has moved between its versions
        return None
    raw = example.features.feature[features.IMAGE].bytes_list.value
    if len(raw) != 1 or len(raw[0]) != features.IMAGE_BYTES:
        return None
    return np.frombuffer(raw[0], np.uint8).reshape(features.IMAGE_SHAPE)


def compare(
    training: Mapping[str, np.ndarray],
    live: Mapping[str, np.ndarray],
    most_divergence: float,
    most_class_change: float,
) -> list[invariants.Distance]:
    """The distance of every column."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    numbers, classes = schema_pb2.Schema(), schema_pb2.Schema()
    for name in WORDS:
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
    """The text that is printed; `named` is model and version."""
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


if __name__ == "__main__":
    sys.exit(main())
