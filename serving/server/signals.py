"""SIGTERM and Ctrl-C, without a line of Python in a signal handler.

A handler runs between any two steps of the main thread, also while that holds a lock: a
second signal inside `Event.set()` waits for the first one's lock for ever (GNU `timeout`
sends two). Here the signals are blocked for all threads, and one thread takes them.
"""

from __future__ import annotations

import signal
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_event() -> threading.Event:
    """An event that the first of the signals sets; further ones are ignored.

    To be called before other threads are started, which inherit what is blocked.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    stop = threading.Event()

    def take() -> None:
        signal.sigwait(SIGNALS)
        stop.set()

    threading.Thread(target=take, name="signals", daemon=True).start()
    return stop
