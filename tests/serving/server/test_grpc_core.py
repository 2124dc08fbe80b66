"""The server on gRPC's core, asked by grpcio's own client."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.server import grpc_core
from serving.server.errors import not_found

LONG = 20.0
# What the core says to a call that a stopping server cancels, or does not take.
GONE = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def echo(message, call):
    call.reply(message)


@pytest.fixture
def serve():
    """Starts servers; gives the server and a function that makes calls."""
    running = []

    def start(methods, most_calls=100, **options):
        server = grpc_core.Server(
            methods, most_calls, {"grpc.so_reuseport": 0, **options}
        )
        port = server.add_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        running.append((server, channel))
        return server, channel

    yield start
    for server, channel in running:
        channel.close()
        server.stop(0)


def code(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_many_calls_at_once_get_their_own_answers(serve):
    _, channel = serve({"/a.B/Echo": echo}, most_calls=1000)
    method = channel.unary_unary("/a.B/Echo")
    futures = {i: method.future(str(i).encode() * 50, timeout=LONG) for i in range(500)}
    assert all(f.result() == str(i).encode() * 50 for i, f in futures.items())
    assert method(b"", timeout=LONG) == b""
    assert len(method(bytes(3_000_000), timeout=LONG)) == 3_000_000


def test_answers_may_come_from_any_thread_and_only_the_first_counts(serve, caplog):
    def later(message, call):
        def answer():
            call.reply(message)
            call.reply(b"again")
            call.finish(grpc.StatusCode.INTERNAL, "again")

        threading.Timer(0.01, answer).start()

    _, channel = serve({"/a.B/Later": later})
    for _ in range(20):
        assert channel.unary_unary("/a.B/Later")(b"x", timeout=LONG) == b"x"
    assert not caplog.records


def test_refusals(serve):
    def fail(message, call):
        call.finish(grpc.StatusCode.DATA_LOSS, "l\u00f6st")

    _, channel = serve({"/a.B/Fail": fail, "/a.B/Echo": echo})
    Code = grpc.StatusCode
    assert code(lambda: channel.unary_unary("/a.B/Fail")(b"x", timeout=LONG)) == (
        Code.DATA_LOSS, "l\u00f6st",
    )  # fmt: skip
    assert code(lambda: channel.unary_unary("/a.B/None")(b"x", timeout=LONG)) == (
        Code.UNIMPLEMENTED, "Method not found!",
    )  # fmt: skip
    none = channel.stream_unary("/a.B/Echo")
    assert code(lambda: none(iter(()), timeout=LONG)) == (
        Code.UNIMPLEMENTED, '"/a.B/Echo" requires exactly one request message.',
    )  # fmt: skip


def test_what_a_method_raises_is_answered(serve, caplog):
    """A refusal as it is; a mistake without its text, which is the log's."""

    def refuse(message, call):
        raise not_found("no such thing")

    def broken(message, call):
        raise ValueError("a secret")

    _, channel = serve(
        {"/a.B/Refuse": refuse, "/a.B/Broken": broken, "/a.B/Echo": echo}
    )
    Code = grpc.StatusCode
    for _ in range(9):
        assert code(lambda: channel.unary_unary("/a.B/Broken")(b"", timeout=LONG)) == (
            Code.INTERNAL, "Internal error; the server's log has more",
        )  # fmt: skip
    assert "a secret" in caplog.text
    caplog.clear()
    assert code(lambda: channel.unary_unary("/a.B/Refuse")(b"", timeout=LONG)) == (
        Code.NOT_FOUND, "no such thing",
    )  # fmt: skip
    assert not caplog.records
    assert channel.unary_unary("/a.B/Echo")(b"x", timeout=LONG) == b"x"


