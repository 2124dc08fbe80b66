"""The items of a plan through Beam: each is read, answered, and written part by part."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from PIL import Image

from components.batch_predict import plan as plans
from components.batch_predict.plan import Item, Plan
from contract import features
from contract.model_run import ModelRun
from contract.records import MODEL_RUN_FILE
from serving.client import images, pictures
from serving.client.errors import InvalidInput
from trainer.examples import parse, records

# Images per call of the model, half a part: while it works, the next ones are read.
BATCH = 250
_READERS = 8  # image files read at once: of a bucket, each is a request
_CALLS = 2  # of the model at once: one leaves cores idle between its operations


def predict(plan: Plan, make_pipeline: Callable[[], beam.Pipeline]) -> None:
    """Answers everything that is missing.

    Args:
        plan: The workers see its folders: of a cluster, they lie in a bucket.
        make_pipeline: With the options of the runner that carries it out.
    """
    there = plans.done(plan)
    missing = [item for item in plan.items if item.number not in there.whole]
    if not missing:
        return
    # Parts of an item that was stopped in the middle are kept.
    kept = {
        item.number: frozenset(part for number, part in there.parts if number == item.number)
        for item in missing
    }  # fmt: skip
    # What each worker is given once; the names come with the items.
    shared = replace(plan, found=replace(plan.found, names=()))
    with make_pipeline() as pipeline:
        _ = (
            pipeline
            | "Items" >> beam.Create([(item, kept[item.number]) for item in missing])
            # Else one worker would get all that was created here.
            | "Spread" >> beam.Reshuffle()
            | "Answer" >> beam.ParDo(Answer(shared))
        )


class Answer(beam.DoFn):
    """Answers items; the model is loaded once per worker."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ask: Any = None
        self._shape: images.Shape | None = None
        self._readers: Any = None
        self._callers: Any = None

    def setup(self) -> None:
        """Loads the model."""
        self._ask = load(self._plan.model.path, records=self._plan.found.records)
        self._shape = shape_of(self._plan.model.path)
        self._readers = ThreadPoolExecutor(_READERS)
        self._callers = ThreadPoolExecutor(_CALLS)

    def teardown(self) -> None:
        """Ends the threads."""
        self._readers.shutdown()
        self._callers.shutdown()

    def process(self, element: tuple[Item, frozenset[int]]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes the files of an item's parts, but for those that are there."""
        item, kept = element
        source = self._records(item) if item.records else self._images(item)
        for part, (rows, last) in enumerate(_with_last(source)):
            if part in kept and not last:
                continue
            lines = [
                json.dumps(name | answer | {"version": self._plan.model.version})
                for name, answer in self._answered(rows)
            ]
            plans.write_whole(self._plan.file(item.number, part, last=last), lines)

    def _images(self, item: Item) -> Iterator[list[Any]]:
        """One part: names, and a promise of each file's content."""
        yield [
            ({"image": name}, self._readers.submit(self._read, name))
            for name in item.names
        ]

    def _records(self, item: Item) -> Iterator[list[Any]]:
        """The tf.Examples of a file, part by part, named by their ids where they have one."""
        (name,) = item.names
        path = os.path.join(self._plan.found.folder, name)
        place = 0
        for batch in records([path]).batch(plans.PART_IMAGES).prefetch(1):
            serialized = batch.numpy()
            names = ids(serialized)
            yield [
                ({"file": name, "record": place + i} | names[i], content)
                for i, content in enumerate(serialized)
            ]
            place += len(serialized)

    def _answered(self, rows: Sequence[Any]) -> Iterator[tuple[dict, dict]]:
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        found = self._callers.map(self._answers_to, batches)
        for batch, answered in zip(batches, found, strict=True):
            for (name, _), answer in zip(batch, answered, strict=True):
                yield name, answer

    def _answers_to(self, batch: Sequence[Any]) -> Iterable[dict[str, Any]]:
        return self._answers([_content(each) for _, each in batch])

    def _answers(self, contents: Sequence[Any]) -> Iterable[dict[str, Any]]:
        problem = next((each for each in contents if isinstance(each, Exception)), None)
        if problem is None:
            try:
                return answers(self._ask(contents))
            except tf.errors.InvalidArgumentError as error:
                problem = error
        if len(contents) == 1:
            return [{"problem": " ".join(str(problem).split())[:300]}]
        # One of them cannot be read: halves tell which in a few calls.
        middle = len(contents) // 2
        return [*self._answers(contents[:middle]), *self._answers(contents[middle:])]

    def _read(self, name: str) -> bytes | Exception:
        path = os.path.join(self._plan.found.folder, name)
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                content = file.read()
            return encoded(content, self._shape) if self._shape else content
        except (OSError, tf.errors.OpError, InvalidInput) as error:
            return error


def shape_of(folder: str) -> images.Shape | None:
    """Height, width and channels that a pushed model takes; None: it does not say so."""
    path = os.path.join(folder, MODEL_RUN_FILE)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        run = ModelRun.read(file, path)
    if run.image_shape is None or not run.encoded:
        return run.image_shape
    return images.Crop(*run.image_shape)


def encoded(content: bytes, shape: images.Shape) -> bytes:
    """Any picture as a file that the model takes, by the client's rule.

    Finished PNG and JPEG files of its size stay as they are.

    Args:
        content: Of a file.
        shape: Of the model's images.

    Raises:
        InvalidInput: It is no picture, or a damaged one.
    """
    found = images.load(content, shape, resize=True)
    if isinstance(found, bytes):
        return found
    return pictures.png(Image.fromarray(found if shape[-1] == 3 else found[..., 0]))


def load(folder: str, *, records: bool) -> Any:
    """The pushed model as a function: encoded images, or tf.Examples -> signature's outputs.

    Args:
        folder: Of the SavedModel.
        records: Whether it is asked about tf.Examples.
    """
    model = tf.saved_model.load(folder)
    name = features.SIGNATURE_EXAMPLES if records else features.SIGNATURE_ENCODED
    signature = model.signatures[name]
    (key,) = signature.structured_input_signature[1]

    def ask(contents: Sequence[bytes], model: Any = model) -> Any:
        del model  # bound here because the signature alone does not keep it alive
        return signature(**{key: tf.constant(contents, tf.string)})

    return ask


def answers(outputs: Any) -> list[dict[str, Any]]:
    """A signature's outputs as rows for JSON."""
    best = outputs[features.PROBABILITIES].numpy().max(axis=1)
    return [
        {"class": name.decode(), "label": int(label), "probability": float(p)}
        for name, label, p in zip(
            outputs[features.CLASS_NAME].numpy(),
            outputs[features.PREDICTED_LABEL].numpy(),
            best,
            strict=True,
        )
    ]


def ids(serialized: np.ndarray) -> list[dict[str, str]]:
    """The ids of tf.Examples as ingested; of others none."""
    try:
        found = parse(serialized, [features.EXAMPLE_ID])[features.EXAMPLE_ID].numpy()
    except tf.errors.InvalidArgumentError:
        return [{} for _ in serialized]
    return [{"id": each.decode(errors="replace")} for each in found]


def _content(each: Any) -> Any:
    return each.result() if hasattr(each, "result") else each


def _with_last(parts: Iterable[list[Any]]) -> Iterator[tuple[list[Any], bool]]:
    """Each part, and whether it is the last; of nothing an empty one."""
    before: list[Any] | None = None
    for part in parts:
        if before is not None:
            yield before, False
        before = part
    yield before or [], True
