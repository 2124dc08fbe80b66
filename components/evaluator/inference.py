"""Forward passes of exported models over the ingested images of one split.

In: SavedModels with the signature `serialized_examples`, TFRecords of tf.Examples. Out:
every model's probabilities on the same images in the same order. What a model does wrong
becomes a sentence in `Answers.problem`, not an exception: one broken contender must not
hide what the others can do.
"""

# TensorFlow's own annotations are partial: what pyright makes of them is noise.
# pyright: reportArgumentType=false, reportIndexIssue=false, reportReturnType=false

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from absl import logging

from components.evaluator.measures import (
    Answers,
    Images,
    class_name_problem,
    probabilities_problem,
)
from contract import features
from trainer.examples import records

_TIMED_CALLS = 21  # of one image each, the models taking turns
_UNTIMED_CALLS = 3


def load_split(
    files: Sequence[str], label_key: str, transform: tft.TFTransformOutput
) -> tuple[list[bytes], Images]:
    """Reads a split.

    Args:
        files: TFRecord files, see `trainer.examples.records`.
        label_key: Feature with the class.
        transform: Its graph says which band an image is in.

    Returns:
        The serialized tf.Examples as ingested, and what is known of them.

    Raises:
        ValueError: The split holds no images.
    """
    serialized = [record.numpy() for record in records(files)]
    if not serialized:
        raise ValueError(
            f"no images in {', '.join(files) or 'the split'}: nothing to measure"
        )
    parsed = tf.io.parse_example(
        serialized,
        {
            features.IMAGE: tf.io.FixedLenFeature([], tf.string),
            features.EXAMPLE_ID: tf.io.FixedLenFeature([], tf.string),
            label_key: tf.io.FixedLenFeature([], tf.int64),
        },
    )
    layer = transform.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def bands(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = layer({features.IMAGE: images[:, None]})
        return {name: outputs[name] for name in features.BANDS}

    chunks = [
        bands(parsed[features.IMAGE][start : start + 1000])
        for start in range(0, len(serialized), 1000)
    ]
    return serialized, Images(
        ids=parsed[features.EXAMPLE_ID].numpy(),
        labels=parsed[label_key].numpy(),
        bands={
            name: np.concatenate([chunk[name].numpy() for chunk in chunks])
            for name in features.BANDS
        },
    )


def run_all(
    models: Mapping[str, tuple[str, str]],
    serialized: Sequence[bytes],
    class_names: Sequence[str],
    *,
    batch_size: int,
) -> dict[str, Answers]:
    """Runs every model over all examples.

    Args:
        models: Role -> (name of the network, folder of the SavedModel).
        serialized: tf.Examples as ingested.
        class_names: In label order.
        batch_size: Images per call.
    """
    loaded: dict[str, Callable[[tf.Tensor], dict[str, tf.Tensor]]] = {}
    found: dict[str, Answers] = {}
    seconds = {}
    for role, (network, folder) in models.items():
        began = time.perf_counter()
        try:
            loaded[role] = _signature(folder)
            # The first call of a signature builds its plan, which no later call pays.
            loaded[role](tf.constant(serialized[:1]))
        except Exception as error:  # noqa: BLE001 - whatever it raises, it cannot be run
            found[role] = _failed(network, folder, error)
            loaded.pop(role, None)
        seconds[role] = time.perf_counter() - began
    for role, call in loaded.items():
        network, folder = models[role]
        try:
            found[role] = _run(network, call, serialized, class_names, batch_size)
        except Exception as error:  # noqa: BLE001
            found[role] = _failed(network, folder, error)
    sound = {role: call for role, call in loaded.items() if found[role].problem is None}
    latencies = _latencies(sound, serialized)
    return {
        role: dataclasses.replace(
            found[role],
            latency_ms=latencies.get(role),
            load_seconds=seconds[role],
        )
        for role in models
    }


def _signature(folder: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    model = tf.saved_model.load(folder)
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


def _run(
    network: str,
    call: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    serialized: Sequence[bytes],
    class_names: Sequence[str],
    batch_size: int,
) -> Answers:
    probabilities, names = [], []
    began = time.perf_counter()
    for start in range(0, len(serialized), batch_size):
        outputs = call(tf.constant(serialized[start : start + batch_size]))
        probabilities.append(outputs[features.PROBABILITIES].numpy())
        if features.CLASS_NAME in outputs:
            names.append(outputs[features.CLASS_NAME].numpy())
    seconds = time.perf_counter() - began
    found = np.concatenate(probabilities)
    problem = probabilities_problem(found, len(serialized), len(class_names))
    if problem is None and names:
        problem = class_name_problem(
            np.concatenate(names).tolist(), found.argmax(axis=1), class_names
        )
    return Answers(
        network=network,
        probabilities=found if problem is None else None,
        problem=problem,
        images_per_second=len(serialized) / seconds,
    )


def _latencies(
    calls: Mapping[str, Callable[[tf.Tensor], Any]], serialized: Sequence[bytes]
) -> dict[str, float]:
    """Median milliseconds of one image; in turns, so that other work slows all alike."""
    one = tf.constant(serialized[:1])
    found: dict[str, list[float]] = {role: [] for role in calls}
    for number in range(_UNTIMED_CALLS + _TIMED_CALLS):
        for role, call in calls.items():
            began = time.perf_counter()
            call(one)[features.PROBABILITIES].numpy()
            if number >= _UNTIMED_CALLS:
                found[role].append(1000 * (time.perf_counter() - began))
    return {role: statistics.median(times) for role, times in found.items()}


def _failed(network: str, folder: str, error: Exception) -> Answers:
    logging.warning("Model in %s cannot be run", folder, exc_info=error)
    text = str(error).strip() or type(error).__name__
    return Answers(
        network=network,
        probabilities=None,
        problem=f"it cannot be run: {text.splitlines()[0][:300]}",
    )
