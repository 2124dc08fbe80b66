"""`python pipeline.py run --dry`: what a run would do and why; nothing is changed.

It is found out on a copy of the metadata (rehearsal.py); here is what a person sees of it.
"""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from components.example_gen import sources
from contract.fields import to_dict
from contract.typed_json import RecordError
from pipeline import loading
from pipeline.console import RunDisplay, clock, print_lines
from pipeline.local import database, reasons, relocation
from pipeline.local.exclusive import holder
from pipeline.resolve import Resolved

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.local.rehearsal import Step

_WORDS = {
    "runs": ("run", "bold yellow"),
    "looks": ("looks", "dim"),
    "cached": ("cached", "cyan"),
}
_STATE = max(len(word) for word, _ in _WORDS.values())
_TIME = 9  # columns: "1:05:00 h"


def show(
    out: Console, resolved: Resolved, fingerprint: str, heading: Mapping[str, str]
) -> None:
    """Prints a line for each node, with the reasons, and what they took last time.

    Args:
        out: Where to.
        resolved: The configuration that would be run.
        fingerprint: Of its data on this machine.
        heading: What stands above.

    Raises:
        contract.fields.ConfigError: The metadata in the output folder cannot be used.
    """
    root = resolved.config.output_root
    with tempfile.TemporaryDirectory() as folder:
        copied = os.path.join(folder, "metadata.sqlite")
        database.copy(root, copied)
        database.check(root, copied)
        known = os.path.exists(copied)
        running = holder(root)
        print_lines(out, heading, prose=("data",))
        with RunDisplay(out, width=0) as display:
            display.start("loading TensorFlow and TFX, asking the cache")
            moved_from = relocation.follow(root, copied)
            changes = _since_the_last_run(resolved, copied) if known else ""
            steps = _rehearsed(resolved, fingerprint, copied, folder)
    if running:
        sentence = f"{running} is going on there; what it has ended by now counts"
        print_lines(out, {"note": sentence}, prose=("note",), style="yellow")
    if moved_from:
        sentence = f"from {' and '.join(moved_from)}; a run lets the metadata follow"
        print_lines(out, {"moved": sentence}, prose=("moved",), style="yellow")
    if not known:
        print_lines(out, {"note": "nothing was run there yet"})
    if changes:
        print_lines(out, {"changed": f"{changes}"}, prose=("changed",))
    out.print()
    _print_steps(out, steps)
    out.print()
    print_lines(out, {"in all": _sum(steps)}, prose=("in all",))


def _rehearsed(
    resolved: Resolved, fingerprint: str, copied: str, folder: str
) -> list[Step]:
    with loading.tfx():
        from pipeline.dag import create_pipeline
        from pipeline.local.engine import Local
        from pipeline.local.rehearsal import rehearse

    config = resolved.config
    pipeline = create_pipeline(
        config, sources.fingerprint(config.data, fingerprint), Local(config, copied)
    )
    return rehearse(pipeline, folder)


def _since_the_last_run(resolved: Resolved, copied: str) -> str:
    """Which fields of the configuration have changed since a run last ended; "": none."""
    from pipeline.report import collect

    try:
        run_id = collect.latest_run(copied)
        told = collect.recorded_facts(copied, run_id).config if run_id else {}
    except RecordError:  # of another version
        return ""
    before = reasons.fields({"": told}, {})
    after = reasons.fields({"": to_dict(resolved.config)}, {})
    known = before.keys() & after.keys()  # in both versions of the program
    return "; ".join(
        reasons.of_parameters(
            {name: before[name] for name in known},
            {name: after[name] for name in after if name in known},
            {},
        )
    )


def _print_steps(out: Console, steps: Sequence[Step]) -> None:
    width = max(len(step.node) for step in steps)
    indent = 2 + _STATE + 1 + width + 1 + _TIME + 2
    head = f"  {'':{_STATE}} {'node':{width}} {'last time':>{_TIME}}  why"
    out.print(Text(head, style="dim"), soft_wrap=True)
    for step in steps:
        word, style = _WORDS[step.state]
        timed = step.state == "runs" and step.seconds is not None
        took = clock(step.seconds) if timed and step.seconds is not None else ""
        why = "; ".join(step.reasons)
        if out.is_interactive:  # a file keeps one line, so that it can be searched
            rows = [
                row for each in step.reasons for row in _rows(each, out.width - indent)
            ]
            why = ("\n" + " " * indent).join(rows)
        line = Text.assemble(
            (f"  {word:{_STATE}} ", style),
            (f"{step.node:{width}}", "bold" if step.state == "runs" else "dim"),
            f" {took:>{_TIME}}  ",
            (why, "" if step.state == "runs" else "dim"),
        )
        line.rstrip()
        out.print(line, soft_wrap=True)


def _rows(text: str, width: int) -> list[str]:
    """A reason in rows of words; "1 -> 2" stays on one."""
    rows = textwrap.wrap(
        text.replace(" -> ", "\u00a0->\u00a0"),
        width=max(width, 20),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [row.replace("\u00a0", " ") for row in rows]


def _sum(steps: Sequence[Step]) -> str:
    would = [step for step in steps if step.state == "runs"]
    cached = sum(step.state == "cached" for step in steps)
    if not would:
        told = f"nothing runs: all {cached} results are in the cache"
    else:
        told = f"{len(would)} of {len(steps)} nodes run"
        told += f", {cached} are answered from the cache" if cached else ""
    times = [step.seconds for step in would if step.seconds is not None]
    if times:
        told += f"; last time these took {clock(sum(times))}"
        if unknown := len(would) - len(times):
            told += f", without {unknown} that never ran"
    return f"{told}. Nothing was changed"
