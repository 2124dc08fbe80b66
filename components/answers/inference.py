"""Forward passes of one exported model over the ingested images of some splits.

In: a SavedModel with the signature `serialized_examples`, TFRecords of tf.Examples. Out:
its probabilities for every image. What a model does wrong becomes a sentence, not an
exception: one broken model must not hide what the others can do.
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
from contract.datasets import Dataset
from contract.predictions import Predictions
from trainer.examples import parse, records

Signature = Callable[[tf.Tensor], dict[str, tf.Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What a model gave; every split has either probabilities or a problem."""

    probabilities: Mapping[str, np.ndarray]  # split -> float32 [n, classes]
    problems: Mapping[str, str]  # split -> why nothing can be concluded, as a sentence
    images_per_second: float | None = None  # in batches
    load_seconds: float


def load_split(
    files: Sequence[str], label_key: str, transform: tft.TFTransformOutput
) -> tuple[list[bytes], Predictions]:
    """Reads a split.

    Args:
        files: TFRecord files, see `trainer.examples.records`.
        label_key: Feature with the class.
        transform: Its graph says which band an image is in.

    Returns:
        The serialized tf.Examples as ingested, and what is known of them; nothing is
        answered yet.

    Raises:
        ValueError: The split holds no images.
    """
    serialized = [record.numpy() for record in records(files)]
    if not serialized:
        raise ValueError(
            f"no images in {', '.join(files) or 'the split'}: nothing to measure"
        )
    parsed = parse(serialized, (features.IMAGE, features.EXAMPLE_ID, label_key))
    layer = transform.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def bands(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = layer({features.IMAGE: images[:, None]})
        return {name: outputs[name] for name in features.BANDS}

    chunks = [
        bands(parsed[features.IMAGE][start : start + 1000])
        for start in range(0, len(serialized), 1000)
    ]
    return serialized, Predictions(
        ids=parsed[features.EXAMPLE_ID].numpy(),
        labels=parsed[label_key].numpy(),
        bands={
            name: np.concatenate([chunk[name].numpy() for chunk in chunks])
            for name in features.BANDS
        },
        probabilities={},
    )


def ask(
    folder: str,
    splits: Mapping[str, Sequence[bytes]],
    dataset: Dataset,
    *,
    batch_size: int,
) -> Given:
    """Runs a model over all examples.

    Args:
        folder: Of the SavedModel.
        splits: tf.Examples as ingested, by split; none is empty.
        dataset: What they are: shape of the images, names of the classes.
        batch_size: Images per call.
    """
    began = time.perf_counter()
    try:
        call = _signature(folder, dataset.pixels)
        # The first call of a signature builds its plan, which no later call pays.
        call(tf.constant(next(iter(splits.values()))[:1]))
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
    for split, serialized in splits.items():
        try:
            found, problem = _run(call, serialized, dataset.class_names, batch_size)
        except Exception as error:  # noqa: BLE001
            problems[split] = _failed(folder, error)
            continue
        images += len(serialized)
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


def _signature(folder: str, pixels: tuple[int, int, int]) -> Signature:
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
    (name,) = call.structured_input_signature[1]

    def run(examples: tf.Tensor, model: Any = model) -> dict[str, tf.Tensor]:
        del model  # bound here because the signature alone does not keep it alive
        return call(**{name: examples})

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
    serialized: Sequence[bytes],
    class_names: Sequence[str],
    batch_size: int,
) -> tuple[np.ndarray, str | None]:
    """The probabilities, and why they are none."""
    probabilities, names = [], []
    for start in range(0, len(serialized), batch_size):
        outputs = call(tf.constant(serialized[start : start + batch_size]))
        probabilities.append(outputs[features.PROBABILITIES].numpy())
        if features.CLASS_NAME in outputs:
            names.append(outputs[features.CLASS_NAME].numpy())
    found = np.concatenate(probabilities)
    problem = probabilities_problem(found, len(serialized), len(class_names))
    if problem is None and names:
        problem = class_name_problem(
            np.concatenate(names).tolist(), found.argmax(axis=1), class_names
        )
    return found, problem


def _failed(folder: str, error: Exception) -> str:
    logging.warning("Model in %s cannot be run", folder, exc_info=error)
    text = str(error).strip() or type(error).__name__
    return f"it cannot be run: {text.splitlines()[0][:300]}"
