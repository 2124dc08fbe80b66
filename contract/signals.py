"""Ctrl-C and SIGTERM while something is under way that has an end to write.

A handler runs between any two steps of the main thread, which may hold any lock. What is
done here in one is therefore little: compare two times, then raise, or append to a list.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator

# GNU timeout sends its signal twice, to the process and to the process's group, and a
# terminal's Ctrl-C reaches a whole group as well. A person takes longer to repeat one.
_ONE_REQUEST_SECONDS = 0.5


@contextlib.contextmanager
def handled(receive: Callable[[int], None]) -> Iterator[None]:
    """Calls `receive` for each request to stop; signals in quick succession are one.

    So what the first one has begun (saving, removing, freeing) is not cut short by its
    echo, and a second request still gets through. A signal that is ignored stays so (shells
    switch Ctrl-C off for what they start in the background); outside of the main thread
    nothing changes.

    Args:
        receive: Takes SIGTERM or SIGINT, and must be fit for a signal handler.
    """
    last = -math.inf

    def handle(number: int, _: object) -> None:
        nonlocal last
        # Another signal may be handled inside this call, but not after it.
        now = time.monotonic()
        if now - last >= _ONE_REQUEST_SECONDS:
            last = now
            receive(number)

    previous = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, handle)
    except ValueError:  # not the main thread
        pass
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop(number: int) -> None:
    """For `handled`: SIGTERM ends a command as Ctrl-C does, with the shell's status."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
