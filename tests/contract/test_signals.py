"""Signals in quick succession, from another process as GNU timeout sends them."""

import contextlib
import signal
import subprocess
import sys
import time

import pytest

from contract import signals

PAIRS = 200
# Reads two signals and the microseconds between them, sends both, says so.
SENDER = """
import os, sys, time
for line in sys.stdin:
    first, second, pause = map(int, line.split())
    os.kill(os.getppid(), first)
    until = time.perf_counter_ns() + 1000 * pause
    while time.perf_counter_ns() < until:
        pass
    os.kill(os.getppid(), second)
    print(flush=True)
"""


class Sender:
    def __init__(self, process):
        self.process = process

    def ask(self, first: int, second: int, microseconds: int) -> None:
        self.process.stdin.write(f"{first:d} {second:d} {microseconds}\n")
        self.process.stdin.flush()

    def wait(self) -> None:
        """Until both are sent."""
        self.process.stdout.readline()


@pytest.fixture
def sender():
    """Sends this process pairs of signals."""
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield Sender(process)
    process.communicate()
    for number, handler in before.items():
        signal.signal(number, handler)


def rest() -> None:
    """Ten seconds, unless a signal comes.

    In short pieces: of two different signals at once, Linux may hand both to another thread,
    and then nothing ends a sleep of the main one (kernel/signal.c, complete_signal).
    """
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_a_pair_of_signals_is_one_request(sender, first, second):
    """What the first one begins goes on to its end."""
    ended = []
    for i in range(PAIRS):
        with (
            contextlib.suppress(KeyboardInterrupt, SystemExit),
            signals.handled(signals.stop),
        ):
            try:
                sender.ask(first, second, i * 100 // PAIRS)
                rest()
            finally:
                sender.wait()  # the second one comes here, or has come
                time.sleep(0.0005)
                ended.append(i)
    assert ended == list(range(PAIRS))


def test_a_second_request_gets_through(sender):
    received = []
    with signals.handled(received.append):
        sender.ask(signal.SIGTERM, signal.SIGTERM, 600_000)
        sender.wait()
    assert received == [signal.SIGTERM, signal.SIGTERM]


def test_the_status_is_the_shells(sender):
    with pytest.raises(SystemExit, match="143"), signals.handled(signals.stop):
        try:
            sender.ask(signal.SIGTERM, signal.SIGTERM, 0)
            rest()
        finally:
            sender.wait()


def test_an_ignored_signal_stays_ignored_and_handlers_come_back(sender):
    received = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals.handled(received.append):
        sender.ask(signal.SIGINT, signal.SIGINT, 0)
        sender.wait()
    assert received == []
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
