"""What ingestion refuses, and other errors in one line. Standard library only."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used; one line that names file, record, rule and remedy."""

    def __init__(self, message: str):
        # Parts of it come from the data: they must not add lines or control a terminal.
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


def one_line(error: BaseException) -> str:
    """The text of an error in one line; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
