"""The loop without its clock: answers in, windows, alarms and one report out.

Windows are judged as answers come in (`take`), or when a log is finished (`finish`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from contract.typed_json import Count, Record, Share
from monitoring import NothingToCompare, feedback
from monitoring.baselines import Baselines
from monitoring.comparison import (
    CHANCE,
    CONFIDENCE,
    Seen,
    Window,
    compare,
    of_two,
    seen,
)
from monitoring.traffic import Answer, Log, Shape, columns
from monitoring.unusual import Unusual, most_unusual
from monitoring.windows import KEPT, Event, State, cuts

SCHEMA = 1
_MOST_REMEMBERED = 1_000_000  # answers whose labels may still come


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is a window, and what may chance do."""

    size: int = 500  # images
    fewest: int = 200  # of the windows of a short log
    chance: float = CHANCE


@dataclass(frozen=True, kw_only=True)
class VersionReport(Record):
    """What is known of one version's live answers."""

    images: Count  # that it was asked about
    windows: tuple[Window, ...]  # the last ones, oldest first
    judged: Count  # windows, since the start
    differing: Count
    alarms: Count  # that were raised, since the start
    alarm: bool
    why: tuple[str, ...]  # tests that differ in these windows
    eval_accuracy: Share | None
    accuracy: feedback.Accuracy | None  # measured, by labels
    unusual: tuple[Unusual, ...]  # images of the last window


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """All of it: monitoring.json."""

    schema: Count = SCHEMA
    made: Count  # Unix seconds
    model: str
    versions: Mapping[str, VersionReport]
    pairs: tuple[feedback.Pair, ...]
    unused: Count  # records that could not be used
    problems: tuple[str, ...]  # sentences: why a version could not be compared


@dataclass(frozen=True)
class Change:
    """An alarm of a version that was raised or resolved."""

    version: int
    event: Event
    why: tuple[str, ...]
    window: Window


@dataclass
class _Version:
    """Of one version."""

    state: State = field(default_factory=State)
    waiting: list[Answer] = field(default_factory=list)  # of no window yet
    seen: Seen | None = None  # of the last window
    images: int = 0
    unusual: list[tuple[Unusual, str]] = field(default_factory=list)
    answered: dict[str, str] = field(default_factory=dict)  # id -> class
    order: deque[str] = field(default_factory=deque)


class Monitor:
    """Watches one model.

    Args:
        baselines: Of its versions.
        places: Folders and files with its request log.
        rules: See there.
        model: As of `traffic.Log`.
        version: The same.
        labels: CSV file of feedback.read_labels, read anew each time; None: there are none.
    """

    def __init__(
        self,
        baselines: Baselines,
        places: Sequence[str],
        rules: Rules,
        *,
        model: str | None = None,
        version: int | None = None,
        labels: str | None = None,
    ):
        self.log = Log(places, self._shape, model, version)
        self.problems: list[str] = []
        self._baselines, self._rules, self._labels = baselines, rules, labels
        self._versions: dict[int, _Version] = {}
        self._model = model or ""

    def take(self) -> list[Change]:
        """Reads what is new in the log and judges the windows that became full."""
        changes = []
        for answer in self.log.new():
            found = self._keep(answer)
            if len(found.waiting) >= self._rules.size:
                window, found.waiting = found.waiting, []
                changes += self._judge(answer.version, window)
        return changes

    def finish(self) -> list[Change]:
        """Reads a log to its end and judges the newest windows of each version."""
        most = KEPT * self._rules.size
        for answer in self.log.new():
            found = self._keep(answer)
            if len(found.waiting) >= 2 * most:  # what is too old frees its memory
                del found.waiting[:-most]
        changes = []
        for version, found in sorted(self._versions.items()):
            answers, found.waiting = found.waiting, []
            parts = cuts(len(answers), self._rules.size, self._rules.fewest)
            if not parts:
                self.problems.append(
                    f"There are {len(answers)} live images of {self.model}, version "
                    f"{version}, but a comparison needs {self._rules.fewest}: wait for "
                    "more, or pass --fewest."
                )
            for first, end in parts:
                changes += self._judge(version, answers[first:end])
        return changes

    @property
    def model(self) -> str:
        """Its name; "" as long as nothing was logged."""
        return self._model or next(iter(self.log.versions), "")

    def report(self) -> Report:
        """What is known now.

        Raises:
            NothingToCompare: The labels cannot be read.
        """
        labels = feedback.read_labels(self._labels) if self._labels else {}
        answered = {v: each.answered for v, each in self._versions.items()}
        baselines = {v: self._baselines.of(self.model, v) for v in self._versions}
        return Report(
            made=int(time.time()),
            model=self.model,
            versions={
                str(version): VersionReport(
                    images=each.images,
                    windows=tuple(each.state.windows),
                    judged=each.state.judged,
                    differing=each.state.differing,
                    alarms=each.state.alarms,
                    alarm=each.state.alarm,
                    why=each.state.why,
                    eval_accuracy=feedback.eval_accuracy(baselines[version]),
                    accuracy=feedback.accuracy(
                        each.answered, labels, baselines[version].class_names
                    ),
                    unusual=tuple(unusual for unusual, _ in each.unusual),
                )
                for version, each in sorted(self._versions.items())
            },
            pairs=feedback.pairs(answered, labels),
            unused=len(self.log.unused),
            problems=tuple(self.problems),
        )

    def pictures(self) -> dict[str, list[str]]:
        """By version, the pictures of the unusual images, in the report's order."""
        return {
            str(version): [picture for _, picture in each.unusual]
            for version, each in self._versions.items()
        }

    def _shape(self, model: str, version: int) -> Shape | None:
        try:
            found = self._baselines.of(model, version)
        except NothingToCompare as problem:
            self.problems.append(str(problem))
            return None
        return found.image_shape or (None, None, 3)

    def _keep(self, answer: Answer) -> _Version:
        found = self._versions.setdefault(answer.version, _Version())
        found.images += 1
        found.waiting.append(answer)
        if self._labels and answer.id:
            if answer.id not in found.answered:
                found.order.append(answer.id)
            found.answered[answer.id] = answer.name
            if len(found.order) > _MOST_REMEMBERED:
                del found.answered[found.order.popleft()]
        return found

    def _judge(self, version: int, answers: Sequence[Answer]) -> Iterable[Change]:
        began = time.perf_counter()
        baseline = self._baselines.of(self.model, version)
        found, live = self._versions[version], columns(answers)
        now = seen(live)
        window = Window(
            images=len(answers),
            first=min(answer.seconds for answer in answers),
            last=max(answer.seconds for answer in answers),
            tests=(
                *compare(baseline, live, self._rules.chance),
                *of_two(baseline, found.seen, now, self._rules.chance),
            ),
            estimated_accuracy=feedback.estimated_accuracy(live[CONFIDENCE], baseline),
            seconds=round(time.perf_counter() - began, 4),
        )
        found.seen = now
        found.unusual = most_unusual(answers, live, baseline)
        event = found.state.add(window)
        if event:
            yield Change(version, event, found.state.why, window)
