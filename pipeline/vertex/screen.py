"""What a person sees of runs and schedules on Vertex AI, as a local run looks.

Comes in: the service's messages (PipelineJob, Schedule), of which nothing but attributes
is used. Goes out: lines and tables on the terminal.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.console import clock

_WIDEST = 250  # of a table, in characters; the terminal wraps longer rows
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")  # states that a run does not leave

# A task's state -> mark, colour, what is said of it.
_TASKS: Mapping[str, tuple[str, str, str]] = {
    "PENDING": ("○", "dim", "waits for a machine"),
    "RUNNING": ("●", "yellow", "running"),
    "SUCCEEDED": ("✓", "green", ""),
    "SKIPPED": ("↺", "cyan", ""),  # its result came from the cache
    "CANCEL_PENDING": ("●", "yellow", "stopping"),
    "CANCELLING": ("●", "yellow", "stopping"),
    "CANCELLED": ("✗", "yellow", "cancelled"),
    "FAILED": ("✗", "red", ""),
    "NOT_TRIGGERED": ("○", "dim", "not started"),
}
_ENDED_TASKS = ("SUCCEEDED", "SKIPPED", "CANCELLED", "FAILED", "NOT_TRIGGERED")
_STATE_COLOURS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "PAUSED": "yellow",
}


@dataclass(frozen=True)
class Task:
    """One node of the DAG in one run."""

    name: str
    state: str  # key of _TASKS
    seconds: float | None  # since it began, or that it took
    note: str


def run_state(job: Any) -> str:
    """A run's state in one word, for example RUNNING."""
    return job.state.name.removeprefix("PIPELINE_STATE_")


def tasks(job: Any, now: datetime.datetime) -> list[Task]:
    """The tasks in the order in which they began; those that wait come last."""
    details = list(job.job_detail.task_details)
    # The whole DAG is a task too, and the parent of all others.
    parents = {detail.parent_task_id for detail in details}
    whole = {job.name.rsplit("/", 1)[-1], job.display_name}
    found = [
        detail
        for detail in details
        if detail.task_id not in parents and detail.task_name not in whole
    ]
    found.sort(key=lambda each: (each.start_time or now, each.task_name))
    ended = run_state(job) in ENDED
    return [_task(detail, now, ended) for detail in found]


def _task(detail: Any, now: datetime.datetime, ended: bool) -> Task:
    state = detail.state.name
    if ended and state == "PENDING":  # of a run that failed before
        state = "NOT_TRIGGERED"
    began = detail.start_time or (detail.create_time if detail.end_time else None)
    seconds = None
    if began and state not in ("PENDING", "NOT_TRIGGERED"):
        seconds = max(0.0, ((detail.end_time or now) - began).total_seconds())
    note = _TASKS.get(state, ("", "", state.lower()))[2]
    if detail.error.message:
        note = one_line(detail.error.message)
    return Task(detail.task_name, state, seconds, note)


def task_line(task: Task, width: int) -> Text:
    """A task as a local run shows a component."""
    mark, colour, _ = _TASKS.get(task.state, ("?", "dim", ""))
    took = "" if task.seconds is None else clock(task.seconds)
    return Text.assemble(
        (f"  {mark} ", colour),
        (f"{task.name:<{width}}", "bold"),
        f" {took:>9}",
        (f"  {task.note}" if task.note else "", "dim"),
    )


