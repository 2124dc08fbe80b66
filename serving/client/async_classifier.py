"""`AsyncClassifier`: images in, predictions out, for asyncio."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Mapping, Sequence
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


class AsyncClassifier(Configured):
    """A model on a server, for asyncio; the methods are those of `Classifier`.

        async with AsyncClassifier("localhost:8500") as classifier:
            (await classifier.classify("cat.png"))[0].class_name

    Belongs to the event loop in which it is first used.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._opened: Any = None
        self._closed = False
        self._shape: Shape | None = None

    async def __aenter__(self) -> AsyncClassifier:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends connections; calls that wait for an answer end with an error."""
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    @overload
    async def classify(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: Literal[False] = False,
    ) -> list[Prediction]: ...

    @overload
    async def classify(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: bool,
    ) -> list[Prediction | ServingError]: ...

    async def classify(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: bool = False,
    ) -> Any:
        """See `Classifier.classify`."""
        return [
            result
            async for result in self.stream(
                images, deadline_seconds=deadline_seconds, return_errors=return_errors
            )
        ]

    async def stream(
        self,
        images: Images,
        *,
        deadline_seconds: float | None = None,
        return_errors: bool = False,
    ) -> AsyncIterator[Prediction | ServingError]:
        """See `Classifier.stream`."""
        from serving.client import images as sources

        until = retries.end_of(deadline_seconds)
        waiting: collections.deque[asyncio.Task] = collections.deque()
        done = 0
        try:
            for piece in sources.chunks(images, self._config.batch_size):
                shape = self._shape or await self._ask_shape(until)
                waiting.append(
                    asyncio.create_task(
                        self._classify_chunk(piece, shape, until, return_errors, done)
                    )
                )
                done += len(piece)
                if len(waiting) >= self._config.in_flight:
                    for result in await waiting.popleft():
                        yield result
            while waiting:
                for result in await waiting.popleft():
                    yield result
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        signature_name: str = DEFAULT_SIGNATURE,
        output_filter: Sequence[str] = (),
        deadline_seconds: float | None = None,
    ) -> dict[str, np.ndarray]:
        """See `Classifier.predict`."""
        from serving.client import answers

        call = answers.call(inputs, signature_name, output_filter)
        answer = await self._predict(call, retries.end_of(deadline_seconds))
        return answer.outputs

    async def status(
        self, *, deadline_seconds: float | None = None
    ) -> list[VersionStatus]:
        """See `Classifier.status`."""
        attempts = self._attempts(retries.end_of(deadline_seconds))
        return await retries.run_async(self._transport().status, attempts)

    async def metadata(self, *, deadline_seconds: float | None = None) -> ModelMetadata:
        """See `Classifier.metadata`."""
        attempts = self._attempts(retries.end_of(deadline_seconds))
        return await retries.run_async(self._transport().metadata, attempts)

    async def image_shape(
        self, *, deadline_seconds: float | None = None
    ) -> tuple[int, int, int]:
        """See `Classifier.image_shape`."""
        return self._shape or await self._ask_shape(retries.end_of(deadline_seconds))

    async def wait_until_ready(self, deadline_seconds: float = 60.0) -> VersionStatus:
        """See `Classifier.wait_until_ready`."""
        patience = Patience(self._config, deadline_seconds)
        while True:
            try:
                transport = self._transport()
                versions = await transport.status(patience.seconds_left())
                if self._config.version_label is not None:
                    known = await transport.metadata(patience.seconds_left())
                    versions = [one for one in versions if one.version == known.version]
                ready = patience.ready(versions)
            except (Unavailable, NotFound, DeadlineExceeded) as error:
                ready = patience.failed(error)
            if ready is not None:
                return ready
            await asyncio.sleep(patience.wait())

    async def _ask_shape(self, until: float | None) -> Shape:
        from serving.client import answers

        attempts = self._attempts(until)
        found = await retries.run_async(self._transport().metadata, attempts)
        self._shape = answers.image_shape(found)
        return self._shape

    def _transport(self) -> Any:
        if self._closed:
            raise Cancelled("the client is closed")
        if self._opened is None:
            if self._config.address.transport == "grpc":
                from serving.client.over_grpc import AsyncGrpcTransport as Transport
            else:
                from serving.client.over_rest import AsyncRestTransport as Transport
            self._opened = Transport(self._config)
        return self._opened

    async def _predict(self, call: Call, until: float | None) -> Any:
        transport = self._transport()
        return await retries.run_async(
            lambda seconds: transport.predict(call, seconds), self._attempts(until)
        )

    async def _classify_chunk(
        self,
        chunk: Any,
        shape: Shape,
        until: float | None,
        return_errors: bool,
        done: int,
    ) -> list[Prediction | ServingError]:
        from serving.client import answers
        from serving.client import images as sources

        # Files are read and decoded in a thread; an array needs only a look at its shape.
        prepare = sources.prepare
        prepared = (
            prepare(chunk, shape, resize=self._config.resize)
            if hasattr(chunk, "shape")
            else await asyncio.to_thread(
                prepare, chunk, shape, resize=self._config.resize
            )
        )
        steps = answers.classify(prepared, chunk, return_errors, done)
        try:
            request = next(steps)
            while True:
                try:
                    answer = await self._predict(answers.image_call(request), until)
                    found = answers.predictions(answer, len(request.places))
                except InvalidInput as error:
                    self._shape = None  # perhaps there is another model now
                    request = steps.throw(error)
                else:
                    request = steps.send(found)
        except StopIteration as end:
            return end.value
