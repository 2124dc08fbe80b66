"""What an alarm starts: a command, at most once per cool-down, and a record of why.

The record is a line of JSON per start in `retrain.jsonl`, written before the command is
started: whoever is killed in between has waited once too often, and never trained twice.
The command's output goes to a file beside it.

If `{labelled}` stands in the command, the folder of the labelled images of the log takes its
place (labelled.py): `pipeline.py run data.extra={labelled}` trains on them, too.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from monitoring import NothingToCompare
from monitoring.labelled import Gathered
from monitoring.monitor import Change, Report

RECORD = "retrain.jsonl"
LABELLED = "{labelled}"


class NotNow(Exception):
    """Nothing is started; the message says why."""


def start(
    command: str,
    folder: Path,
    cool_down_seconds: float,
    report: Report,
    change: Change,
    gather: Callable[[Path], Gathered | None],
) -> subprocess.Popen[bytes]:
    """Starts the command for an alarm.

    Args:
        command: As a shell reads words; no shell runs it. It finds the reason in the
            environment: MONITORING_MODEL, MONITORING_VERSION, MONITORING_WHY (names of
            tests with commas between) and MONITORING_REPORT (monitoring.json).
        folder: Of the record.
        cool_down_seconds: Between two starts, whichever version they are about.
        report: Of which the model is told.
        change: The alarm.
        gather: Called if the command has `LABELLED`: writes the labelled images into a
            folder; None: there are none.

    Raises:
        NotNow: An earlier start is too recent, or there is no labelled image.
        NothingToCompare: The command cannot be started, the record is damaged, or the
            images cannot be gathered.
    """
    now = time.time()
    record = folder / RECORD
    # A start that lies far ahead was written by a clock that has been set back since.
    if abs(now - _last(record)) < cool_down_seconds:
        raise NotNow("the last start is too recent (--cool_down)")
    words = shlex.split(command)
    images = None
    if LABELLED in command:
        place = folder.absolute() / "labelled"
        images = gather(place)
        if images is None or not images.images:
            raise NotNow("no logged image has a label yet (--labels)")
        words = [word.replace(LABELLED, str(place)) for word in words]
    output = folder / f"retrain-{int(now)}.log"
    why = {
        "time": int(now),
        "model": report.model,
        "version": change.version,
        "why": list(change.why),
        "window": change.window.plain(),
        "command": command,
        "output": output.name,
        "labelled_images": images and images.images,
    }
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(why) + "\n")
        file.flush()
        os.fsync(file.fileno())
    environment = os.environ | {
        "MONITORING_MODEL": report.model,
        "MONITORING_VERSION": str(change.version),
        "MONITORING_WHY": ",".join(change.why),
        "MONITORING_REPORT": str((folder / "monitoring.json").absolute()),
    }
    try:
        with output.open("wb") as file:
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # it outlives a monitor that is stopped
            )
    except OSError as problem:
        raise NothingToCompare(
            f"--retrain={command}: it cannot be started: {problem}"
        ) from problem


def _last(record: Path) -> float:
    """Unix seconds of the last start; 0: there was none."""
    try:
        lines = record.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return 0.0
    try:
        return float(json.loads(lines[-1])["time"]) if lines else 0.0
    except (ValueError, KeyError, TypeError) as problem:
        raise NothingToCompare(
            f"{record}: its last line is no start of a command: remove that line; until "
            "then none is started"
        ) from problem
