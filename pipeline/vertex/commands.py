"""`python pipeline.py compile | submit | status | cancel | schedule`: runs on Vertex AI.

Comes in: what a person typed. Goes out: a compiled job in a file, or one that the service
carries out. What is wrong with a value, a name or the budget is said within the second;
TFX and Google's client load after that.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contract import signals
from contract.config.run import RunConfig
from contract.contenders import BASELINE, CANDIDATE
from contract.fields import ConfigError, override, parse_assignment
from pipeline import loading
from pipeline.nodes import KINDS
from pipeline.resolve import resolve
from pipeline.vertex import place as places
from pipeline.vertex import rules
from pipeline.vertex.estimate import cost
from pipeline.vertex.place import Place, VertexError

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.vertex.client import Service

RUN_FAILED, INTERRUPTED = 1, 130

Parser = Any  # or a group of its arguments, whose class argparse has no public name for
_LISTED_RUNS = 20
# With which `compile` shows a specification to somebody who has no account yet.
EXAMPLES = {"vertex.project": "my-project", "output_root": "gs://my-bucket/cifar"}
# The steps before a run exists, as the display names them.
_LOADING, _LOOKING = "loading Google's client", "looking for the name"
_COMPILING, _CREATING = "compiling with TFX", "creating"
_WIDTH = len(_LOADING)
_LONGEST_NODE = max(
    len(name) for kind in KINDS.values() for name in kind.ids((BASELINE, CANDIDATE))
)


def add_parsers(
    commands: Any, add_overrides: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Adds the commands to the command line."""

    def add(
        group: Any, name: str, command: Any, help: str, *, whole: bool = False
    ) -> argparse.ArgumentParser:
        parser = group.add_parser(name, help=help, description=help)
        if whole:  # it compiles a run
            parser.add_argument(
                "--engine", choices=["vertex"], default="vertex", help="the only one"
            )
        add_place(parser)
        add_overrides(parser)
        parser.set_defaults(command=command)
        return parser

    compiled = add(
        commands,
        "compile",
        _compile,
        "write the specification of a run on Vertex AI; nothing leaves this machine",
        whole=True,
    )
    compiled.add_argument(
        "--output", metavar="FILE", help="default: <pipeline_name>.json, here"
    )

    created = add(commands, "submit", submit, "start a run on Vertex AI", whole=True)
    add_submission(created)

    status = add(commands, "status", _status, "show runs on Vertex AI, or one of them")
    status.add_argument(
        "run", nargs="?", metavar="RUN", help="its id; none: the latest"
    )
    status.add_argument("--wait", action="store_true", help="follow RUN to its end")

    cancel = add(
        commands,
        "cancel",
        _cancel,
        "stop a run on Vertex AI and all jobs that it has started; returns when they have "
        "ended",
    )
    cancel.add_argument("run", metavar="RUN", help="its id")

    meaning = "start runs on Vertex AI regularly"
    schedule = commands.add_parser("schedule", help=meaning, description=meaning)
    actions = schedule.add_subparsers(required=True, metavar="ACTION")
    create = add(
        actions, "create", _schedule_create, "start a run at set times", whole=True
    )
    _add_timetable(create)
    add(actions, "list", _schedule_list, "show all schedules of the region")
    for name, command, help in (
        ("pause", _schedule_pause, "start no more runs until it is resumed"),
        ("resume", _schedule_resume, "let a paused schedule go on"),
        ("delete", _schedule_delete, "remove a schedule; its runs stay"),
    ):
        action = add(actions, name, command, help)
        action.add_argument("schedule", metavar="SCHEDULE", help="its name or id")
        if name == "resume":
            action.add_argument(
                "--catch_up",
                "--catch-up",
                action="store_true",
                help="start the runs that it missed, too",
            )


def add_place(parser: Parser) -> None:
    """Adds the short forms of vertex.project and vertex.region."""
    parser.add_argument("--project", help="Google Cloud project (vertex.project)")
    parser.add_argument("--region", help="region (vertex.region; default: us-central1)")


def add_submission(parser: Parser) -> None:
    """Adds what only a submitted run takes."""
    parser.add_argument(
        "--run_id",
        "--run-id",
        metavar="ID",
        help="the run's id; the same command with the same id starts no second run",
    )
    parser.add_argument("--wait", action="store_true", help="follow the run to its end")


