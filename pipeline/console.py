"""What a person sees while a run goes on: one live line per component.

Components report progress as contract/progress.py says. Everything else that TFX,
TensorFlow and Beam print goes to the log file (`captured_output`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from contract.progress import PROGRESS_LOGGER

_NAMES = 9  # columns of the names in `print_lines`
_PLAIN_SECONDS = 10.0  # between progress lines where nothing can be redrawn

_MARKS = {"done": ("✓", "green"), "cached": ("↺", "cyan"), "failed": ("✗", "red")}


@contextlib.contextmanager
def captured_output(log_path: str) -> Iterator[IO[str]]:
    """Sends file descriptors 1 and 2 to a file; yields a stream to the real stdout.

    TensorFlow's C++ side writes to the descriptors, so that replacing `sys.stderr` would
    not be enough.
    """
    # Whoever logs first settles the form: before TFX does, without the time.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    # No link: it could lead to any file of whoever starts a run.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    log = os.open(log_path, flags, 0o644)
    screen = os.fdopen(os.dup(saved[0]), "w", encoding="utf-8", errors="replace")
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield screen
    finally:
        # The log's disk may be full, and whoever read the screen may be gone.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        with contextlib.suppress(OSError):
            screen.close()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, log):
            os.close(descriptor)


def console_on(stream: IO[str]) -> Console:
    """What to print with; colours by NO_COLOR, FORCE_COLOR and TERM as rich reads them.

    In a file nothing can be redrawn, coloured or not, and no line need be cut.
    """
    terminal = stream.isatty()
    return Console(
        file=stream,
        highlight=False,
        force_interactive=None if terminal else False,
        width=None if terminal else 1000,
    )


def print_lines(
    out: Console,
    lines: Mapping[str, str],
    *,
    prose: Collection[str] = (),
    style: str = "",
) -> None:
    """Prints names and values, each on one line, so that paths can be copied.

    Args:
        out: Where to.
        lines: Name -> value.
        prose: Names whose values are sentences: where people look (on a terminal) these
            are wrapped between words; a file keeps one line, so that it can be searched.
        style: Of the values.
    """
    for name, value in lines.items():
        if name in prose and out.is_interactive:
            value = _wrapped(value, out.width)
        text = Text.assemble((f"{name:<{_NAMES}} ", "bold"), (value, style))
        out.print(text, soft_wrap=True)


def _wrapped(text: str, width: int) -> str:
    """Rows of words, beside a name; "1.4 %", "p = 0.125" and a path are one word each."""
    rows = textwrap.wrap(
        re.sub(" (?=[%=<])|(?<=[=<]) ", "\u00a0", text),
        width=max(width - _NAMES - 1, 20),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return ("\n" + " " * (_NAMES + 1)).join(rows).replace("\u00a0", " ")


class RunDisplay(logging.Handler):
    """Lines of finished components above one live line of the running one.

    On a terminal the running line is redrawn; elsewhere (a file, CI) plain lines are
    written when a component ends, and every 10 s while one goes on.
    """

    def __init__(self, console: Console, width: int) -> None:
        """Args: console: Where to draw. width: Of the longest component name."""
        super().__init__()
        self._console = console
        self._width = width
        self._name: str | None = None
        self._began = 0.0
        self._progress: dict[str, Any] | None = None
        self._progress_began = 0.0
        self._first_done = 0
        self._plain_at = 0.0
        self._guard = threading.Lock()
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> RunDisplay:
        logger = logging.getLogger(PROGRESS_LOGGER)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(PROGRESS_LOGGER).removeHandler(self)
        if self._console.is_interactive:
            self._live.stop()

    def start(self, name: str) -> None:
        """A component (or another step with a name) begins."""
        with self._guard:
            self._name, self._began = name, time.monotonic()
            self._progress, self._plain_at = None, self._began

    def end(self, state: str, note: str = "") -> None:
        """The running component ended: `state` is done, cached or failed."""
        with self._guard:
            name, seconds = self._name, time.monotonic() - self._began
            self._name = None
        mark, colour = _MARKS[state]
        line = Text.assemble(
            (f"  {mark} ", colour),
            (f"{name:<{self._width}}", "bold"),
            f" {clock(seconds):>9}",
            (f"  {note}" if note else "", "dim"),
        )
        self._console.print(line, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a progress record."""
        progress = getattr(record, "progress", None)
        now = time.monotonic()
        with self._guard:
            if progress is None:
                message = record.getMessage()
                style = "yellow" if record.levelno >= logging.WARNING else "dim"
            else:
                if (
                    self._progress is None
                    or self._progress["task"] != progress["task"]
                    or progress["done"] < self._progress["done"]
                ):
                    self._progress_began, self._first_done = now, progress["done"]
                self._progress = progress
                if (
                    self._console.is_interactive
                    or now - self._plain_at < _PLAIN_SECONDS
                ):
                    return
                self._plain_at = now
                message = f"{self._name}: {self._describe(progress, now)}"
                style = "dim"
        self._console.print(Text(f"    {message}", style=style), soft_wrap=True)

    def _render(self) -> RenderableType:
        with self._guard:
            if self._name is None:
                return Group()
            now = time.monotonic()
            row = Table.grid(padding=(0, 1))
            cells: list[RenderableType] = [
                Spinner("dots", style="yellow"),
                Text(f"{self._name:<{self._width}}", style="bold"),
                Text(f"{clock(now - self._began):>9}"),
            ]
            if self._progress is not None:
                done, total = self._progress["done"], self._progress["total"]
                cells.append(ProgressBar(total=total, completed=done, width=12))
                cells.append(Text(self._describe(self._progress, now), style="dim"))
            for _ in range(len(cells) + 1):
                row.add_column(no_wrap=True)
            row.add_row(Text(" "), *cells)
            return row

    def _describe(self, progress: dict[str, Any], now: float) -> str:
        done, total = progress["done"], progress["total"]
        parts = [f"{progress['unit']} {done:,}/{total:,}"]
        if progress.get("loss") is not None:
            parts.append(f"loss {progress['loss']:.3f}")
        if progress.get("accuracy") is not None:
            parts.append(f"accuracy {progress['accuracy']:.3f}")
        if progress.get("images_per_second"):
            parts.append(f"{progress['images_per_second']:,.0f} images/s")
        advanced = done - self._first_done
        if advanced > 0 and done < total:
            left = (now - self._progress_began) * (total - done) / advanced
            parts.append(f"{clock(left)} left")
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """A duration with its unit: "3.2 s", "1:05 min", "2:03:00 h"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
