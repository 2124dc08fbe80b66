"""When scheduled runs start: cron expression, time zone, first and last day, checked here.

The service refuses a wrong expression too, but only once there is an account and a
compiled pipeline, and some (0 0 31 2 *) it takes and never runs.

Source of the form: cloud.google.com/scheduler/docs/configuring/cron-job-schedules.
"""

from __future__ import annotations

import datetime
import difflib
import zoneinfo
from dataclasses import dataclass

from cronsim import CronSim, CronSimError

from contract.fields import ConfigError

# Google's names of the fields, cronsim's, and what may stand in them.
_FIELDS = (
    ("minute", "minute", "a number from 0 to 59"),
    ("hour", "hour", "a number from 0 to 23"),
    (
        "day of the month",
        "day-of-month",
        "a number from 1 to 31 that a month of field 4 has",
    ),
    ("month", "month", "a number from 1 to 12 or JAN to DEC"),
    ("day of the week", "day-of-week", "a number from 0 to 7 or SUN to SAT"),
)
# A list of all sixty minutes has 169 characters; int() refuses thousands of digits.
_LONGEST = 200
_EXAMPLE = '"0 3 * * 1" is Mondays at 3:00'


@dataclass(frozen=True)
class Timetable:
    """When the runs of a schedule start."""

    cron: str  # with its time zone, as the service wants it
    start: datetime.datetime | None  # in UTC
    end: datetime.datetime | None


def timetable(
    cron: str,
    time_zone: str,
    start: str | None,
    end: str | None,
    now: datetime.datetime,
) -> Timetable:
    """Checks and converts what a person typed.

    Args:
        cron: Five fields.
        time_zone: IANA name; cron, and start and end without an offset, are read in it.
        start: ISO 8601; None: now.
        end: ISO 8601; None: never.
        now: The present.

    Raises:
        ConfigError: One sentence with option, value, rule and remedy.
    """
    zone = _zone(time_zone)
    expression = check_cron(cron)
    first = _moment("--start", start, zone)
    last = _moment("--end", end, zone)
    if last is not None and last <= max(now, first or now):
        what = "--start" if first is not None and first > now else "now"
        raise ConfigError(f"--end={end}: must be after {what}; no run would ever start")
    return Timetable(f"CRON_TZ={time_zone} {expression}", first, last)


def check_cron(text: str) -> str:
    """Refuses what is no cron expression, or one that no date meets.

    Google's form (unix-cron) is narrower than what cronsim reads: five fields, and no L, W
    or # for a month's last or second Friday.

    Returns:
        The expression with single spaces.

    Raises:
        ConfigError: Which field, and its rule.
    """
    if "TZ=" in text:
        raise ConfigError(
            f"--cron={text}: must not name a time zone; give --time_zone instead"
        )
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ConfigError(
            f"--cron={text}: must be five fields, minute, hour, day of the month, month, "
            f"day of the week, and not {len(parts)}; {_EXAMPLE}"
        )
    short = [part[:_LONGEST] for part in parts]
    wrong = _wrong_field(" ".join(short))
    for part, cut, (name, word, rule) in zip(parts, short, _FIELDS, strict=True):
        if word == wrong or part != cut:
            raise ConfigError(
                f"--cron={text}: {name} {cut!r} is none; give *, {rule}, a range 1-5, a "
                "step */2, or a list of them"
            )
    return " ".join(parts)


def _wrong_field(expression: str) -> str | None:
    """What cronsim calls the first field that Google's form has not."""
    try:
        found = CronSim(expression, datetime.datetime.now(datetime.UTC))
    except CronSimError as error:
        return str(error).removeprefix("Bad ")
    if min(found.days) < 0:  # L, LW
        return "day-of-month"
    if any(isinstance(day, tuple) for day in found.weekdays):  # 5L, FRI#2
        return "day-of-week"
    return None


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        close = difflib.get_close_matches(
            name, zoneinfo.available_timezones(), n=1, cutoff=0.6
        )
        hint = f"; did you mean {close[0]}?" if close else ", such as Europe/Zurich"
        raise ConfigError(
            f"--time_zone={name}: must be a name of the IANA time zone database{hint}"
        ) from None


def _moment(
    option: str, text: str | None, zone: zoneinfo.ZoneInfo
) -> datetime.datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{option}={text}: must be a date and time such as 2027-01-31T06:00 (in "
            "--time_zone) or 2027-01-31T06:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(datetime.UTC)
