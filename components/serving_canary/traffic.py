"""Requests of the canary: each signature asked over gRPC for the expected images.

Predict goes through serving.client, which users have too; Classify, which it does not
offer, as tensorflow_serving/apis/prediction_service.proto has it. In: uint8 images. Out:
answers, or the error in words.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from absl import logging
from PIL import Image

from components.serving_canary import judgement, server
from components.serving_canary.judgement import Answer
from contract import features
from contract.config.canary import CanaryConfig
from contract.crops import framed
from serving.client.classifier import Classifier
from serving.client.errors import ServingError
from serving.client.options import Retry, Timeouts

_CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
_STATUS_SECONDS = 2.0
# A request may take so many times its p99 budget, and at least so many seconds: it is
# not patience that refuses a model, but its times.
_PATIENCE, _LEAST_SECONDS = 10, 10.0
_UNTIMED_ROUNDS, _TIMED_ROUNDS = 3, 21  # of requests with one image, in turns


class _Unexpected(Exception):
    """An answer without what the signature promises."""


def is_available(address: str) -> bool:
    """Whether the server says that the model can be used."""
    # A client each time: a channel that failed once waits before it tries again.
    timeouts = Timeouts(request=_STATUS_SECONDS, connect=_STATUS_SECONDS)
    try:
        with _classifier(address, timeouts) as client:
            return any(version.state == "AVAILABLE" for version in client.status())
    except ServingError:
        return False


class Caller:
    """A connection to the server, for one thread."""

    def __init__(self, address: str, config: CanaryConfig, *, files: bool = False):
        """Connects.

        Args:
            address: Of the server.
            config: Limits of a request's time.
            files: Whether the model was trained on files, out of which it cuts images.
        """
        self._address, self._files = address, files
        self._seconds = max(_LEAST_SECONDS, _PATIENCE * config.max_p99_ms / 1000)
        self._seconds_per_image = config.max_p99_ms / 1000
        self._client = _classifier(address, Timeouts(request=self._seconds))

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, signature: str, images: np.ndarray) -> Answer | str:
        """Asks one signature for all images, uint8 [n, height, ...], in one request.

        Returns:
            The answer, or the error in words.
        """
        seconds = max(self._seconds, len(images) * self._seconds_per_image)
        try:
            if signature == features.SIGNATURE_CLASSIFY:
                return self._classify(images, seconds)
            name, encode = _INPUTS[signature]
            outputs = self._client.predict(
                {name: encode(images, self._files)},
                signature_name=signature,
                deadline_seconds=seconds,
            )
            return _predicted(outputs, len(images))
        except ServingError as error:
            return f"{error.code}: {error}"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        except _Unexpected as error:
            return str(error)

    def _classify(self, images: np.ndarray, seconds: float) -> Answer:
        # These messages load TensorFlow: here, so that importing this file does not.
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = server.MODEL_NAME
        request.model_spec.signature_name = features.SIGNATURE_CLASSIFY
        request.input.example_list.examples.extend(_examples(images, self._files))
        with grpc.insecure_channel(self._address) as channel:
            call = channel.unary_unary(
                _CLASSIFY,
                request_serializer=type(request).SerializeToString,
                response_deserializer=(
                    classification_pb2.ClassificationResponse.FromString
                ),
            )
            results = call(request, timeout=seconds).result.classifications
        if len(results) != len(images) or len({len(r.classes) for r in results}) != 1:
            raise _Unexpected(
                f"it answers {len(images)} images with {len(results)} lists of classes"
            )
        return Answer(
            rows=range(len(images)),
            probabilities=np.array(
                [[each.score for each in result.classes] for result in results],
                np.float32,
            ),
            all_class_names=tuple(
                tuple(each.label for each in result.classes) for result in results
            ),
        )


def in_turns(
    addresses: Mapping[str, str], images: np.ndarray, config: CanaryConfig
) -> dict[str, float]:
    """Median milliseconds of a request with one image, of several models.

    They take turns, so that other work on the machine slows all alike.

    Args:
        addresses: Of their servers, by name.
        images: uint8 [n, height, width, channels].
        config: Limits of a request's time.

    Returns:
        By name; a model that does not answer is left out.
    """
    found: dict[str, list[float]] = {name: [] for name in addresses}
    with contextlib.ExitStack() as stack:
        callers = {
            name: stack.enter_context(Caller(address, config))
            for name, address in addresses.items()
        }
        for number in range(_UNTIMED_ROUNDS + _TIMED_ROUNDS):
            image = images[number % len(images)][None]
            for name, caller in [*callers.items()]:
                began = time.perf_counter()
                answer = caller.ask(features.SIGNATURE_IMAGES, image)
                milliseconds = (time.perf_counter() - began) * 1000
                if isinstance(answer, str):
                    logging.warning("Times of %s are not known: %s", name, answer)
                    del callers[name], found[name]
                elif number >= _UNTIMED_ROUNDS:
                    found[name].append(milliseconds)
    return {name: statistics.median(times) for name, times in found.items()}


def single_requests(
    caller: Caller, images: np.ndarray, config: CanaryConfig
) -> tuple[Answer | None, tuple[float, ...], str | None]:
    """Times requests with one image, one after the other.

    Stops once the budgets are missed whatever follows, so that a slow model does not
    take all of its time.

    Returns:
        The answers to them as one, the times in ms, and what went wrong in words.
    """
    rows: list[int] = []
    latencies: list[float] = []
    answers: list[Answer] = []
    for index in range(config.requests):
        row = index % len(images)
        began = time.perf_counter()
        answer = caller.ask(features.SIGNATURE_IMAGES, images[row : row + 1])
        milliseconds = (time.perf_counter() - began) * 1000
        if isinstance(answer, str):
            failure = f"request {index + 1} with one image fails: {answer}"
            return None, tuple(latencies), failure
        rows.append(row)
        latencies.append(milliseconds)
        answers.append(answer)
        if judgement.beyond_doubt(latencies, config):
            break
    shapes = {answer.probabilities.shape for answer in answers}
    if len(shapes) > 1:
        failure = f"requests with one image are answered in several shapes: {shapes}"
        return None, tuple(latencies), failure
    return _joined(rows, answers), tuple(latencies), None


def _joined(rows: Sequence[int], answers: Sequence[Answer]) -> Answer:
    return Answer(
        rows=rows,
        probabilities=np.concatenate([each.probabilities for each in answers]),
        labels=np.concatenate(
            [each.labels for each in answers if each.labels is not None]
        ),
        class_names=tuple(name for each in answers for name in each.class_names or ()),
    )


def _classifier(address: str, timeouts: Timeouts) -> Classifier:
    # No retries: a server that answers only at the second attempt is no good one, and
    # the times are those of single requests.
    return Classifier(
        address, model=server.MODEL_NAME, retry=Retry(attempts=1), timeouts=timeouts
    )


def _predicted(outputs: Mapping[str, np.ndarray], count: int) -> Answer:
    wanted = (features.PROBABILITIES, features.PREDICTED_LABEL, features.CLASS_NAME)
    missing = [name for name in wanted if name not in outputs]
    if missing:
        raise _Unexpected(f"its answer has no {', '.join(missing)}")
    probabilities, labels, names = (outputs[name] for name in wanted)
    if (
        probabilities.dtype.kind != "f"
        or probabilities.ndim != 2
        or labels.dtype.kind not in "iu"
        or labels.shape != (count,)
        or names.dtype != object
        or names.shape != (count,)
    ):
        raise _Unexpected(
            f"it answers {count} images with probabilities {probabilities.dtype} "
            f"{list(probabilities.shape)}, label {labels.dtype} {list(labels.shape)}, "
            f"class_name {names.dtype} {list(names.shape)}"
        )
    return Answer(
        rows=range(count),
        probabilities=probabilities,
        labels=labels,
        class_names=tuple(name.decode("utf-8", "replace") for name in names),
    )


def _examples(images: np.ndarray, files: bool) -> list[Any]:
    """tf.Examples as ingested."""
    from tensorflow.core.example import example_pb2

    contents = _files(images) if files else [image.tobytes() for image in images]
    found = []
    for content in contents:
        example = example_pb2.Example()
        feature = example.features.feature[features.IMAGE]
        feature.bytes_list.value.append(content)
        found.append(example)
    return found


def _serialized(images: np.ndarray, files: bool) -> list[bytes]:
    return [example.SerializeToString() for example in _examples(images, files)]


def _encoded(images: np.ndarray, files: bool) -> list[bytes]:
    return _files(images) if files else _png_files(images)


def _files(images: np.ndarray) -> list[bytes]:
    """Pictures out of which a model cuts these images."""
    return _png_files(framed(images))


def _png_files(images: np.ndarray) -> list[bytes]:
    files = []
    for image in images:
        buffer = io.BytesIO()
        grey = image.shape[-1] == 1
        Image.fromarray(image[..., 0] if grey else image).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


# Signature -> its input's name, and images as it takes them.
_INPUTS: dict[str, tuple[str, Callable[[np.ndarray, bool], Any]]] = {
    features.SIGNATURE_IMAGES: ("images", lambda images, _: images),
    features.SIGNATURE_EXAMPLES: ("examples", _serialized),
    features.SIGNATURE_ENCODED: ("encoded", _encoded),
}
