"""Which paths a run can work with.

A leaf: standard library only.
"""

from __future__ import annotations

import os
import unicodedata

# TensorFlow, TFX and Beam make patterns of paths, and none of the three has a way to
# quote these in all of them (tf.io.gfile.glob, glob.glob, Beam's FileSystems.match).
PATTERN_CHARACTERS = "*?[]\\"

# SQLite opens no file whose path, symbolic links resolved, has more than 512 bytes with
# the eight of "-journal" (MAX_PATHNAME in its os_unix.c).
LONGEST_OUTPUT = 512 - len("-journal") - len("/metadata.sqlite")


def text_problem(path: str) -> str | None:
    """What no path may have, as a rule; None if this one has nothing of it.

    ML Metadata keeps paths as UTF-8, and messages and Beam's patterns are single lines.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in path):
        return (
            "must be a path in UTF-8 without line breaks and control characters; rename "
            "or move it"
        )
    return None


def pattern_problem(path: str) -> str | None:
    """The same of a path below which TensorFlow and Beam look for files."""
    if any(letter in PATTERN_CHARACTERS for letter in path):
        return (
            f"must be a path without {' '.join(PATTERN_CHARACTERS)}, which TensorFlow and "
            "Beam would take for patterns; choose another folder"
        )
    return text_problem(path)


def length_problem(path: str) -> str | None:
    """The same of the length of a local folder that a run writes to."""
    resolved = os.path.realpath(path)
    size = len(os.fsencode(resolved))
    if size > LONGEST_OUTPUT:
        return (
            f"must have at most {LONGEST_OUTPUT} bytes, symbolic links resolved, and has "
            f"{size}: SQLite opens no longer path; choose another folder"
        )
    return None


def writing_problem(path: str) -> str | None:
    """The same of a local folder that will be made and written to later."""
    place = path
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
        return None
    return (
        f"must be a folder that can be made and written, and {place} is "
        f"{'read-only' if os.path.isdir(place) else 'no folder'}; choose another folder, "
        "or change this one"
    )


def shown(value: object) -> str:
    """A value as it stands in a message: on one line, whatever it is."""
    text = str(value)
    return text if text_problem(text) is None else repr(text)