def _add_timetable(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cron",
        required=True,
        help='minute, hour, day, month, day of the week: "0 3 * * 1" is Mondays at 3:00',
    )
    parser.add_argument(
        *("--time_zone", "--time-zone"), default="UTC", help="default: UTC"
    )
    parser.add_argument("--name", help="of the schedule (default: the pipeline's)")
    parser.add_argument(
        *("--max_concurrent_runs", "--max-concurrent-runs"),
        type=int,
        default=1,
        metavar="N",
        help="runs of this schedule that may go on at the same time (default: 1)",
    )
    parser.add_argument(
        *("--allow_queueing", "--allow-queueing"),
        action="store_true",
        help="let a run wait for an earlier one, instead of skipping it",
    )
    parser.add_argument(
        *("--max_runs", "--max-runs"), type=int, metavar="N", help="end after N runs"
    )
    for name, meaning in (("start", "no run before"), ("end", "no run after")):
        parser.add_argument(
            f"--{name}", metavar="TIME", help=f"{meaning} this, e.g. 2027-01-31T06:00"
        )


# ---- compile, submit -----------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """A complete, checked run on Vertex AI."""

    config: RunConfig
    assignments: Mapping[str, str]
    estimate: cost.Estimate


def assignments(options: argparse.Namespace) -> list[str]:
    """`--runtime_parameter` with the short forms behind it."""
    short = {"vertex.project": options.project, "vertex.region": options.region}
    given = [f"{name}={value}" for name, value in short.items() if value is not None]
    return [*options.runtime_parameter, *given]


def _wanted(
    options: argparse.Namespace,
    environment: Mapping[str, str],
    examples: Mapping[str, str] | None = None,
) -> _Wanted:
    texts = assignments(options)
    texts = [f"{name}={value}" for name, value in (examples or {}).items()] + texts
    config = resolve(texts, environment, os.getcwd(), rules).config
    return _Wanted(config, dict(map(parse_assignment, texts)), cost.estimate(config))


