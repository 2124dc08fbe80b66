"""The log: one message is one line, whatever it quotes."""

import io
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.server import log_lines


def logged(text, *, error=None):
    """What the log holds after a message, and perhaps a traceback."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_lines.Formatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error("%s: failed", text, exc_info=error)
    return stream.getvalue()


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=[])))
def test_a_message_is_one_line(text):
    (line,) = logged(text).splitlines()
    assert line.endswith(": failed")
    assert not set(map(chr, [*range(9), *range(10, 32), *range(127, 160)])) & set(line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/models\n2026-01-01 00:00:00,000 INFO all is well", r"/models\n2026-01-01"),
        ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        ("a\r\x85b\u2028c", r"a\r\x85b\u2028c"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("Größe 猫", "Größe 猫"),
    ],
)
def test_control_characters_are_shown(text, shown):
    assert shown in logged(text)


def test_a_traceback_has_no_line_that_begins_as_the_logs():
    try:
        raise ValueError("x\n2026-01-01 00:00:00,000 INFO all is well\r\x1b[2J")
    except ValueError as error:
        first, *others = logged("it", error=error).splitlines()
    assert "it: failed" in first
    assert any("all is well" in line for line in others)
    assert all(line.startswith("  ") and "\x1b" not in line for line in others)
