"""`python -m monitoring`: do live requests differ from what their model was trained on?

    python -m monitoring once --requests LOG       # a finished log: for cron
    python -m monitoring watch --requests LOG --every 5m
    python -m monitoring labelled --requests LOG --labels CSV --output DIR  # data.extra=DIR

A log holds all models of its server, and their versions: one model is watched, each version
against its own baseline. A version that cannot be compared is named on stderr and passed
over.

Exit status: 0 no alarm, 1 an alarm, 2 no version could be compared, or a failure. `watch`
ends with 0 when it is told to (SIGINT, SIGTERM), `labelled` with 0 or 2.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from contract import whole_file
from monitoring import NothingToCompare
from monitoring.comparison import CHANCE
from serving import quiet

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "labelled":
            return _labelled(options)
        _check_retrain(options)
        return _once(options) if options.command == "once" else _watch(options)
    except (NothingToCompare, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except Exception:  # which would end with 1, and that says alarm
        traceback.print_exc()
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring",
        description="compare logged requests with what their model was trained on",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    once = commands.add_parser("once", help="judge a log as it is, and end")
    watch = commands.add_parser("watch", help="go on, and judge each full window")
    labelled = commands.add_parser(
        "labelled", help="gather the images whose labels are known, for data.extra"
    )
    for command in (once, watch, labelled):
        _add_places(command)
    for command in (once, watch):
        _add_rules(command)
    labelled.add_argument("--labels", required=True, metavar="CSV", help=_LABELS)
    labelled.add_argument(
        "--output", required=True, metavar="DIR",
        help="gets the images, or those that are new",
    )  # fmt: skip
    watch.add_argument(
        "--every", type=_seconds, default=300.0,
        help="how often the log is read: 30s, 5m, 1h (default 5m)",
    )  # fmt: skip
    watch.add_argument(
        "--prometheus_port", type=_port,
        help="serve the metrics on this port of 127.0.0.1 (0: any free one)",
    )  # fmt: skip
    return parser


_LABELS = "labels by example id: columns id and label"


def _check_retrain(options: argparse.Namespace) -> None:
    """What --retrain needs besides."""
    if not options.retrain:
        return
    if not options.output:
        raise NothingToCompare(
            "--retrain needs --output DIR: the record of why and when lies there"
        )
    if "{labelled}" in options.retrain and not options.labels:
        raise NothingToCompare(
            "--retrain with {labelled} needs --labels CSV: by these the images are gathered"
        )
    try:
        words = shlex.split(options.retrain)
    except ValueError as problem:
        raise NothingToCompare(
            f"--retrain={options.retrain}: cannot be read as words ({problem})"
        ) from None
    if not words:
        raise NothingToCompare(f"--retrain={options.retrain!r}: must name a program")


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requests", nargs="+", required=True, metavar="LOG",
        help="the server's --request_log_dir, or files of PredictionLog",
    )  # fmt: skip
    parser.add_argument(
        "--model", help="the model's name; needed if the log has several"
    )
    parser.add_argument(
        "--version", type=int, help="one of its versions instead of each"
    )
    parser.add_argument(
        "--model_base_path", metavar="DIR",
        help="folder of the served versions (default: OUTPUT/serving/MODEL)",
    )  # fmt: skip
    parser.add_argument(
        "--pipeline_output", default="output", metavar="OUTPUT",
        help="output folder of the runs that published the versions",
    )  # fmt: skip


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window", type=_count, default=500, help="images of a window (default 500)"
    )
    parser.add_argument(
        "--fewest", type=_count, default=200,
        help="images of a window where a log has few (default 200)",
    )  # fmt: skip
    parser.add_argument(
        "--chance", type=_chance, default=CHANCE,
        help=f"that an honest window differs (default {CHANCE:g})",
    )  # fmt: skip
    parser.add_argument("--labels", metavar="CSV", help=_LABELS)
    parser.add_argument(
        "--output", metavar="DIR",
        help="gets monitoring.json, monitoring.html and monitoring.prom",
    )  # fmt: skip
    parser.add_argument(
        "--no_pictures", action="store_true", help="no images of users on the page"
    )
    parser.add_argument(
        "--retrain", metavar="COMMAND",
        help="started when an alarm is raised; {labelled} in it stands for the folder of "
        "the labelled images",
    )  # fmt: skip
    parser.add_argument(
        "--cool_down", type=_seconds, default=86400.0,
        help="at least between two starts of that command (default 1d)",
    )  # fmt: skip


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 on")


def _port(text: str) -> int:
    if text.isdecimal() and (number := int(text)) < 1 << 16:
        return number
    raise argparse.ArgumentTypeError(f"{text!r}: must be a port, 0 to 65535")


def _chance(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: must be a number between 0 and 1")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: must be like 30s, 5m, 1h or 2d")
    return float(found[1]) * _UNITS[found[2]]


def _session(options: argparse.Namespace):
    """What judges the log."""
    _prepare(options)
    from monitoring.baselines import Baselines
    from monitoring.monitor import Monitor, Rules

    rules = Rules(
        size=options.window,
        fewest=min(options.fewest, options.window),
        chance=options.chance,
    )
    return Monitor(
        Baselines(options.pipeline_output, options.model_base_path),
        options.requests,
        rules,
        model=options.model,
        version=options.version,
        labels=options.labels,
    )


def _folder(path: str, mode: int = 0o777) -> Path:
    """The folder of --output, made if need be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as problem:
        raise NothingToCompare(
            f"--output={path}: must be a folder, or a path at which one can be made "
            f"({problem.strerror})"
        ) from None
    return Path(path)


