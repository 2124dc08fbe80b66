"""`Classifier`: images in, predictions out, blocking.

This file, and what it imports, loads neither numpy nor gRPC: a program that only might
ask a server should not wait for them. They are loaded when a client is made.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, overload

from serving.client import retry as retries
from serving.client.configured import (
    DEFAULT_SIGNATURE,
    Configured,
    Images,
    Patience,
)
from serving.client.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.client.results import ModelMetadata, Prediction, VersionStatus

if TYPE_CHECKING:
    import numpy as np

    from serving.client.answers import Call
    from serving.client.images import Shape


class Classifier(Configured):
    """A model on a server; blocking.

        with Classifier("localhost:8500") as classifier:
            classifier.classify("cat.png")[0].class_name

    Any number of threads may share one. Not across `os.fork`: make it in the child.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._config.address.transport == "grpc":
            from serving.client.over_grpc import GrpcTransport as Transport
        else:
            from serving.client.over_rest import RestTransport as Transport
        self._transport = Transport(self._config)
        self._closed = threading.Event()
        self._shape: Shape | None = None
        self._guard = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends connections; calls that wait for an answer end with `Cancelled`."""
        self._closed.set()
        with self._guard:
            threads, self._threads = self._threads, None
        self._transport.close()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    @overload
    def classify(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: Literal[False] = False,
    ) -> list[Prediction]: ...

    @overload
    def classify(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: bool,
    ) -> list[Prediction | ServingError]: ...

    def classify(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: bool = False,
    ) -> Any:
        """Classifies one image or any number of them.

        Args:
            images: uint8 array [n, height, width, channels], or without n for one, as
                `image_shape` says; a Pillow image; the path of a picture's file; its
                bytes; or an iterable of these, mixed as you like.
            deadline_seconds: For the whole call (default: `Timeouts.request` for each
                request, no limit for all).
            return_errors: Put an `InvalidInput` in the place of an image that cannot be
                used, instead of raising it. All other errors are raised.

        Returns:
            A list with one Prediction per image, in order; also for a single image.

        Raises:
            ServingError: See `serving.client.errors`.
        """
        return list(
            self.stream(
                images, deadline_seconds=deadline_seconds, return_errors=return_errors
            )
        )

    def stream(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: bool = False,
    ) -> Iterator[Prediction | ServingError]:
        """Like `classify`, for more images than fit into memory.

        Takes images from the iterable as answers come back: at most
        `(in_flight + 1) * batch_size` are held.
        """
        from serving.client import images as sources

        until = retries.end_of(deadline_seconds)
        pieces = sources.chunks(images, self._config.batch_size)
        waiting: collections.deque[Future] = collections.deque()
        done = 0
        try:
            first = next(pieces, None)
            if first is None:
                return
            shape = self._shape or self._ask_shape(until)
            second = next(pieces, None)
            if second is None:  # no thread for what is most often a single image
                yield from self._classify_chunk(
                    first, shape, until, return_errors, done
                )
                return
            for piece in _chain(first, second, pieces):
                job = self._classify_chunk
                waiting.append(
                    self._submit(job, piece, shape, until, return_errors, done)
                )
                done += len(piece)
                if len(waiting) >= self._config.in_flight:
                    yield from _result(waiting.popleft())
            while waiting:
                yield from _result(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        output_filter: Sequence[str] = (),
        deadline_seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Calls any signature of any model with arrays.

        Args:
            inputs: Arrays (or numbers, strings, bytes, lists of them) by input name, in
                the dtypes that the signature has; see `metadata()`.
            signature_name: Which signature.
            output_filter: Names of the outputs wanted; all if empty.
            deadline_seconds: For the call.

        Returns:
            Arrays by output name; strings as object arrays of bytes, bfloat16 as float32.

        Raises:
            ServingError: See `serving.client.errors`.
        """
        from serving.client import answers

        call = answers.call(inputs, signature_name, output_filter)
        return self._predict(call, retries.end_of(deadline_seconds)).outputs

    def status(self, *, deadline_seconds: float | None = None) -> list[VersionStatus]:
        """States of the model's versions, newest first.

        With `version` of that one; with `version_label` of the one that it means, or of
        all: TensorFlow Serving ignores labels here (model_servers/get_model_status_impl.cc
        at 49ac8ac).
        """
        attempts = self._attempts(retries.end_of(deadline_seconds))
        return retries.run(self._transport.status, attempts, self._closed)

    def metadata(self, *, deadline_seconds: float | None = None) -> ModelMetadata:
        """Signatures of the model, with the inputs and outputs of each."""
        attempts = self._attempts(retries.end_of(deadline_seconds))
        return retries.run(self._transport.metadata, attempts, self._closed)

    def image_shape(
        self, *, deadline_seconds: float | None = None
    ) -> tuple[int, int, int]:
        """Height, width and channels of the images that `classify` sends the model.

        The model's metadata say it; they are asked once, and again after the model has
        refused an image.

        Raises:
            InvalidResponse: It is a model without such images: use `predict`.
        """
        return self._shape or self._ask_shape(retries.end_of(deadline_seconds))

    def wait_until_ready(self, deadline_seconds: float = 60.0) -> VersionStatus:
        """Waits for a server and for an available version of the model on it.

        The one of `version` or `version_label`, if that is given.

        Returns:
            The version that is ready.

        Raises:
            DeadlineExceeded: It did not become ready; the message has the last reason.
        """
        patience = Patience(self._config, deadline_seconds)
        while True:
            try:
                versions = self._transport.status(patience.seconds_left())
                if self._config.version_label is not None:
                    meant = self._transport.metadata(patience.seconds_left()).version
                    versions = [one for one in versions if one.version == meant]
                ready = patience.ready(versions)
            except (Unavailable, NotFound, DeadlineExceeded) as error:
                ready = patience.failed(error)
            if ready is not None:
                return ready
            if self._closed.wait(patience.wait()):
                raise Cancelled("the client is closed")

    def _ask_shape(self, until: float | None) -> Shape:
        from serving.client import answers

        found = retries.run(
            self._transport.metadata, self._attempts(until), self._closed
        )
        self._shape = answers.image_shape(found)
        return self._shape

    def _submit(self, job: Callable[..., Any], *arguments: Any) -> Future:
        with self._guard:
            if self._closed.is_set():
                raise Cancelled("the client is closed")
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._config.in_flight, "serving")
            return self._threads.submit(job, *arguments)

    def _predict(self, call: Call, until: float | None) -> Any:
        return retries.run(
            lambda seconds: self._transport.predict(call, seconds),
            self._attempts(until),
            self._closed,
        )

    def _classify_chunk(
        self,
        chunk: Any,
        shape: Shape,
        until: float | None,
        return_errors: bool,
        done: int,
    ) -> list[Prediction | ServingError]:
        from serving.client import answers
        from serving.client import images as sources

        prepared = sources.prepare(chunk, shape, resize=self._config.resize)
        steps = answers.classify(prepared, chunk, return_errors, done)
        try:
            request = next(steps)
            while True:
                try:
                    answer = self._predict(answers.image_call(request), until)
                    found = answers.predictions(answer, len(request.places))
                except InvalidInput as error:
                    self._shape = None  # perhaps there is another model now
                    request = steps.throw(error)
                else:
                    request = steps.send(found)
        except StopIteration as end:
            return end.value


def _result(future: Future) -> list[Prediction | ServingError]:
    try:
        return future.result()
    except CancelledError:
        raise Cancelled("the client is closed") from None


def _chain(first: Any, second: Any, rest: Iterator[Any]) -> Iterable[Any]:
    yield first
    yield second
    yield from rest