def test_calls_beyond_the_limit_are_refused_and_places_come_back(serve):
    held = {}
    _, channel = serve({"/a.B/Hold": held.__setitem__}, most_calls=2)
    method = channel.unary_unary("/a.B/Hold")
    calls = [method.future(name, timeout=LONG) for name in (b"0", b"1")]
    wait_until(lambda: len(held) == 2)
    assert code(lambda: method(b"", timeout=LONG)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!",
    )  # fmt: skip
    calls[0].cancel()
    held[b"1"].reply(b"done")
    assert calls[1].result() == b"done"
    wait_until(lambda: all(call.ended() for call in held.values()))
    for name in (b"2", b"3", b"4", b"5", b"6"):
        again = method.future(name, timeout=LONG)
        wait_until(lambda name=name: name in held)
        held[name].reply(b"again")
        assert again.result() == b"again"
        wait_until(lambda name=name: held[name].ended())


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
def test_a_caller_that_has_gone_is_noticed(serve, how):
    held, ended = [], threading.Event()

    def hold(message, call):
        call.on_end(ended.set)
        held.append(call)

    _, channel = serve({"/a.B/Hold": hold})
    seconds = 2.0 if how == "deadline" else LONG
    before = time.monotonic()
    call = channel.unary_unary("/a.B/Hold").future(b"", timeout=seconds)
    wait_until(lambda: held)
    assert not held[0].ended()
    # The client counts from its call on, which a busy machine may delay.
    assert before + seconds - 0.1 < held[0].deadline < time.monotonic() + seconds + 0.1
    if how == "cancel":
        call.cancel()
    elif how == "connection":
        channel.close()
    assert ended.wait(LONG)
    assert held[0].ended()
    held[0].reply(b"too late")  # goes nowhere, and harms nobody


def test_no_deadline_is_none(serve):
    seen = []
    _, channel = serve({"/a.B/M": lambda m, c: (seen.append(c.deadline), c.reply(m))})
    channel.unary_unary("/a.B/M")(b"")
    assert seen == [None]


def test_messages_of_a_stream_keep_their_order(serve):
    def count(message, call):
        for number in range(200):
            call.send(b"%d" % number)
        call.finish()

    _, channel = serve({"/a.B/Count": count})
    got = list(channel.unary_stream("/a.B/Count")(b"", timeout=LONG))
    assert got == [b"%d" % number for number in range(200)]


def test_threads_that_are_lent_leave_one_to_read_the_queue(serve):
    gate, lent, refused = threading.Event(), [], []

    def work(message, call):
        if call.spare():
            lent.append(call)
            assert gate.wait(LONG)
        else:
            refused.append(call)
        call.reply(b"")

    _, channel = serve({"/a.B/Work": work, "/a.B/Echo": echo})
    calls = [
        channel.unary_unary("/a.B/Work").future(b"", timeout=LONG) for _ in range(9)
    ]
    wait_until(lambda: len(lent) + len(refused) == 9)
    assert 0 < len(lent) < grpc_core._THREADS
    assert channel.unary_unary("/a.B/Echo")(b"x", timeout=LONG) == b"x"
    gate.set()
    assert [call.result() for call in calls] == [b""] * 9


def test_other_threads_are_not_lent(serve):
    def elsewhere(message, call):
        def answer():
            call.reply(b"%d" % call.spare())

        threading.Thread(target=answer).start()

    _, channel = serve({"/a.B/Elsewhere": elsewhere})
    assert channel.unary_unary("/a.B/Elsewhere")(b"", timeout=LONG) == b"0"


def test_port_that_is_taken_is_not_bound(serve):
    first = grpc_core.Server({}, 1, {"grpc.so_reuseport": 0})
    port = first.add_port("127.0.0.1:0")
    first.start()
    try:
        assert (
            grpc_core.Server({}, 1, {"grpc.so_reuseport": 0}).add_port(
                f"127.0.0.1:{port}"
            )
            == 0
        )
    finally:
        first.stop(0)


def test_stop_lets_calls_end_and_cancels_what_takes_longer(serve):
    held = {}
    server, channel = serve({"/a.B/Hold": held.__setitem__})
    method = channel.unary_unary("/a.B/Hold")
    quick, slow = (method.future(name, timeout=LONG) for name in (b"quick", b"slow"))
    wait_until(lambda: len(held) == 2)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop, 1.0)
        wait_until(lambda: server._stopping)
        new = method.future(b"new", timeout=LONG)  # not taken, or just before
        held[b"quick"].reply(b"in time")
        stopping.result(LONG)
    assert quick.result() == b"in time"
    assert slow.code() in GONE
    assert new.code() in GONE
    assert code(lambda: method(b"newer", timeout=LONG))[0] in GONE
    assert b"newer" not in held
    held[b"slow"].reply(b"too late")
    server.stop(0)  # nothing happens


def wait_until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)
