"""How far a long command is: a bar on a terminal, a line now and then elsewhere.

Everything goes to stderr, so that stdout stays for results. The bar is rich's, if rich is
installed.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_LINE_SECONDS = 5.0

Advance = Callable[[int], None]


@contextlib.contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Yields a function that is told how many more are done.

    Args:
        title: What goes on.
        total: How many there are.
        unit: Of what, e.g. "images".
    """
    bar = _rich() if sys.stderr.isatty() else None
    if bar is None:
        yield _lines(title, total, unit)
    else:
        with _bar(bar, title, total, unit) as advance:
            yield advance


def _rich() -> Any:
    try:
        import rich.progress
    except ImportError:
        return None
    return rich.progress


@contextlib.contextmanager
def _bar(module: Any, title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console

    bar = module.Progress(
        module.TextColumn("{task.description}"),
        module.BarColumn(),
        module.MofNCompleteColumn(),
        module.TextColumn(f"{unit}  {{task.fields[rate]}}"),
        module.TimeRemainingColumn(),
        console=Console(stderr=True, soft_wrap=True),  # no line breaks in paths
        transient=True,
    )
    began = time.monotonic()
    done = 0
    with bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - began, 1e-9)
            bar.update(task, advance=count, rate=f"{rate:,.0f}/s")

        yield advance


def _lines(title: str, total: int, unit: str) -> Advance:
    began = shown = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        now = time.monotonic()
        if now - shown >= _LINE_SECONDS:
            shown = now
            rate = done / (now - began)
            sys.stderr.write(f"{title}: {done:,} of {total:,} {unit}, {rate:,.0f}/s\n")
            sys.stderr.flush()

    return advance
