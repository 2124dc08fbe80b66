"""The gRPC server and its threads, with methods of our own."""

import threading
import time

import grpc
import pytest

from serving.server import grpc_services
from serving.server.errors import ServingError, not_found

LONG = 20.0
# What the core says to a call that a stopping server cancels, or does not take.
GONE = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def echo(message, context):
    return message


@pytest.fixture
def serve():
    """Starts servers; gives the server and a function that makes calls."""
    running = []

    def start(methods, most_calls=100, **options):
        server = grpc_services.server(
            methods, most_calls, {"grpc.so_reuseport": 0, **options}
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        running.append((server, channel))
        return server, channel

    yield start
    for server, channel in running:
        channel.close()
        server.stop(0).wait()


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


def test_refusals(serve):
    def fail(message, context):
        raise ServingError(grpc.StatusCode.DATA_LOSS, "l\u00f6st")

    _, channel = serve({"/a.B/Fail": fail, "/a.B/Echo": echo})
    Code = grpc.StatusCode
    assert code(lambda: channel.unary_unary("/a.B/Fail")(b"x", timeout=LONG)) == (
        Code.DATA_LOSS, "l\u00f6st",
    )  # fmt: skip
    assert code(lambda: channel.unary_unary("/a.B/None")(b"x", timeout=LONG)) == (
        Code.UNIMPLEMENTED, "Method not found!",
    )  # fmt: skip
    none = channel.stream_unary("/a.B/Echo")
    assert code(lambda: none(iter(()), timeout=LONG))[0] is Code.UNIMPLEMENTED


def test_what_a_method_raises_is_answered(serve, caplog):
    """A refusal as it is; a mistake without its text, which is the log's."""

    def refuse(message, context):
        raise not_found("no such thing")

    def broken(message, context):
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


class Holder:
    """A method that holds each call until it is let go."""

    def __init__(self):
        self.contexts, self.gates = {}, {}

    def __call__(self, message, context):
        gate = self.gates.setdefault(message, threading.Event())
        self.contexts[message] = context
        assert gate.wait(LONG)
        return message + b" done"

    def let_go(self, message):
        self.gates[message].set()


def test_calls_beyond_the_limit_are_refused_and_places_come_back(serve):
    hold = Holder()
    _, channel = serve({"/a.B/Hold": hold}, most_calls=2)
    method = channel.unary_unary("/a.B/Hold")
    calls = [method.future(name, timeout=LONG) for name in (b"0", b"1")]
    wait_until(lambda: len(hold.contexts) == 2)
    assert code(lambda: method(b"", timeout=LONG)) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!",
    )  # fmt: skip
    calls[0].cancel()
    for name in (b"0", b"1"):
        hold.let_go(name)
    assert calls[1].result() == b"1 done"
    for name in (b"2", b"3", b"4", b"5", b"6"):
        wait_until(lambda name=name: answered(method, hold, name))


def answered(method, hold, name):
    """Whether there is a place again."""
    hold.gates.setdefault(name, threading.Event()).set()
    try:
        return method(name, timeout=LONG) == name + b" done"
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
def test_a_caller_that_has_gone_is_noticed(serve, how):
    hold = Holder()
    _, channel = serve({"/a.B/Hold": hold})
    seconds = 2.0 if how == "deadline" else LONG
    before = time.monotonic()
    call = channel.unary_unary("/a.B/Hold").future(b"x", timeout=seconds)
    wait_until(lambda: hold.contexts)
    seen = grpc_services._call(hold.contexts[b"x"])
    # The client counts from its call on, which a busy machine may delay.
    assert before + seconds - 0.1 < seen.deadline < time.monotonic() + seconds + 0.1
    assert not seen.cancelled()
    if how == "cancel":
        call.cancel()
    elif how == "connection":
        channel.close()
    wait_until(seen.cancelled)
    hold.let_go(b"x")  # goes nowhere, and harms nobody


def test_no_deadline_is_none(serve):
    seen = []

    def note(message, context):
        seen.append(grpc_services._call(context).deadline)
        return message

    _, channel = serve({"/a.B/M": note})
    channel.unary_unary("/a.B/M")(b"")
    assert seen == [None]


def test_calls_that_wait_leave_others_a_thread(serve):
    hold = Holder()
    _, channel = serve({"/a.B/Hold": hold, "/a.B/Echo": echo})
    method = channel.unary_unary("/a.B/Hold")
    calls = [method.future(b"%d" % n, timeout=LONG) for n in range(99)]
    wait_until(lambda: len(hold.contexts) == 99)
    assert channel.unary_unary("/a.B/Echo")(b"x", timeout=LONG) == b"x"
    for name in list(hold.gates):
        hold.let_go(name)
    assert [call.result() for call in calls] == [b"%d done" % n for n in range(99)]


def test_port_that_is_taken_is_not_bound(serve):
    first = grpc_services.server({}, 1, {"grpc.so_reuseport": 0})
    port = first.add_insecure_port("127.0.0.1:0")
    first.start()
    try:
        with pytest.raises(RuntimeError):
            grpc_services.server({}, 1, {"grpc.so_reuseport": 0}).add_insecure_port(
                f"127.0.0.1:{port}"
            )
    finally:
        first.stop(0).wait()


def test_stop_lets_calls_end_and_cancels_what_takes_longer(serve):
    hold = Holder()
    server, channel = serve({"/a.B/Hold": hold})
    method = channel.unary_unary("/a.B/Hold")
    quick, slow = (method.future(name, timeout=LONG) for name in (b"quick", b"slow"))
    wait_until(lambda: len(hold.contexts) == 2)
    stopped = server.stop(1.0)
    new = method.future(b"new", timeout=LONG)
    hold.let_go(b"quick")
    assert stopped.wait(LONG)
    assert quick.result() == b"quick done"
    assert slow.code() in GONE
    assert new.code() in GONE
    assert code(lambda: method(b"newer", timeout=LONG))[0] in GONE
    assert b"newer" not in hold.contexts
    hold.let_go(b"slow")
    server.stop(0).wait()  # nothing happens


def wait_until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)
