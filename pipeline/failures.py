"""What is told of an error: one line to a person, an exit status to a program.

The line leaves out what other errors wrap around the cause. A leaf: standard library only.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator

RUN_FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130
NOBODY_READS = 128 + signal.SIGPIPE
_BY_SIGNAL = {128 + number for number in signal.valid_signals()}

_OWN_PACKAGES = ("components", "contract", "pipeline", "studies", "trainer")

# As the C library says it, and with it TensorFlow and, of a worker's error, Beam; SQLite,
# and with it ML Metadata, has words of its own.
_DISK_FULL = {
    os.strerror(errno.ENOSPC),
    os.strerror(errno.EDQUOT),
    os.strerror(errno.EFBIG),
    "database or disk is full",
}
_FULL = re.compile("|".join(map(re.escape, _DISK_FULL)))


def root_message(error: BaseException) -> str:
    """The error that stopped a component, in one line; the whole chain is in the log.

    Beam, TFX and TensorFlow raise errors from errors: the first cause is what happened.
    An error in whose handling another one was raised is no cause: it was dealt with.
    """
    if (sentence := full_disk(error)) is not None:
        return sentence
    causes = list(_chain(error, handled=False))
    cause = next(filter(_is_own, causes), causes[-1])
    text = re.sub(r"\s*\[while running '[^']*'\]", "", str(cause)).strip()
    if _is_own(cause):
        return text
    # TensorFlow puts tracebacks into messages; the last line says what happened.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    name = type(cause).__name__
    return f"{name}: {lines[-1].removeprefix(name + ': ')}" if lines else name


def stop_behind(error: BaseException) -> BaseException | None:
    """The Ctrl-C or SIGTERM that an error is, or was made of: Beam wraps these, too.

    An exit with another status, such as argparse's, that was dealt with on the way is none.
    """
    if not isinstance(error, Exception):
        return error
    for each in _chain(error, handled=True):
        if isinstance(each, KeyboardInterrupt):
            return each
        if isinstance(each, SystemExit) and each.code in _BY_SIGNAL:
            return each
    return None


def _chain(error: BaseException | None, *, handled: bool) -> Iterator[BaseException]:
    """An error and its causes; with `handled`, also those that were being handled."""
    while error is not None:
        yield error
        hidden = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or (hidden if handled else None)


def _is_own(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in _OWN_PACKAGES


def full_disk(error: BaseException) -> str | None:
    """The sentence about a full disk if an error, or one behind it, says so."""
    for each in _chain(error, handled=True):
        found = _FULL.search(str(each))
        if found and not _is_own(each):
            file = getattr(each, "filename", None) or _file(str(each), found)
            return (
                f"{found[0]}{f' ({file})' if file else ''}; free some space, or choose "
                "an output_root (or TMPDIR) on another disk; the same command goes on "
                "from here"
            )
    return None


def _file(text: str, full: re.Match[str]) -> str | None:
    """The path beside the words: TensorFlow writes it before them, Python after."""
    before = re.search(r"(?:^|\}\} )(/[^;\n]*); $", text[: full.start()], re.M)
    after = re.match(r": '(/[^'\n]*)'", text[full.end() :])
    found = before or after
    return found and found[1]
