"""Coroutines without an event loop: who carries them on, and what becomes of errors."""

import threading

import pytest

from serving.server import pending
from serving.server.pending import Pending, Workers

LONG = 20.0


def test_started_coroutine_goes_on_where_its_value_comes_from():
    first, second = Pending(), Pending()
    seen = []

    async def work():
        seen.append((threading.get_ident(), None))
        for awaited in (first, second):
            seen.append((await awaited, threading.get_ident()))

    pending.start(work())
    assert seen == [(threading.get_ident(), None)]  # it does not wait here
    for number, awaited in enumerate((first, second)):
        thread = threading.Thread(target=awaited.settle, args=(number,))
        thread.start()
        thread.join(LONG)
        assert seen[-1] == (number, thread.ident)


def test_what_is_settled_already_is_not_waited_for():
    done = Pending()
    done.settle(3)
    done.settle(4)  # the first one counts
    seen = []

    async def work():
        seen.append(await done)

    pending.start(work())
    assert seen == [3]


def test_wait_returns_and_raises_what_the_coroutine_does():
    workers = Workers(2)

    async def half(value):
        return await workers.run(lambda: value / 2)

    async def nested():
        return [await half(value) for value in (2, 4)]

    assert pending.wait(nested()) == [1, 2]
    with pytest.raises(TypeError):
        pending.wait(half("x"))
    assert pending.wait(half(6)) == 3  # the threads live on
    workers.close()


def test_error_reaches_the_coroutine_and_what_it_lets_out_is_logged(caplog):
    broken = Pending()
    caught = []

    async def careful():
        try:
            await broken
        except ValueError as error:
            caught.append(error)

    async def careless():
        await broken

    pending.start(careful())
    broken.settle(None, ValueError("no"))
    pending.start(careless())
    assert [str(error) for error in caught] == ["no"]
    assert "left without an answer" in caplog.text


def test_value_that_comes_while_it_is_asked_for_is_never_lost():
    for _ in range(300):
        value, seen = Pending(), threading.Event()

        async def work(value=value, seen=seen):
            await value
            seen.set()

        start = threading.Barrier(2)

        def settle(value=value, start=start):
            start.wait(LONG)
            value.settle(1)

        thread = threading.Thread(target=settle)
        thread.start()
        start.wait(LONG)
        pending.start(work())
        assert seen.wait(LONG)
        thread.join(LONG)


def test_long_work_has_a_thread_of_its_own():
    async def where():
        return await pending.in_thread(threading.get_ident)

    assert pending.wait(where()) != threading.get_ident()