def _prepare(options: argparse.Namespace) -> None:
    """Refuses what is not there, then loads what reads it."""
    for place in options.requests:
        if not Path(place).exists():
            raise NothingToCompare(f"{place}: there is no such request log.")
    with quiet.loading_tensorflow():
        import tensorflow  # noqa: F401


def _gather(options: argparse.Namespace, folder: Path):
    """Writes the labelled images of the log; None: there are none."""
    from monitoring import feedback, labelled
    from monitoring.baselines import Baselines

    return labelled.gather(
        folder,
        options.requests,
        Baselines(options.pipeline_output, options.model_base_path),
        feedback.read_labels(options.labels),
        options.model,
        options.version,
    )


def _labelled(options: argparse.Namespace) -> int:
    _prepare(options)
    found = _gather(options, _folder(options.output, 0o700))
    if found is None:
        places = ", ".join(options.requests)
        raise NothingToCompare(
            f"{places}: no logged image has a label in {options.labels}."
        )
    sys.stdout.write(f"{options.output}: {found.sentence}\n")
    return 0 if found.images else 2


def _tell(monitor, changes, options: argparse.Namespace):
    """Writes what is known, starts what an alarm starts; returns the report."""
    from monitoring import gauges, page, retrain, words

    report = monitor.report()
    if options.output:
        folder = _folder(options.output)
        pictures = {} if options.no_pictures else monitor.pictures()
        _put(folder / "monitoring.json", report.to_json(indent=2) + "\n")
        _put(folder / "monitoring.html", page.render(report, pictures))
        _put(folder / "monitoring.prom", gauges.text(report).decode())
    for change in changes:
        sys.stdout.write(f"{words.change(report.model, change)}\n")
        if change.event == "raised" and options.retrain:
            try:
                retrain.start(
                    options.retrain,
                    Path(options.output),
                    options.cool_down,
                    report,
                    change,
                    functools.partial(_gather, options),
                )
            except retrain.NotNow as reason:
                sys.stdout.write(f"nothing is started: {reason}\n")
            else:
                sys.stdout.write(f"started: {options.retrain}\n")
    sys.stdout.flush()
    return report


def _put(path: Path, text: str) -> None:
    """For its owner only: it may show what users sent."""
    whole_file.write(path, text.encode(), 0o600)


def _once(options: argparse.Namespace) -> int:
    monitor = _session(options)
    changes = monitor.finish()
    _say_odd(monitor, 0, 0)
    from monitoring import words

    report = _tell(monitor, changes, options)
    sys.stdout.write(words.report(report))
    versions = report.versions.values()
    if options.labels and versions and not any(each.accuracy for each in versions):
        sys.stderr.write(
            f"{options.labels}: none of its ids is of a logged image; an id is the SHA-256 "
            "of what was sent, in lower-case hexadecimal, or a tf.Example's example_id\n"
        )
    judged = [each for each in versions if each.windows]
    if not judged:
        if not report.problems:
            asked = "" if options.version is None else f" of version {options.version}"
            raise NothingToCompare(
                f"{', '.join(options.requests)}: no logged request{asked} with images or "
                "their classes."
            )
        return 2
    return int(any(each.alarm for each in judged))


def _say_odd(monitor, told: int, odd: int) -> tuple[int, int]:
    """Says the problems that are new; returns how many were said."""
    for problem in monitor.problems[told:]:
        sys.stderr.write(f"{problem}\n")
    unused = monitor.log.unused
    if len(unused) > odd:
        records = "1 record" if len(unused) == 1 else f"{len(unused):,} records"
        sys.stderr.write(f"{records} could not be used: {unused[0]}\n")
    return len(monitor.problems), len(unused)


def _watch(options: argparse.Namespace) -> int:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    monitor = _session(options)
    from monitoring import gauges

    collector = gauges.Collector()
    if options.prometheus_port is not None:
        import prometheus_client

        server, _ = prometheus_client.start_http_server(
            options.prometheus_port, "127.0.0.1", gauges.registry(collector)
        )
        place = f"http://127.0.0.1:{server.server_port}/metrics"
        sys.stdout.write(f"metrics on {place}\n")
    sys.stdout.write("watching\n")
    told, changes = (0, 0), []
    while True:
        try:
            changes += monitor.take()
            told = _say_odd(monitor, *told)
            collector.report = _tell(monitor, changes, options)
            changes.clear()
        except (NothingToCompare, OSError) as problem:
            # What is missing now may be there next time: a mount, a file that is replaced.
            sys.stderr.write(f"{problem}\n")
        if stopped.wait(options.every):
            return 0


if __name__ == "__main__":
    sys.exit(main())
