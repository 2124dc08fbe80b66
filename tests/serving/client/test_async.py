"""The asynchronous client against the official stubs over gRPC."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from serving.client import (
    AsyncClassifier,
    Cancelled,
    Classifier,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    Overloaded,
    Retry,
    Unavailable,
)
from tests.serving.client.official import (
    Backend,
    damaged,
    expected_label,
    random_images,
    write_png,
)
from tests.serving.client.test_classifier import check, refused_port

pytestmark = pytest.mark.tf

IMAGES = random_images(300)
QUICK = Retry(attempts=4, first_wait=0.01, longest_wait=0.02)


def run(backend: Backend, work, **options):
    async def main():
        options.setdefault("retry", QUICK)
        async with AsyncClassifier(backend.address, **options) as classifier:
            return await work(classifier)

    return asyncio.run(main())


def test_methods_are_those_of_the_blocking_client():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(AsyncClassifier) == public(Classifier)


def test_answers_are_those_of_the_blocking_client(backend, tmp_path):
    mixed = [IMAGES[0], write_png(tmp_path / "a.png", IMAGES[1]), IMAGES[2]]
    found = run(backend, lambda c: c.classify(mixed), batch_size=2)
    check(found, IMAGES[:3])
    with Classifier(backend.address) as blocking:
        assert blocking.classify(mixed) == found


def test_batches_are_pipelined_and_bounded(backend):
    backend.delay_seconds = 0.05
    found = run(backend, lambda c: c.classify(IMAGES), batch_size=10, in_flight=3)
    check(found, IMAGES)
    assert backend.most_busy == 3


def test_many_calls_at_once(backend):
    async def work(classifier):
        calls = [classifier.classify(IMAGES[i : i + 2]) for i in range(50)]
        return await asyncio.gather(*calls)

    for i, found in enumerate(run(backend, work)):
        check(found, IMAGES[i : i + 2])


def test_status_metadata_readiness_predict(backend):
    async def work(classifier):
        return (
            await classifier.wait_until_ready(5),
            await classifier.status(),
            await classifier.metadata(),
            await classifier.predict({"x": [1.5]}, signature_name="echo"),
        )

    ready, status, metadata, outputs = run(backend, work)
    assert ready.version == status[0].version == metadata.version == 7
    assert outputs["x"].tolist() == [1.5]


def test_the_version_of_the_label_is_waited_for(backend):
    backend.labels = {"stable": 7, "canary": 9}
    backend.statuses = [(9, 30, 0, ""), (7, 30, 0, "")]
    ready = run(backend, lambda c: c.wait_until_ready(5), version_label="stable")
    assert ready.version == 7


def test_passing_failures_are_repeated_and_others_are_not(backend):
    backend.failures = [(grpc.StatusCode.UNAVAILABLE, "away")] * 3
    check(run(backend, lambda c: c.classify(IMAGES[:1])), IMAGES[:1])
    backend.failures = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")] * 9
    with pytest.raises(Overloaded):
        run(backend, lambda c: c.classify(IMAGES[:1]))
    backend.failures = []
    with pytest.raises(NotFound):
        run(backend, lambda c: c.classify(IMAGES[:1]), model="other")
    with pytest.raises(InvalidInput, match="missing"):
        run(backend, lambda c: c.classify(["missing.png"]))


def test_bad_images_can_be_returned(backend, tmp_path):
    good = write_png(tmp_path / "a.png", IMAGES[0])
    cut = good.read_bytes()[:300]
    work = [good, cut, good, "missing.png"]
    found = run(backend, lambda c: c.classify(work, return_errors=True))
    assert [isinstance(result, InvalidInput) for result in found] == [
        False, True, False, True,
    ]  # fmt: skip


def test_deadlines(backend):
    backend.delay_seconds = 0.5
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        run(backend, lambda c: c.classify(IMAGES[:1], deadline_seconds=0.1))
    with pytest.raises(Unavailable):
        nobody = Backend(address=f"127.0.0.1:{refused_port()}")
        run(nobody, lambda c: c.status())
    with pytest.raises(DeadlineExceeded, match="not ready within 0.3 s"):
        run(nobody, lambda c: c.wait_until_ready(0.3))
    assert time.monotonic() - began < 15


def test_a_cancelled_task_asks_no_more(backend):
    backend.delay_seconds = 0.1

    async def work(classifier):
        task = asyncio.create_task(classifier.classify(IMAGES))
        while not backend.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.3)
        asked = backend.calls
        await asyncio.sleep(0.3)
        return asked

    asked = run(backend, work, batch_size=1, in_flight=2)
    assert backend.calls == asked < 10


def test_an_abandoned_stream_asks_no_more(backend):
    async def work(classifier):
        stream = classifier.stream(IMAGES)
        first = await anext(stream)
        await stream.aclose()
        return first

    first = run(backend, work, batch_size=1, in_flight=2)
    assert first.label == expected_label(IMAGES[0])
    assert backend.calls <= 4


def test_closing_ends_calls_under_way(backend):
    """With an error of ours: nobody has cancelled their tasks."""
    backend.delay_seconds = 1.0

    async def work(classifier):
        tasks = [asyncio.create_task(classifier.classify(IMAGES[:2])) for _ in range(3)]
        await asyncio.sleep(0.2)
        await classifier.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(found) for found in run(backend, work)] == [Cancelled] * 3


def test_one_bad_file_among_many_is_named(backend, tmp_path):
    paths = [write_png(tmp_path / f"{i}.png", IMAGES[i]) for i in range(9)]
    paths[6].write_bytes(damaged(paths[6].read_bytes()))
    refused = "6.png: the server refuses it: Invalid PNG data"
    with pytest.raises(InvalidInput, match=refused) as caught:
        run(backend, lambda c: c.classify(paths))
    assert caught.value.__notes__ == ["image 6 of the call, from 0"]


def test_a_closed_client_says_so(backend):
    async def main():
        classifier = AsyncClassifier(backend.address)
        await classifier.classify(IMAGES[0])
        await classifier.close()
        await classifier.close()
        with pytest.raises(Cancelled, match="closed"):
            await classifier.classify(IMAGES[0])

    asyncio.run(main())
