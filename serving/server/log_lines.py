"""How the log is written: what comes from outside cannot look like a line of it.

A folder's or a model's name may hold line ends and a terminal's control characters, and
errors quote them. So each message is one line, in which such characters are escaped, and a
traceback's lines are indented.
"""

from __future__ import annotations

import logging
import re
import sys

# Controls of ASCII and Latin-1, what Unicode calls a line's end, and what turns the
# direction of a text round.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)


class Formatter(logging.Formatter):
    """Of the server's log."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """One line."""
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Several, none of which begins as a line of the log does."""
        text = super().formatException(ei)  # pyright: ignore[reportArgumentType]
        return "\n".join("  " + _escaped(line) for line in text.split("\n"))


def to_stderr() -> None:
    """Sends the log of all modules there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO)


def _escaped(text: str) -> str:
    return _UNSAFE.sub(
        lambda found: found[0].encode("unicode_escape").decode("ascii"), text
    )
