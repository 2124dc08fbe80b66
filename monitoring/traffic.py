"""What a server was asked and what it answered, as numbers: from its request log.

In: folders of serving/server/request_log.py, or files of PredictionLog that TensorFlow
Serving's own logger wrote, with all models of a server and all their versions. Out: one
`Answer` per image, in order of arrival; and their columns, by which windows are compared.
Clients decide what a record holds: one that cannot be used is skipped and counted, whatever
is wrong with it.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.drift import baseline
from contract import features
from monitoring import NothingToCompare
from monitoring.comparison import CLASSES, CONFIDENCE, PROBABILITIES
from serving.server import images as headers
from serving.server import request_log

# Larger encoded images are not decoded: no model takes them unchanged.
_MOST_PIXELS = 1 << 20
_LONGEST_ID = 256  # bytes of a tf.Example's example_id

Shape = tuple[int | None, int | None, int]  # height, width, channels


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """One image that one version was asked about."""

    version: int
    seconds: int  # Unix time
    id: str  # "" where the log holds no inputs
    name: str  # class that was answered
    confidence: float  # its probability; NaN: the log does not say
    probabilities: np.ndarray | None = None  # float [classes], in label order
    image: np.ndarray | None  # uint8 [height, width, channels]; None: not logged


@dataclass
class Log:
    """Request logs that are read on, each call from where the one before ended.

    Args:
        places: Folders and files.
        shape_of: Of a model's version, what its images are; None: it is not known, and its
            requests are passed over.
        model: May be left out if the logs have only one.
        version: Of the model; None: all.
    """

    places: Sequence[str]
    shape_of: Callable[[str, int], Shape | None]
    model: str | None = None
    version: int | None = None
    unused: list[str] = field(default_factory=list)  # of odd records, why
    # Of all models that were met, the versions.
    versions: dict[str, set[int]] = field(default_factory=dict)
    _read: dict[Path, int] = field(default_factory=dict)  # file -> records
    _shapes: dict[int, Shape | None] = field(default_factory=dict)

    def new(self) -> Iterator[Answer]:
        """The answers that were logged since the last call.

        Raises:
            NothingToCompare: There is no such log, or it has several models.
            OSError: It may not be read.
        """
        for path in self._files():
            for log in request_log.read_file(path, self._read.get(path, 0)):
                self._read[path] = self._read.get(path, 0) + 1
                yield from self._answers(log)

    def _files(self) -> list[Path]:
        found = []
        for place in map(Path, self.places):
            if place.is_dir():
                found += request_log.files(place)
            elif place.is_file():
                found.append(place)
            else:
                raise NothingToCompare(f"{place}: there is no such request log.")
        # What rotation has removed is not kept in mind.
        self._read = {path: n for path, n in self._read.items() if path in found}
        return found

    def _answers(self, log: Any) -> Sequence[Answer]:
        if log.WhichOneof("log_type") is None:
            return ()
        spec = log.log_metadata.model_spec
        number = spec.version.value
        self.versions.setdefault(spec.name, set()).add(number)
        if self.model is None and len(self.versions) > 1:
            names = " and ".join(sorted(self.versions))
            raise NothingToCompare(
                f"{', '.join(self.places)}: requests of several models, {names}: choose "
                "one with --model NAME."
            )
        if self.model not in (None, spec.name) or self.version not in (None, number):
            return ()
        if number not in self._shapes:
            self._shapes[number] = self.shape_of(spec.name, number)
        shape = self._shapes[number]
        if shape is None:
            return ()
        try:
            return _answers(log, shape)
        except Exception as problem:  # clients decide what a record holds
            self.unused.append(str(problem) or type(problem).__name__)
            return ()


def columns(answers: Sequence[Answer]) -> dict[str, np.ndarray]:
    """What a window is compared by; see monitoring.comparison.compare."""
    found: dict[str, np.ndarray] = {
        CLASSES: np.array([each.name for each in answers], object),
        CONFIDENCE: np.array([each.confidence for each in answers], np.float64),
    }
    given = [a.probabilities for a in answers if a.probabilities is not None]
    if given and len({len(each) for each in given}) == 1:
        found[PROBABILITIES] = np.stack(given).astype(np.float64)
    there = [n for n, each in enumerate(answers) if each.image is not None]
    images = [answers[n].image for n in there]
    if len({image.shape for image in images if image is not None}) == 1:
        measured = baseline.measure(np.stack(images))  # type: ignore[arg-type]
    elif images:
        measured = baseline.measure_each(images)  # type: ignore[arg-type]
    else:
        measured = {}
    for name, numbers in measured.items():
        found[name] = np.full(len(answers), np.nan)
        found[name][there] = numbers
    return found


def _answers(log: Any, shape: Shape) -> list[Answer]:
    """Of one record; a request of another kind has none.

    Raises:
        ValueError: The record is odd; the message says in what.
    """
    import tensorflow as tf

    kind = log.WhichOneof("log_type")
    sent: list[Any] = []
    names: list[str] = []
    confidence: list[float] = []
    given: Any = None
    if kind == "predict_log":
        outputs = log.predict_log.response.outputs
        if features.CLASS_NAME not in outputs:
            return []
        classes = tf.make_ndarray(outputs[features.CLASS_NAME])
        if classes.dtype != object:
            raise ValueError(f"its {features.CLASS_NAME} is {classes.dtype}, not text")
        names = [name.decode(errors="replace") for name in classes.ravel()]
        if features.PROBABILITIES in outputs:
            given = tf.make_ndarray(outputs[features.PROBABILITIES])
            if given.ndim != 2 or len(given) != len(names):
                raise ValueError(f"its {features.PROBABILITIES} do not fit its classes")
            if not np.isfinite(given).all():
                raise ValueError(f"its {features.PROBABILITIES} are not finite")
            confidence = [float(row.max()) for row in given]
        for tensor in log.predict_log.request.inputs.values():
            sent = list(tf.make_ndarray(tensor))
    elif kind == "classify_log":
        request = log.classify_log.request.input
        sent = [each.SerializeToString() for each in request.example_list.examples]
        for row in log.classify_log.response.result.classifications:
            if not row.classes:
                raise ValueError("a classification has no classes")
            best = max(row.classes, key=lambda each: each.score)
            names.append(best.label)
            confidence.append(best.score)
    if sent and len(sent) != len(names):
        return []
    found = []
    for number, name in enumerate(names):
        key, image = _image(sent[number], shape) if sent else ("", None)
        if sent and image is None:
            continue
        found.append(
            Answer(
                version=log.log_metadata.model_spec.version.value,
                seconds=log.log_metadata.timestamp_secs,
                id=key,
                name=name,
                confidence=min(confidence[number], 1.0) if confidence else math.nan,
                probabilities=None if given is None else given[number],
                image=image,
            )
        )
    return found


def _image(value: Any, shape: Shape) -> tuple[str, np.ndarray | None]:
    """Id and pixels (uint8) of one input: an array, a serialized tf.Example, PNG or JPEG.

    Raises:
        ValueError: It would take too much memory to decode.
    """
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or not _fits(value.shape, shape):
            return "", None
        return _digest(value.tobytes()), value
    if not isinstance(value, bytes):
        return "", None
    picture = _picture(value, shape)
    if picture is not None:
        return _digest(value), picture
    return _example(value, shape)


def _example(value: bytes, shape: Shape) -> tuple[str, np.ndarray | None]:
    import tensorflow as tf

    try:
        example = tf.train.Example.FromString(value)
    except Exception:  # protobuf's DecodeError, which has moved between its versions
        return "", None
    named = example.features.feature
    raw = list(named[features.IMAGE].bytes_list.value)
    if len(raw) != 1:
        return "", None
    own = list(named[features.EXAMPLE_ID].bytes_list.value)
    # An id as long as clients like would be kept as long as its label may come.
    named_well = len(own) == 1 and 0 < len(own[0]) <= _LONGEST_ID
    key = own[0].decode(errors="replace") if named_well else _digest(raw[0])
    height, width, channels = shape
    if height is None or width is None:
        return key, _picture(raw[0], shape)
    if len(raw[0]) != height * width * channels:
        return "", None
    return key, np.frombuffer(raw[0], np.uint8).reshape(height, width, channels)


def _picture(value: bytes, shape: Shape) -> np.ndarray | None:
    from PIL import Image, UnidentifiedImageError

    if headers.pixels(value) > _MOST_PIXELS:  # before Pillow, which warns or raises
        raise ValueError(f"an image has more than {_MOST_PIXELS:,} pixels")
    try:
        with Image.open(io.BytesIO(value), formats=("PNG", "JPEG")) as picture:
            size = (picture.height, picture.width, shape[2])
            # Pillow believes the last of several headers, `headers` the first.
            if not _fits(size, shape) or math.prod(size[:2]) > _MOST_PIXELS:
                return None
            # As the signature reads it: in colour, and of a grey model its luminance.
            picture = picture.convert("RGB")
            if shape[2] == 1:
                picture = picture.convert("L")
            return np.asarray(picture).reshape(size)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None  # perhaps an example


def _fits(size: tuple[int, ...], shape: Shape) -> bool:
    if len(size) != 3 or min(size) < 1:
        return False
    return all(want in (None, have) for have, want in zip(size, shape, strict=True))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
