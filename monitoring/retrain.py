"""What an alarm starts: a command, at most once per cool-down, and a record of why.

The record is a line of JSON per start in `retrain.jsonl`, written before the command is
started: whoever is killed in between has waited once too often, and never trained twice.
The command's output goes to a file beside it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

from monitoring import NothingToCompare
from monitoring.monitor import Change, Report

RECORD = "retrain.jsonl"


def start(
    command: str, folder: Path, cool_down_seconds: float, report: Report, change: Change
) -> subprocess.Popen[bytes] | None:
    """Starts the command for an alarm; None: an earlier start is too recent.

    Args:
        command: As a shell reads words; no shell runs it. It finds the reason in the
            environment: MONITORING_MODEL, MONITORING_VERSION, MONITORING_WHY (names of
            tests with commas between) and MONITORING_REPORT (monitoring.json).
        folder: Of the record.
        cool_down_seconds: Between two starts, whichever version they are about.
        report: Of which the model is told.
        change: The alarm.

    Raises:
        NothingToCompare: The command cannot be started, or the record is damaged.
    """
    now = time.time()
    record = folder / RECORD
    if now - _last(record) < cool_down_seconds:
        return None
    output = folder / f"retrain-{int(now)}.log"
    why = {
        "time": int(now),
        "model": report.model,
        "version": change.version,
        "why": list(change.why),
        "window": change.window.plain(),
        "command": command,
        "output": output.name,
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
                shlex.split(command),
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
