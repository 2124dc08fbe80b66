"""JSON that another program wrote, read as if it meant harm; arrays.py has the arrays.

In: an open file and the bytes that it may have. Out: a JSON object, or one sentence that
says why not. A model or an output folder may come from anywhere. Standard library only.
"""

from __future__ import annotations

import json
from typing import IO, Any

_LONGEST_REASON = 200  # characters


class Unreadable(ValueError):
    """The file cannot be used; the message says why, without the file's name."""


def json_object(file: IO[bytes], most_bytes: int) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        file: Opened.
        most_bytes: That it may have; the objects made of them take up to 25 times as much.

    Raises:
        Unreadable: It is larger, no JSON, or no object.
    """
    try:
        found = json.loads(content(file, most_bytes))
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(reason(error)) from None
    if not isinstance(found, dict):
        raise Unreadable(f"it holds a {type(found).__name__}, no JSON object")
    return found


def content(file: IO[bytes], most_bytes: int) -> bytes:
    """All bytes of a file.

    Args:
        file: Opened.
        most_bytes: That it may have.

    Raises:
        Unreadable: It is larger, or the system does not hand it out.
    """
    try:
        found = file.read(most_bytes + 1)
    except OSError as error:
        raise Unreadable(reason(error)) from None
    if len(found) > most_bytes:
        raise Unreadable(f"it has more than {most_bytes:,} bytes")
    return found


def reason(error: Exception) -> str:
    """What an exception says, in one short line."""
    text = "".join(c if c.isprintable() else " " for c in str(error)[:2000])
    return f"{type(error).__name__}: {' '.join(text.split())}"[:_LONGEST_REASON]
