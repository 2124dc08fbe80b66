"""Forward passes of one exported model over the ingested images of some splits.

In: a SavedModel with the signature `serialized_examples`, TFRecords of tf.Examples, of
which a batch is in memory. Out: its probabilities for every image. What a model does wrong
becomes a sentence, not an exception: one broken model must not hide what the others can do.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportReturnType=false

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from absl import logging

from components.answers.soundness import class_name_problem, probabilities_problem
from contract import features
from contract.crops import SEVERAL_SIDES
from contract.datasets import Dataset
from contract.predictions import Predictions
from trainer.crops import several, shorter_sides
from trainer.examples import batches, parse, records

_SIZE = "size"
Signature = Callable[[tf.Tensor], dict[str, tf.Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What a model gave; every split has either probabilities or a problem."""

    probabilities: Mapping[str, np.ndarray]  # split -> float32 [n, classes]
    problems: Mapping[str, str]  # split -> why nothing can be concluded, as a sentence
    images_per_second: float | None = None  # in batches
    load_seconds: float


def describe(
    files: Sequence[str],
    dataset: Dataset,
    transform: tft.TFTransformOutput,
    *,
    part: int,
) -> Predictions:
    """Reads a split, part by part.

    Args:
        files: TFRecord files, see `trainer.examples.records`.
        dataset: Which feature has the class; whether images are files.
        transform: Its graph says which band an image is in.
        part: Images at a time.

    Returns:
        What is known of the images; nothing is answered yet.

    Raises:
        ValueError: The split holds no images.
    """
    layer = transform.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def bands(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = layer({features.IMAGE: images[:, None]})
        found = {name: outputs[name] for name in features.BANDS}
        if dataset.crop is not None:
            found[_SIZE] = shorter_sides(images)
        return found

    columns: dict[str, list[np.ndarray]] = {}
    kept = (features.EXAMPLE_ID, dataset.label_key)
    for parsed in batches(files, (features.IMAGE, *kept), most=part):
        found = {name: parsed[name] for name in kept} | bands(parsed[features.IMAGE])
        for name, values in found.items():
            columns.setdefault(name, []).append(values.numpy())
    if not columns:
        raise ValueError(
            f"no images in {', '.join(files) or 'the split'}: nothing to measure"
        )
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    return Predictions(
        ids=joined[features.EXAMPLE_ID],
        labels=joined[dataset.label_key],
        bands={name: joined[name] for name in features.BANDS},
        probabilities={},
        sizes=joined.get(_SIZE),
    )


def ask(
    folder: str,
    splits: Mapping[str, Sequence[str]],
    dataset: Dataset,
    *,
    batch_size: int,
    crops: str = "center",
) -> Given:
    """Runs a model over all examples.

    Args:
        folder: Of the SavedModel.
        splits: TFRecord files, by split; none is without images.
        dataset: What they are: shape of the images, names of the classes.
        batch_size: Images, or crops of them, per call.
        crops: Key of contract.crops.SEVERAL_SIDES, or "center".
    """
    sides = SEVERAL_SIDES.get(crops) if dataset.crop is not None else None
    if sides:
        batch_size = max(1, batch_size // (10 * len(sides)))
    began = time.perf_counter()
    try:
        model = _model(folder, dataset.pixels)
        call = (
            _averaged(model, dataset.pixels[0], sides) if sides else _signature(model)
        )
        # The first call of a signature builds its plan, which no later call pays.
        call(next(iter(records(next(iter(splits.values()))).batch(1))))
    except Exception as error:  # noqa: BLE001 - whatever it raises, it cannot be run
        return Given(
            probabilities={},
            problems=dict.fromkeys(splits, _failed(folder, error)),
            load_seconds=time.perf_counter() - began,
        )
    load_seconds = time.perf_counter() - began
    probabilities: dict[str, np.ndarray] = {}
    problems: dict[str, str] = {}
    images = 0
    began = time.perf_counter()
    for split, files in splits.items():
        try:
            found, problem = _run(call, files, dataset.class_names, batch_size)
        except Exception as error:  # noqa: BLE001
            problems[split] = _failed(folder, error)
            continue
        images += len(found)
        if problem is None:
            probabilities[split] = found
        else:
            problems[split] = problem
    return Given(
        probabilities=probabilities,
        problems=problems,
        images_per_second=images / (time.perf_counter() - began) if images else None,
        load_seconds=load_seconds,
    )


def _model(folder: str, pixels: tuple[int, int, int]) -> Any:
    """The SavedModel, which answers tf.Examples of such images.

    Raises:
        ValueError: It does not.
    """
    model = tf.saved_model.load(folder)
    taken = _images_taken(model)
    if taken is not None and not taken.is_compatible_with(pixels):
        height, width, channels = taken
        raise ValueError(
            f"it takes images of {height} x {width} x {channels}, and the data's are "
            f"{' x '.join(map(str, pixels))}"
        )
    if features.SIGNATURE_EXAMPLES not in model.signatures:
        raise ValueError(
            f"it has no signature {features.SIGNATURE_EXAMPLES}, only "
            f"{', '.join(model.signatures) or 'none'}"
        )
    call = model.signatures[features.SIGNATURE_EXAMPLES]
    if features.PROBABILITIES not in call.structured_outputs:
        raise ValueError(
            f"its signature {features.SIGNATURE_EXAMPLES} gives no "
            f"{features.PROBABILITIES}, only {', '.join(call.structured_outputs)}"
        )
    return model


def _signature(model: Any) -> Signature:
    """A model's answers to tf.Examples."""
    call = model.signatures[features.SIGNATURE_EXAMPLES]
    (name,) = call.structured_input_signature[1]

    def run(examples: tf.Tensor, model: Any = model) -> dict[str, tf.Tensor]:
        del model  # bound here because the signature alone does not keep it alive
        return call(**{name: examples})

    return run


def _averaged(model: Any, crop: int, sides: Sequence[int]) -> Signature:
    """A model's probabilities for several crops of each picture, averaged."""
    call = model.signatures[features.SIGNATURE_IMAGES]
    (name,) = call.structured_input_signature[1]
    squares = 10 * len(sides)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def images_of(examples: tf.Tensor) -> tf.Tensor:
        files = parse(examples, [features.IMAGE])[features.IMAGE]
        return tf.reshape(several(files, crop, sides), [-1, crop, crop, 3])

    def run(examples: tf.Tensor, model: Any = model) -> dict[str, tf.Tensor]:
        del model  # bound here because the signature alone does not keep it alive
        found = call(**{name: images_of(examples)})[features.PROBABILITIES]
        shape = [-1, squares, found.shape[-1]]
        return {features.PROBABILITIES: tf.reduce_mean(tf.reshape(found, shape), 1)}

    return run


def _images_taken(model: Any) -> tf.TensorShape | None:
    """Height, width and channels, where the model's own signature tells them."""
    if features.SIGNATURE_IMAGES not in model.signatures:
        return None
    inputs = model.signatures[features.SIGNATURE_IMAGES].structured_input_signature[1]
    shapes = [spec.shape for spec in inputs.values()]
    return shapes[0][1:] if len(shapes) == 1 and shapes[0].rank == 4 else None


def _run(
    call: Signature,
    files: Sequence[str],
    class_names: Sequence[str],
    batch_size: int,
) -> tuple[np.ndarray, str | None]:
    """The probabilities, and why they are none."""
    probabilities, names, count = [], [], 0
    for serialized in records(files).batch(batch_size):
        outputs = call(serialized)
        count += len(serialized)
        probabilities.append(outputs[features.PROBABILITIES].numpy())
        if features.CLASS_NAME in outputs:
            names.append(outputs[features.CLASS_NAME].numpy())
    found = np.concatenate(probabilities)
    problem = probabilities_problem(found, count, len(class_names))
    if problem is None and names:
        problem = class_name_problem(
            np.concatenate(names).tolist(), found.argmax(axis=1), class_names
        )
    return found, problem


def _failed(folder: str, error: Exception) -> str:
    logging.warning("Model in %s cannot be run", folder, exc_info=error)
    text = str(error).strip() or type(error).__name__
    return f"it cannot be run: {text.splitlines()[0][:300]}"