class Follower:
    """Lines of ended tasks above live lines of those that go on."""

    def __init__(self, out: Console, width: int) -> None:
        """Args: out: Where to draw. width: Of the longest task's name."""
        self._out = out
        self._width = width
        self._state = ""
        self._running: list[Task] = []
        self._known: dict[str, str] = {}  # task -> the state that was shown
        self._live = Live(
            console=out,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Follower:
        if self._out.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.is_interactive:
            self._live.stop()

    def update(self, job: Any, now: datetime.datetime) -> None:
        """Shows what is new in the run."""
        found = tasks(job, now)
        self._state = run_state(job)
        self._running = [task for task in found if task.state not in _ENDED_TASKS]
        for task in found:
            if self._known.get(task.name) == task.state:
                continue
            self._known[task.name] = task.state
            if task.state in _ENDED_TASKS:
                self._out.print(task_line(task, self._width), soft_wrap=True)
            elif task.state == "RUNNING" and not self._out.is_interactive:
                # Nothing can be redrawn, and a training takes hours.
                self._out.print(Text(f"    {task.name}: running", style="dim"))

    def _render(self) -> RenderableType:
        if not self._running:
            words = f"run: {self._state.lower()}" if self._state else ""
            return Spinner("dots", Text(words, style="dim"), style="yellow")
        rows = Table.grid(padding=(0, 1))
        for task in self._running:
            took = "" if task.seconds is None else clock(task.seconds)
            rows.add_row(
                Text(" "),
                Spinner("dots", style="yellow"),
                Text(f"{task.name:<{self._width}}", style="bold"),
                Text(f"{took:>9}"),
                Text(task.note, style="dim"),
            )
        return Group(rows)


def follow(
    out: Console,
    read: Callable[[], Any],
    width: int,
    now: Callable[[], datetime.datetime],
    sleep: Callable[[float], None],
) -> Any:
    """Shows a run until it has ended.

    Args:
        out: Where to draw.
        read: Asks the service for the run.
        width: Of the longest task's name.
        now: The present, in UTC.
        sleep: Waits; each second at first, each quarter of a minute after some.

    Returns:
        The run as it ended.
    """
    began = now()
    with Follower(out, width) as follower:
        while True:
            job = read()
            follower.update(job, now())
            if run_state(job) in ENDED:
                return job
            sleep(min(15.0, 1.0 + (now() - began).total_seconds() / 20))


def run_lines(job: Any, page: str, now: datetime.datetime) -> dict[str, str]:
    """A run in a few lines."""
    began = job.start_time or job.create_time
    lines = {
        "run": job.name.rsplit("/", 1)[-1],
        "state": run_state(job),
        "started": when(began) if began else "not yet",
    }
    if began:
        lines["took" if job.end_time else "for"] = clock(
            ((job.end_time or now) - began).total_seconds()
        )
    if job.schedule_name:
        lines["schedule"] = job.schedule_name.rsplit("/", 1)[-1]
    if job.error.message:
        lines["error"] = one_line(job.error.message)
    return lines | {"console": page}


def run_table(jobs: Sequence[Any], now: datetime.datetime) -> Table:
    """Runs, newest first."""
    table = _table("run", "state", "started")
    table.add_column("took", justify="right", no_wrap=True)
    for job in jobs:
        state = run_state(job)
        began = job.start_time or job.create_time
        took = (
            clock(((job.end_time or now) - began).total_seconds())
            if began and (job.end_time or state == "RUNNING")
            else "–"
        )
        table.add_row(
            job.name.rsplit("/", 1)[-1],
            Text(state, style=_STATE_COLOURS.get(state, "")),
            when(began) if began else "–",
            took,
        )
    return table


def schedule_table(schedules: Sequence[Any]) -> Table:
    """Schedules, newest first."""
    table = _table("schedule", "state", "cron", "time zone", "next run")
    table.add_column("started", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    for each in schedules:
        state = each.state.name
        zone, cron = split_cron(each.cron)
        table.add_row(
            each.display_name,
            Text(state, style=_STATE_COLOURS.get(state, "")),
            cron,
            zone,
            next_run(each) or "–",
            str(each.started_run_count),
            each.name.rsplit("/", 1)[-1],
        )
    return table


def next_run(schedule: Any) -> str | None:
    """When an active schedule starts the next run, in its own time zone."""
    if schedule.state.name != "ACTIVE" or not schedule.next_run_time:
        return None
    return when(schedule.next_run_time, split_cron(schedule.cron)[0])


def split_cron(cron: str) -> tuple[str, str]:
    """The service's cron text as (time zone, five fields)."""
    match = re.fullmatch(r"(?:CRON_)?TZ=(\S+)\s+(.*)", cron)
    return (match[1], match[2]) if match else ("UTC", cron)


def when(moment: datetime.datetime, zone: str | None = None) -> str:
    """A moment as a person reads it, in a time zone or this machine's."""
    try:
        there = zoneinfo.ZoneInfo(zone) if zone else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        there = datetime.UTC
    return moment.astimezone(there).strftime("%Y-%m-%d %H:%M %Z")


def print_table(out: Console, table: Table) -> None:
    """A table whose cells are whole, however narrow the window: ids can be copied."""
    out.width = max(out.width, _WIDEST)
    out.print(table, soft_wrap=True)


def one_line(text: str) -> str:
    """A message of several lines in one."""
    return " ".join(text.split())


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
