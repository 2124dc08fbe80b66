"""When scheduled runs start: what is taken, what is refused, in which time zone."""

import datetime

import pytest

from contract.fields import ConfigError
from pipeline.vertex.timetable import check_cron, timetable

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)


def utc(*parts):
    return datetime.datetime(*parts, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("0 3 * * 1", "*/15 * * * *", "0 0 1,15 * *", "30 6-18/2 * JAN-MAR mon,FRI"),
        *("0 0 29 2 *", "5/10 * * * 7", "0 0 31 2 1", "59 23 31 12 0"),
    ],
)
def test_expressions_that_some_moment_meets_are_taken(text):
    assert check_cron(text) == text


def test_spaces_are_single():
    assert check_cron("  0  3 * *   1 ") == "0 3 * * 1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 3 * *", "must be five fields"),
        ("0 0 3 * * 1", "and not 6"),
        ("60 3 * * 1", "minute '60' is none; give *, a number from 0 to 59, a range"),
        ("0 24 * * 1", "hour '24' is none"),
        ("0 3 0 * *", "day of the month '0' is none"),
        ("0 3 * 13 *", "month '13' is none"),
        (
            "0 3 * * 8",
            "day of the week '8' is none; give *, a number from 0 to 7 or SUN",
        ),
        ("0 3 * * MOO", "day of the week 'MOO' is none"),
        ("0 3 * * ?", "'?' is none"),
        ("-5 3 * * *", "minute '-5' is none"),
        ("0 18-6 * * *", "hour '18-6' is none"),
        ("*/0 * * * *", "minute '*/0' is none"),
        ("1, * * * *", "minute '1,' is none"),
        ("٣ * * * *", "minute '٣' is none"),
        (f"{'9' * 5000} * * * *", "is none; give *, a number from 0 to 59"),
        ("@daily", "must be five fields"),
        (
            "0 0 31 2,4,6 *",
            "day of the month '31' is none; give *, a number from 1 to 31 ",
        ),
        # What other crons know besides, and Google's does not.
        ("0 0 L * *", "day of the month 'L' is none"),
        ("0 0 1,LW * *", "day of the month '1,LW' is none"),
        ("0 0 * * 5L", "day of the week '5L' is none"),
        ("0 0 * * MON,FRI#2", "day of the week 'MON,FRI#2' is none"),
        ("CRON_TZ=UTC 0 3 * * 1", "give --time_zone instead"),
    ],
)
def test_other_expressions_are_refused_by_name(text, words):
    with pytest.raises(ConfigError, match="^--cron=") as refused:
        check_cron(text)
    assert words in str(refused.value)


def test_times_without_an_offset_are_of_the_time_zone():
    found = timetable(
        "0 3 * * 1", "Europe/Zurich", "2027-01-31T06:00", "2027-07-31T06:00", NOW
    )
    assert found.cron == "CRON_TZ=Europe/Zurich 0 3 * * 1"
    # One hour before UTC in winter, two in summer.
    assert found.start == utc(2027, 1, 31, 5)
    assert found.end == utc(2027, 7, 31, 4)


def test_times_with_an_offset_are_what_they_say():
    found = timetable(
        "0 3 * * 1", "Asia/Tokyo", "2027-01-31T06:00Z", "2027-02-01T06:00+02:00", NOW
    )
    assert (found.start, found.end) == (utc(2027, 1, 31, 6), utc(2027, 2, 1, 4))


@pytest.mark.parametrize(
    ("zone", "start", "end", "words"),
    [
        ("Europe/Zürich", None, None, "did you mean Europe/Zurich?"),
        ("../../etc/passwd", None, None, "must be a name of the IANA"),
        ("UTC", "tomorrow", None, "--start=tomorrow: must be a date and time"),
        ("UTC", None, "2027-13-01", "--end=2027-13-01: must be a date and time"),
        ("UTC", None, "2026-11-21T12:00", "must be after now"),
        ("UTC", "2027-02-01", "2027-01-01", "must be after --start"),
        # Noon in Kiritimati is ten at night the day before in UTC.
        ("Pacific/Kiritimati", None, "2026-11-22T01:00", "must be after now"),
    ],
)
def test_wrong_zones_and_times_are_refused(zone, start, end, words):
    with pytest.raises(ConfigError) as refused:
        timetable("0 3 * * 1", zone, start, end, NOW)
    assert words in str(refused.value)
