"""What surrounds work in an output folder: its lock, a log, the screen, and how it ends."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contract import signals
from contract.config.run import RunConfig
from pipeline.failures import INTERRUPTED, NOBODY_READS, RUN_FAILED, root_message
from pipeline.local import database, relocation, space, temporary
from pipeline.local.exclusive import exclusive


def carry_out(
    config: RunConfig,
    heading: Mapping[str, str],
    work: Callable[[Any], None],
) -> int:
    """Works in an output folder.

    Args:
        config: Complete and checked; its output folder is held for this process alone.
        heading: What is done, by name, for the screen.
        work: Takes the console to print to.

    Returns:
        Exit status: 0 done, 1 failed, as `pipeline.failures` names others.
    """
    from rich.text import Text

    from pipeline import console

    log = os.path.join(
        config.output_root, "logs", time.strftime("%Y%m%d-%H%M%S.log", time.gmtime())
    )
    # The lock comes first: a second run is told at once, not after TensorFlow has loaded.
    with signals.handled(signals.stop), exclusive(config.output_root):
        database.check(config.output_root)
        moved_from = relocation.follow(config.output_root)
        warning = space.check(config)
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with temporary.own_folder(), console.captured_output(log) as screen:
            out = console.console_on(screen)
            try:
                lines = {**heading, "log": log}
                console.print_lines(out, lines, prose=("data",))
                if moved_from:
                    console.print_lines(out, {"moved": _moved(moved_from)})
                if warning:
                    message = f"warning: {warning}"
                    out.print(Text(message, style="yellow"), soft_wrap=True)
                work(out)
                return 0
            except Exception as error:  # noqa: BLE001 - the whole chain is in the log
                traceback.print_exc()
                message = f"error: {root_message(error)}"
                out.print(Text(message, style="red"), soft_wrap=True)
                out.print(Text(f"log:   {log}"), soft_wrap=True)
                return RUN_FAILED
            except (KeyboardInterrupt, SystemExit) as stop:
                if out.quiet:  # so Rich says that nobody reads
                    return NOBODY_READS
                out.print("stopped; the same command goes on from here", style="yellow")
                return (
                    int(stop.code or 0) if isinstance(stop, SystemExit) else INTERRUPTED
                )


def _moved(places: Sequence[str]) -> str:
    return (
        f"from {' and '.join(places)}: the metadata name this folder now, and nothing "
        "there is read or written"
    )
