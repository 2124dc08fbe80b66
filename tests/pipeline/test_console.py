"""The display: what is written where nothing can be redrawn, and where noise goes."""

import contextlib
import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.console import Console

from pipeline import console


def progress(done, total=100, **values):
    record = {"task": "t", "done": done, "total": total, "unit": "steps", **values}
    logging.getLogger(console.PROGRESS_LOGGER).info("x", extra={"progress": record})


def test_plain_output_has_a_line_per_component():
    stream = io.StringIO()
    with console.RunDisplay(Console(file=stream, width=120), width=10) as display:
        display.start("One")
        progress(50)
        display.end("done")
        display.start("Two")
        display.end("cached", "from before")
        display.start("Three")
        display.end("failed")
    lines = stream.getvalue().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["✓", "One"],
        ["↺", "Two"],
        ["✗", "Three"],
    ]
    assert lines[1].endswith("from before")


def test_plain_output_shows_long_work_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with console.RunDisplay(Console(file=stream, width=120), width=10) as display:
        display.start("Trainer")
        for second in range(31):
            now[0] = float(second)
            progress(second, loss=0.5, accuracy=0.25, images_per_second=1234.0)
        display.end("done")
    shown = [line for line in stream.getvalue().splitlines() if "Trainer:" in line]
    assert len(shown) == 3  # after 10, 20 and 30 s
    assert shown[0].split("Trainer: ")[1] == (
        "steps 10/100  loss 0.500  accuracy 0.250  1,234 images/s  1:30 min left"
    )


def test_a_terminal_shows_the_running_component():
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=140, color_system=None)
    with console.RunDisplay(terminal, width=10) as display:
        display.start("Trainer")
        progress(10)
        progress(20, loss=1.0)
        display._live.refresh()
        display.end("done")
    assert "steps 20/100" in stream.getvalue()
    assert "━" in stream.getvalue()


def on_terminal(shown, **environment):
    """What code that prints to `out` writes to a terminal of 80 columns."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    code = (
        "import sys; from pipeline import console\n"
        f"out = console.console_on(sys.stdout)\n{shown}"
    )
    kept = {k: os.environ[k] for k in ("PATH", "PYTHONPATH") if k in os.environ}
    subprocess.run(
        [sys.executable, "-c", code],
        stdout=writer,
        check=True,
        env={"TERM": "xterm-256color", **kept, **environment},
    )
    os.close(writer)
    text = b""
    with contextlib.suppress(
        OSError
    ):  # Linux's way to say that the other end is closed
        while part := os.read(reader, 4096):
            text += part
    os.close(reader)
    return text.decode().replace("\r\n", "\n")


VERDICT = (
    "resnet20 makes 1.4 % errors on 288 eval images, preact_resnet20 3.1 %; the lower "
    "error wins, although the difference may be chance (p = 0.125, paired)"
)
SHOWN = (
    f"console.print_lines(out, {{'verdict': {VERDICT!r}}}, prose=('verdict',))\n"
    f"console.print_lines(out, {{'report': '/{'long/' * 30}x y'}}, style='yellow')"
)


def test_a_terminal_gets_sentences_between_words_and_paths_in_one_piece():
    text = re.sub("\x1b\\[[0-9;]*m", "", on_terminal(SHOWN))
    *verdict, report, end = text.split("\n")
    assert (report, end) == (f"report    /{'long/' * 30}x y", "")
    assert max(map(len, verdict)) <= 80
    assert all(line.startswith(" " * 10) for line in verdict[1:])
    assert len(verdict) == 3
    assert not any(line.endswith(("1.4", "3.1", "p", "=")) for line in verdict)
    assert " ".join(line[10:] for line in verdict) == VERDICT


def test_colours_only_where_they_are_wanted():
    assert "\x1b[33m" in on_terminal(SHOWN)
    assert "\x1b[33m" not in on_terminal(SHOWN, NO_COLOR="1")
    stream = io.StringIO()
    out = console.console_on(stream)
    exec(SHOWN, {"console": console, "out": out})
    assert stream.getvalue() == (f"verdict   {VERDICT}\nreport    /{'long/' * 30}x y\n")


def test_a_coloured_file_is_not_redrawn(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with console.RunDisplay(console.console_on(stream), width=10) as display:
        display.start("Trainer")
        progress(10)
        display._live.refresh()
        display.end("done")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert not re.search("\x1b\\[[0-9?]*[A-HJKhl]", text)  # cursor, erase, modes
    assert re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()[-1].split()[:2] == [
        "✓", "Trainer"
    ]  # fmt: skip


def test_warnings_stand_out(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    with console.RunDisplay(console.console_on(stream), width=10) as display:
        display.start("Validator")
        logging.getLogger(console.PROGRESS_LOGGER).warning("%d images", 7)
        display.end("done")
    assert "\x1b[33m    7 images" in stream.getvalue()


def test_messages_without_numbers_are_lines():
    stream = io.StringIO()
    with console.RunDisplay(Console(file=stream, width=120), width=10) as display:
        display.start("Trainer")
        logging.getLogger(console.PROGRESS_LOGGER).info("resuming at step %d", 7)
        display.end("done")
    assert "resuming at step 7" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.21, "3.2 s"),
        (59.9, "59.9 s"),
        (60, "1:00 min"),
        (7384, "2:03:04 h"),
    ],
)
def test_durations(seconds, text):
    assert console.clock(seconds) == text


def test_noise_of_any_origin_goes_to_the_file(tmp_path):
    log = tmp_path / "log"
    code = (
        "import os, sys, subprocess; from pipeline import console\n"
        f"with console.captured_output({str(log)!r}) as screen:\n"
        "    print('from python'); print('to stderr', file=sys.stderr)\n"
        "    os.write(2, b'from c\\n'); subprocess.run(['echo', 'from a child'])\n"
        "    print('for a person', file=screen)\n"
        "print('after')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert result.stdout == "for a person\nafter\n"
    assert result.stderr == ""
    noise = log.read_text()
    for words in ("from python", "to stderr", "from c", "from a child"):
        assert words in noise


def test_a_log_that_is_a_link_is_not_written(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("kept")
    (tmp_path / "log").symlink_to(mine)
    with (
        pytest.raises(OSError, match="log"),
        console.captured_output(  # noqa: SIM117
            str(tmp_path / "log")
        ),
    ):
        pass
    assert mine.read_text() == "kept"
