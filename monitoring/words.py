"""What is printed: a line per test of the newest window, and the verdict."""

from __future__ import annotations

import datetime

from monitoring.feedback import Accuracy
from monitoring.monitor import Change, Report, VersionReport
from monitoring.windows import KEPT, NEEDED

TITLES = {
    "red_blue": "red - blue",
    "green_magenta": "green - rest",
    "one_class": "one class",
    "class_share": "class share",
    "class_share_of_two": "share of two",
}


def title(test: str) -> str:
    """Name of a test, for people."""
    return TITLES.get(test, test)


def clock(seconds: int) -> str:
    """Unix seconds as a date, in UTC."""
    try:
        made = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # a server's clock may say anything
        return f"second {seconds:,}"
    return made.strftime("%Y-%m-%d %H:%M UTC")


def report(found: Report) -> str:
    """The whole text."""
    lines: list[str] = []
    for version, each in found.versions.items():
        if each.windows:
            lines += _version(f"{found.model}, version {version}", each)
    for pair in found.pairs:
        low, high = pair.interval
        lines.append(
            f"version {pair.second} against {pair.first}, on the {pair.images:,} labelled "
            f"images that both answered: accuracy {100 * pair.difference:+.1f} points "
            f"(95 % from {100 * low:+.1f} to {100 * high:+.1f}), p = {pair.p_value:.2g}"
        )
    return "".join(f"{line}\n" for line in lines)


def change(model: str, found: Change) -> str:
    """One line about an alarm."""
    why = ", ".join(map(title, found.why))
    if found.event == "raised":
        return f"ALARM {model}, version {found.version}: {why}"
    return f"resolved {model}, version {found.version}"


def _version(named: str, each: VersionReport) -> list[str]:
    newest = each.windows[-1]
    lines = [
        f"{named}: {newest.images:,} live images, the newest of "
        f"{clock(newest.last)}, against its own baseline"
    ]
    for test in newest.tests:
        lines.append(
            f"  {title(test.name):<12}  {'DIFFERS' if test.differs else 'fine':<7}  "
            f"p {test.p_value:<8.2g} {test.here}; before {test.there}"
        )
    accuracy = each.accuracy
    if accuracy is not None:
        low, high = accuracy.interval
        lines.append(
            f"  accuracy by {accuracy.images:,} label{'s' * (accuracy.images != 1)} "
            f"{accuracy.value:.1%} "
            f"(95 % from {low:.1%} to {high:.1%}){_eval(each)}"
        )
        if accuracy.unknown:
            lines.append(f"  {unknown(accuracy)}")
    elif newest.estimated_accuracy is not None:
        low, value, high = newest.estimated_accuracy
        lines.append(
            f"  accuracy, an estimate by confidence, no measurement: {value:.1%} "
            f"({low:.1%} to {high:.1%}){_eval(each)}"
        )
    unlike = sum(bool(window.differing) for window in each.windows)
    counted = f"{unlike} of the last {len(each.windows)} windows differ"
    if newest.of_two:
        counted += ", and the last two together"
    if each.alarm:
        why = ", ".join(map(title, each.why))
        lines.append(f"ALARM: {counted}, by {why}.")
    else:
        needed = f"; an alarm needs {NEEDED} of {KEPT}" if unlike else ""
        lines.append(f"No alarm: {counted}{needed}.")
    return lines


def unknown(accuracy: Accuracy) -> str:
    """What is odd about labels that the model does not have."""
    return (
        f"{accuracy.unknown:,} of these labels are no class of the model's (such as "
        f"{accuracy.such_as!r:.60}), and the answers count as wrong"
    )


def _eval(each: VersionReport) -> str:
    if each.eval_accuracy is None:
        return ""
    return f"; on the eval images {each.eval_accuracy:.1%}"
