"""Windows of a version's answers, and when they are an alarm.

A window is so many images in their order of arrival. One that differs may be chance, or one
client's folder of night photographs: an alarm is raised when two of the last three differ,
or two together (comparison.of_two), and resolved when two of the last three do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from monitoring.comparison import Window

KEPT, NEEDED = 3, 2

Event = Literal["raised", "resolved"]


@dataclass
class State:
    """Of one version: its last windows, and whether they are an alarm."""

    windows: deque[Window] = field(default_factory=lambda: deque(maxlen=KEPT))
    alarm: bool = False
    judged: int = 0  # windows, of all times
    differing: int = 0
    alarms: int = 0

    def add(self, window: Window) -> Event | None:
        """Takes the next window; says whether the alarm changed."""
        differs = bool(window.differing)
        self.windows.append(window)
        self.judged += 1
        self.differing += differs
        unlike = sum(bool(each.differing) for each in self.windows)
        if not self.alarm and (unlike >= NEEDED or window.of_two):
            self.alarm = True
            self.alarms += 1
            return "raised"
        alike = len(self.windows) - unlike
        if self.alarm and alike >= NEEDED and not window.of_two:
            self.alarm = False
            return "resolved"
        return None

    @property
    def why(self) -> tuple[str, ...]:
        """The tests that differ in the last windows, most often first."""
        names = [
            test.name
            for window in self.windows
            for test in window.tests
            if test.differs
        ]
        return tuple(sorted({*names}, key=lambda name: (-names.count(name), name)))


def cuts(images: int, size: int, fewest: int) -> Sequence[tuple[int, int]]:
    """Where a finished log of one version is cut: the newest windows, oldest first.

    Three windows of `size` images, or three equal smaller ones, or fewer where these would
    have fewer than `fewest` images.

    Args:
        images: That there are.
        size: Of a window, at most.
        fewest: Of a window, at least.

    Returns:
        First and end of each, as of a slice.
    """
    for number in range(KEPT, 0, -1):
        if images // number >= fewest:
            each = min(size, images // number)
            begin = images - number * each
            return [(begin + i * each, begin + (i + 1) * each) for i in range(number)]
    return []
