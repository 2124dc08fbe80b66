"""The display: what is written where nothing can be redrawn, and where noise goes."""

import io
import logging
import os
import subprocess
import sys

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
        "steps 10/100  loss 0.500  accuracy 0.250  1,234 images/s  1:30 left"
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


def test_messages_without_numbers_are_lines():
    stream = io.StringIO()
    with console.RunDisplay(Console(file=stream, width=120), width=10) as display:
        display.start("Trainer")
        logging.getLogger(console.PROGRESS_LOGGER).info("resuming at step %d", 7)
        display.end("done")
    assert "resuming at step 7" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (3.21, "3.2 s"), (59.9, "59.9 s"), (60, "1:00"), (7384, "2:03:04")],
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
