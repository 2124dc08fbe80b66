"""When scheduled runs start: cron expression, time zone, first and last day, checked here.

The service refuses a wrong expression too, but only once there is an account and a
compiled pipeline, and some (0 0 31 2 *) it takes and never runs. Standard library only.
"""

from __future__ import annotations

import datetime
import difflib
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass

from contract.fields import ConfigError


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    words: Mapping[str, int]


def _named(words: str, first: int) -> dict[str, int]:
    return {word: number for number, word in enumerate(words.split(), first)}


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of the month", 1, 31, {}),
    _Field(
        "month", 1, 12, _named("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1)
    ),
    _Field("day of the week", 0, 7, _named("SUN MON TUE WED THU FRI SAT", 0)),
)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # at most, by month
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
    values = [
        set().union(*(_values(field, entry, text) for entry in part.split(",")))
        for field, part in zip(_FIELDS, parts, strict=True)
    ]
    days, months = values[2], values[3]
    # A day of the week, if one is given, is enough.
    if parts[4].startswith("*") and not any(
        day <= _DAYS[month - 1] for month in months for day in days
    ):
        raise ConfigError(
            f"--cron={text}: no month of field 4 has a day of field 3; no run would ever "
            "start"
        )
    return " ".join(parts)


def _values(field: _Field, entry: str, text: str) -> set[int]:
    """The numbers that one entry of a list stands for: *, 5, 1-5, */10, 1-31/2."""

    def refuse(why: str) -> ConfigError:
        words = f" or {', '.join(field.words)}" if field.words else ""
        return ConfigError(
            f"--cron={text}: {field.name} {entry!r} {why}; give *, a number from "
            f"{field.low} to {field.high}{words}, a range 1-5, a step */2, or a list of "
            "them"
        )

    def number(word: str) -> int:
        value = field.words.get(word.upper(), -1)
        if re.fullmatch("[0-9]{1,4}", word):
            value = int(word)
        elif value < 0:
            raise refuse("is not known")
        if not field.low <= value <= field.high:
            raise refuse("is out of range")
        return value

    span, slash, step = entry.partition("/")
    if slash and not re.fullmatch("[1-9][0-9]{0,3}", step):
        raise refuse("has no step after the slash")
    if span == "*":
        low, high = field.low, field.high
    else:
        first, dash, last = span.partition("-")
        low = number(first)
        high = number(last) if dash else (field.high if slash else low)
    if low > high:
        raise refuse("runs backwards")
    return set(range(low, high + 1, int(step or 1)))


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
