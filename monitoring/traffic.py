"""What a server was asked and what it answered, as numbers: from its request log.

In: a folder of serving/server/request_log.py, with all models of a server and all their
versions. Out: of one model, by version, the numbers that describe each image
(components/drift/image_statistics.py) and the class that the answer gave it. Clients decide
what a record holds: one that cannot be used is skipped and counted, whatever is wrong
with it.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from components.drift import image_statistics
from contract import features
from contract.sentences import enumeration
from monitoring import NothingToCompare
from monitoring.statistics import CLASS
from serving.server import images as headers
from serving.server import request_log

# Larger encoded images are not decoded: no model takes them unchanged.
_MOST_PIXELS = 1 << 20

Shape = tuple[int, int, int]  # height, width, channels


def live_tables(
    directory: str,
    most: int,
    shape_of: Callable[[str, int], Shape | None],
    model: str | None = None,
    version: int | None = None,
) -> tuple[str, dict[int, dict[str, np.ndarray]]]:
    """The measured request log of one model; the newest requests count.

    How many records could not be used is said on stderr.

    Args:
        directory: The server's --request_log_dir.
        most: Images used of each version.
        shape_of: What a model's version takes; None: it is not known, and its requests are
            passed over.
        model: May be left out if the log has only one.
        version: Of the model; None means all.

    Returns:
        The model's name; by version a column per number, and the answered classes.

    Raises:
        NothingToCompare: No such model, version or image; or several models.
        OSError: The log may not be read.
    """
    shapes: dict[int, Shape | None] = {}
    found, versions, unused = _collect(directory, shape_of, shapes, model, version)
    chosen = _choose(directory, versions, model, version)
    if unused:
        records = "1 record" if len(unused) == 1 else f"{len(unused):,} records"
        sys.stderr.write(f"{records} could not be used: {unused[0]}\n")
    if not any(found.values()) and None not in shapes.values():
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
    directory: str,
    shape_of: Callable[[str, int], Shape | None],
    shapes: dict[int, Shape | None],
    model: str | None,
    version: int | None,
) -> tuple[dict[int, list[tuple[np.ndarray, str]]], dict[str, set[int]], list[str]]:
    """Reads the log once; `shapes` gets what `shape_of` says of each version.

    Returns:
        By version, of those with a shape, the images of what is asked for, each with its
        class; the versions of all models that the log has; of each record that cannot be
        used, why.
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
        if number not in shapes:
            shapes[number] = shape_of(spec.name, number)
        shape = shapes[number]
        if shape is None:
            continue
        try:
            found.setdefault(number, []).extend(_answered_images(log, shape))
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
    names = enumeration(sorted(versions))
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
    return f"{'version' if len(words) == 1 else 'versions'} {enumeration(words)}"


def _answered_images(log: Any, shape: Shape) -> list[tuple[np.ndarray, str]]:
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
            images = [_image(value, shape) for value in tf.make_ndarray(tensor)]
    elif kind == "classify_log":
        request = log.classify_log.request.input
        for example in request.example_list.examples:
            images.append(_image(example.SerializeToString(), shape))
        for row in log.classify_log.response.result.classifications:
            if not row.classes:
                raise ValueError("a classification has no classes")
            names.append(max(row.classes, key=lambda c: c.score).label)
    if len(images) != len(names):
        return []
    pairs = zip(images, names, strict=True)
    return [(image, name) for image, name in pairs if image is not None]


def _image(value: Any, shape: Shape) -> np.ndarray | None:
    """One input as uint8, of `shape`: pixels, a serialized tf.Example, PNG or JPEG.

    Raises:
        ValueError: It would take too much memory to decode.
    """
    import tensorflow as tf
    from PIL import Image, UnidentifiedImageError

    if isinstance(value, np.ndarray):
        fits = value.dtype == np.uint8 and value.shape == shape
        return value if fits else None
    if not isinstance(value, bytes):
        return None
    if headers.pixels(value) > _MOST_PIXELS:  # before Pillow, which warns or raises
        raise ValueError(f"an image has more than {_MOST_PIXELS:,} pixels")
    try:
        with Image.open(io.BytesIO(value), formats=("PNG", "JPEG")) as picture:
            # Pillow believes the last of several headers, `headers` the first.
            if (picture.height, picture.width) != shape[:2]:
                return None
            # As the signature reads it: in colour, and of a grey model its luminance.
            picture = picture.convert("RGB")
            if shape[2] == 1:
                picture = picture.convert("L")
            return np.asarray(picture).reshape(shape)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        pass  # no picture; perhaps an example
    try:
        example = tf.train.Example.FromString(value)
    except Exception:  # protobuf's DecodeError, which has moved between its versions
        return None
    raw = example.features.feature[features.IMAGE].bytes_list.value
    if len(raw) != 1 or len(raw[0]) != math.prod(shape):
        return None
    return np.frombuffer(raw[0], np.uint8).reshape(shape)