def _compile(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from pipeline.console import print_lines

    given = dict(map(parse_assignment, assignments(options)))
    examples = {name: EXAMPLES[name] for name in EXAMPLES if name not in given}
    wanted = _wanted(options, environment, examples)
    path = options.output or f"{wanted.config.pipeline_name}.json"
    if os.path.isdir(path):
        raise ConfigError(f"--output={path}: is a folder; give a file's name")
    with _screen() as out:
        _show_plan(out, wanted)
        job = _compiled(out, wanted)
        from pipeline.vertex import compile as compiler

        try:
            compiler.write(job, path)
        except OSError as error:
            raise ConfigError(
                f"--output={path}: cannot be written ({error.strerror})"
            ) from error
        out.print()
        lines = {"written": path, "submit": _again("submit", options)}
        try:
            cost.check_budget(wanted.config, wanted.estimate)
        except ConfigError as error:
            lines["submit"] = f"would be refused: {error}"
        if examples:
            said = ", ".join(f"{name}={value}" for name, value in examples.items())
            lines["submit"] = f"not before these examples are your own: {said}"
        print_lines(out, lines)
    return 0


def submit(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Starts a run: `submit`, and `run --engine vertex`."""
    from pipeline.console import print_lines

    if options.run_id is not None:
        places.check_run_id(options.run_id)
    wanted = _wanted(options, environment)
    config = wanted.config
    place = places.find(config.vertex, environment)
    cost.check_budget(config, wanted.estimate)
    now = datetime.datetime.now(datetime.UTC)
    run_id = options.run_id or places.new_run_id(config.pipeline_name, now)
    asked = False  # whether the service may know of the run
    with _screen() as out, signals.handled(signals.stop):
        try:
            _show_plan(out, wanted)
            with _service(out, place) as service:
                job = _compiled(out, wanted)
                asked = True
                with _step(out, f"{_CREATING} the run"):
                    created = service.create_run(job, run_id)
                out.print()
                where = place.options
                print_lines(
                    out,
                    {
                        "run": run_id,
                        "name": created.name,
                        "console": place.page("pipelineJobs", run_id),
                        "follow": f"python pipeline.py status {run_id} --wait {where}",
                        "stop": f"python pipeline.py cancel {run_id} {where}",
                    },
                )
                return _follow(out, service, place, run_id) if options.wait else 0
        except (KeyboardInterrupt, SystemExit) as stop:
            words = "stopped; nothing was submitted"
            if asked:
                words = (
                    f"stopped; run {run_id} may go on: python pipeline.py status {run_id} "
                    f"{place.options}"
                )
            return _interrupted(out, stop, words)


def _compiled(out: Console, wanted: _Wanted) -> dict[str, Any]:
    with _step(out, _COMPILING):
        with loading.tfx():
            from pipeline.vertex.compile import belong_to_account, compile_job
        job = compile_job(wanted.config, wanted.assignments)
        belong_to_account(job, wanted.config.vertex)
    return job


def _show_plan(out: Console, wanted: _Wanted) -> None:
    from pipeline.vertex.estimate import plan

    plan.show(out, wanted.config, wanted.estimate)
    out.print()


# ---- status, cancel ------------------------------------------------------------------


def _status(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from pipeline.vertex import screen

    if options.wait and not options.run:
        raise ConfigError("--wait: follows one run; give its id, `status RUN --wait`")
    config, place = _place(options, environment, options.run)
    now = datetime.datetime.now(datetime.UTC)
    with _screen() as out, signals.handled(signals.stop):
        try:
            with _service(out, place, quiet=True) as service:
                if options.run:
                    run_id = _run_id(place, options.run)
                    if options.wait:
                        return _follow(out, service, place, run_id)
                    _show_run(out, service.run(run_id), place)
                    return 0
                jobs = service.runs(config.pipeline_name, _LISTED_RUNS)
        except (KeyboardInterrupt, SystemExit) as stop:
            words = "stopped" + ("; the run goes on" if options.run else "")
            return _interrupted(out, stop, words)
        if jobs:
            screen.print_table(out, screen.run_table(jobs, now))
        else:
            out.print(
                f"no runs of pipeline {config.pipeline_name} in project {place.project}, "
                f"region {place.region}",
                soft_wrap=True,
            )
    return 0


def _cancel(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    _, place = _place(options, environment, options.run)
    run_id = _run_id(place, options.run)
    with _screen() as out, signals.handled(signals.stop):
        try:
            with _service(out, place, quiet=True) as service:
                job = service.run(run_id)
                stopped = _stop_run(out, service, place, job)
        except (KeyboardInterrupt, SystemExit) as stop:
            words = (
                "stopped; the run, or jobs that it has started, may go on: python "
                f"pipeline.py cancel {run_id} {place.options}"
            )
            return _interrupted(out, stop, words)
        out.print(
            f"run {run_id} has ended, and so have all {len(stopped)} jobs that it had "
            "started; what was done stays in the cache. See: python pipeline.py status "
            f"{run_id} {place.options}",
            soft_wrap=True,
        )
    return 0


def _stop_run(out: Console, service: Service, place: Place, job: Any) -> list[str]:
    """Cancels a run and the jobs it has started elsewhere, until all have ended."""
    from pipeline.vertex import remote

    run_id = job.name.rsplit("/", 1)[-1]
    clock = remote.WallClock()

    def say(line: str) -> None:
        out.print(line, soft_wrap=True, highlight=False)

    with contextlib.ExitStack() as stack:
        services: list[remote.Jobs] = [stack.enter_context(remote.connect(place, say))]
        if "--runner=DataflowRunner" in str(type(job).pb(job).pipeline_spec):
            services.append(stack.enter_context(remote.connect_dataflow(place, say)))
        over = run_stopper(service, run_id, clock, say)
        return remote.stop_all(services, remote.of_run(run_id), over, clock, say)


def run_stopper(
    service: Service, run_id: str, clock: Any, say: Callable[[str], None]
) -> Callable[[], bool]:
    """Asks for a run's end at each call, now and then; tells whether it has ended."""
    from pipeline.vertex import remote, screen

    asked = -math.inf

    def over() -> bool:
        nonlocal asked
        if screen.run_state(service.run(run_id)) in screen.ENDED:
            return True
        if clock.now() - asked >= remote.REPEAT_SECONDS:
            # Cancelling is a best effort; what changed nothing is asked for again.
            asked = clock.now()
            remote.unless_ended(lambda: service.cancel_run(run_id))
            say(f"run {run_id} is being cancelled")
        return False

    return over


def _follow(out: Console, service: Service, place: Place, run_id: str) -> int:
    from pipeline.console import print_lines
    from pipeline.vertex import screen

    out.print()
    try:
        job = screen.follow(
            out,
            lambda: service.run(run_id),
            _LONGEST_NODE,
            lambda: datetime.datetime.now(datetime.UTC),
            time.sleep,
        )
    except VertexError as error:
        raise VertexError(
            f"{error}. The run goes on without this command: python pipeline.py status "
            f"{run_id} --wait {place.options}"
        ) from error
    now = datetime.datetime.now(datetime.UTC)
    out.print()
    print_lines(out, screen.run_lines(job, place.page("pipelineJobs", run_id), now))
    return 0 if screen.run_state(job) == "SUCCEEDED" else RUN_FAILED


def _show_run(out: Console, job: Any, place: Place) -> None:
    from pipeline.console import print_lines
    from pipeline.vertex import screen

    now = datetime.datetime.now(datetime.UTC)
    page = place.page("pipelineJobs", job.name.rsplit("/", 1)[-1])
    print_lines(out, screen.run_lines(job, page, now))
    found = screen.tasks(job, now)
    if found:
        out.print()
    for task in found:
        out.print(screen.task_line(task, _LONGEST_NODE), soft_wrap=True)


# ---- schedules -----------------------------------------------------------------------


def _schedule_create(
    options: argparse.Namespace, environment: Mapping[str, str]
) -> int:
    from pipeline.console import print_lines
    from pipeline.vertex import screen, timetable

    now = datetime.datetime.now(datetime.UTC)
    times = timetable.timetable(
        options.cron, options.time_zone, options.start, options.end, now
    )
    for name in ("max_concurrent_runs", "max_runs"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= 10_000:
            raise ConfigError(
                f"--{name}={value}: must be a whole number from 1 to 10000"
            )
    wanted = _wanted(options, environment)
    place = places.find(wanted.config.vertex, environment)
    cost.check_budget(wanted.config, wanted.estimate)
    name = options.name or wanted.config.pipeline_name
    _check_schedule_name(name)
    asked = False  # whether the service may know of the schedule
    with _screen() as out, signals.handled(signals.stop):
        try:
            _show_plan(out, wanted)
            with _service(out, place) as service:
                with _step(out, _LOOKING):
                    _refuse_taken(service, place, name)
                job = _compiled(out, wanted)
                from pipeline.vertex.client import schedule_message

                most = options.max_concurrent_runs
                message = schedule_message(
                    place,
                    job,
                    secrets.token_hex(8),
                    display_name=name,
                    cron=times.cron,
                    start_time=times.start,
                    end_time=times.end,
                    max_run_count=options.max_runs,
                    # How many may start at once, and how many may go on.
                    max_concurrent_run_count=most,
                    max_concurrent_active_run_count=most,
                    allow_queueing=options.allow_queueing or None,
                )
                asked = True
                with _step(out, f"{_CREATING} the schedule"):
                    created = service.create_schedule(message)
        except (KeyboardInterrupt, SystemExit) as stop:
            words = "stopped; no schedule was created"
            if asked:
                words = (
                    f"stopped; schedule {name} may exist: python pipeline.py schedule "
                    f"list {place.options}"
                )
            return _interrupted(out, stop, words)
        out.print()
        print_lines(
            out,
            {
                "schedule": name,
                "name": created.name,
                "cron": f"{options.cron} ({options.time_zone})",
                "next run": screen.next_run(created) or "–",
                "console": place.page("schedules", created.name.rsplit("/", 1)[-1]),
                "pause": f"python pipeline.py schedule pause {shlex.quote(name)} "
                f"{place.options}",
            },
        )
    return 0


def _refuse_taken(service: Service, place: Place, name: str) -> None:
    for each in service.schedules(name):
        if each.state.name != "COMPLETED":
            raise VertexError(
                f"schedule {name} exists in project {place.project}, region "
                f"{place.region} ({each.state.name}, {each.cron}); delete it, or give the "
                "new one another --name"
            )


def _schedule_list(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from pipeline.vertex import screen

    _, place = _place(options, environment)
    with _screen() as out:
        with _service(out, place, quiet=True) as service:
            found = service.schedules()
        if found:
            screen.print_table(out, screen.schedule_table(found))
        else:
            out.print(
                f"no schedules in project {place.project}, region {place.region}",
                soft_wrap=True,
            )
    return 0


def _schedule_pause(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    def pause(service: Service, identifier: str) -> str:
        service.pause_schedule(identifier)
        return "is paused; runs that go on go on"

    return _on_schedule(options, environment, pause)


def _schedule_resume(
    options: argparse.Namespace, environment: Mapping[str, str]
) -> int:
    def resume(service: Service, identifier: str) -> str:
        service.resume_schedule(identifier, options.catch_up)
        missed = "the runs that it missed are started" if options.catch_up else ""
        return "goes on" + (f"; {missed}" if missed else "")

    return _on_schedule(options, environment, resume)


def _schedule_delete(
    options: argparse.Namespace, environment: Mapping[str, str]
) -> int:
    def delete(service: Service, identifier: str) -> str:
        service.delete_schedule(identifier)
        return "is deleted; its runs stay"

    return _on_schedule(options, environment, delete)


def _on_schedule(
    options: argparse.Namespace,
    environment: Mapping[str, str],
    act: Callable[[Service, str], str],
) -> int:
    _, place = _place(options, environment, options.schedule, "schedules")
    with _screen() as out:
        with _service(out, place, quiet=True) as service:
            identifier = _schedule_id(service, place, options.schedule)
            words = act(service, identifier)
        out.print(f"schedule {options.schedule} {words}", soft_wrap=True)
    return 0


def _schedule_id(service: Service, place: Place, given: str) -> str:
    _, identifier = places.located(place, "schedules", given, "SCHEDULE")
    if identifier is not None or re.fullmatch("[0-9]+", given):
        return identifier or given
    _check_schedule_name(given)
    found = service.schedules(given)
    if len(found) == 1:
        return found[0].name.rsplit("/", 1)[-1]
    where = f"in project {place.project}, region {place.region}"
    if not found:
        raise VertexError(
            f"schedule {given}: there is none of this name {where}; `schedule list` shows "
            "all"
        )
    ids = ", ".join(each.name.rsplit("/", 1)[-1] for each in found)
    raise VertexError(
        f"schedule {given}: {len(found)} have this name {where}; give one's id: {ids}"
    )


def _check_schedule_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}", name):
        raise ConfigError(
            f"schedule name {name!r}: must be letters, digits, spaces, dots, dashes and "
            "underscores, at most 128"
        )


# ---- what the commands share ---------------------------------------------------------


def _place(
    options: argparse.Namespace,
    environment: Mapping[str, str],
    given: str | None = None,
    collection: str = "pipelineJobs",
) -> tuple[RunConfig, Place]:
    """For commands that need no complete run: where, and what the pipeline is called."""
    texts = dict(map(parse_assignment, assignments(options)))
    what = {"pipelineJobs": "RUN", "schedules": "SCHEDULE"}[collection]
    if given is not None and "/" in given:  # a whole name says where
        place, _ = places.located(Place("", ""), collection, given, what)
        texts |= {"vertex.project": place.project, "vertex.region": place.region}
    config = override(RunConfig(), texts)
    return config, places.find(config.vertex, environment)


def _run_id(place: Place, given: str) -> str:
    _, identifier = places.located(place, "pipelineJobs", given, "RUN")
    return identifier or given


@contextlib.contextmanager
def _screen() -> Iterator[Console]:
    """A console on the real stdout; what libraries print is dropped."""
    from pipeline.console import captured_output, console_on

    with captured_output(os.devnull) as stream:
        yield console_on(stream)


@contextlib.contextmanager
def _step(out: Console, name: str) -> Iterator[None]:
    """Shows that something takes time, and how long it took."""
    from pipeline.console import RunDisplay

    with RunDisplay(out, width=_WIDTH) as display:
        display.start(name)
        try:
            yield
        except BaseException:
            display.end("failed")
            raise
        display.end("done")


@contextlib.contextmanager
def _service(out: Console, place: Place, *, quiet: bool = False) -> Iterator[Service]:
    """The service, once Google's client has loaded."""
    from rich.text import Text

    def say(line: str) -> None:
        out.print(Text(f"    {line}", style="yellow"), soft_wrap=True)

    with contextlib.ExitStack() as stack:
        with out.status("asking Vertex AI") if quiet else _step(out, _LOADING):
            from pipeline.vertex import client

            # Opened here, so that missing credentials are part of the step.
            service = stack.enter_context(client.connect(place, say))
        yield service


def _interrupted(out: Console, stop: BaseException, words: str) -> int:
    out.print(words, style="yellow", soft_wrap=True)
    return int(stop.code or 0) if isinstance(stop, SystemExit) else INTERRUPTED


def _again(command: str, options: argparse.Namespace) -> str:
    """The same values with another command, to copy."""
    words: Sequence[str] = [
        *("python", "pipeline.py", command),
        *(
            word
            for name in ("project", "region")
            if getattr(options, name) is not None
            for word in (f"--{name}", getattr(options, name))
        ),
        *(
            word
            for text in options.runtime_parameter
            for word in ("--runtime_parameter", text)
        ),
    ]
    return shlex.join(words)
