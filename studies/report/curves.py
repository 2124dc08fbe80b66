"""Learning curves as the papers draw them: training error dashed, held-out error solid.

A panel per row, beside the reference row's in a lighter line; a line per seed. Plain
numbers in, SVG out: text, with a title and a description for screen readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from studies.report.result import RowResult, StudyResult, Trained

_WIDTH, _HEIGHT = 340, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 8, 34
_KEYS = {
    "train": ("accuracy", "training error"),
    "eval": ("eval_accuracy", "held-out error"),
}
_SMOOTHED = 20  # at most so many points of a training curve


def panels(result: StudyResult) -> list[tuple[str, str]]:
    """Title and SVG of each row."""
    last = max(
        (p["step"] for r in result.rows for t in r.trained for p in t.history),
        default=1,
    )
    reference = result.row(result.reference)
    return [
        (row.title, _panel(row, None if row is reference else reference, float(last)))
        for row in result.rows
    ]


def curve(trained: Trained, split: str) -> list[tuple[float, float]]:
    """Steps and errors in %; training errors are means over a twentieth of the run."""
    key, _ = _KEYS[split]
    found = [(p["step"], 100 * (1 - p[key])) for p in trained.history if key in p]
    if split == "eval" or len(found) <= _SMOOTHED:
        return found
    size = -(-len(found) // _SMOOTHED)
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    return [
        (group[-1][0], sum(error for _, error in group) / len(group))
        for group in groups
    ]


def _panel(row: RowResult, reference: RowResult | None, last: float) -> str:
    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last

    def y(error: float) -> float:
        share = min(max(error, 0.0), 100.0) / 100
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        path = " ".join(f"{x(s):.1f},{y(e):.1f}" for s, e in points)
        return f'<polyline class="{style}" points="{path}"/>'

    parts = []
    for error in (0, 25, 50, 75, 100):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(error):.1f}" '
            f'y2="{y(error):.1f}"/><text x="{_LEFT - 5}" y="{y(error) + 4:.1f}" '
            f'text-anchor="end">{error}</text>'
        )
    for step in (0, last / 2, last):
        anchor = "end" if step == last else "middle"
        parts.append(
            f'<text x="{x(step):.1f}" y="{_HEIGHT - 18}" text-anchor="{anchor}">'
            f"{step:,.0f}</text>"
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 3}" '
        'text-anchor="middle">steps</text>'
    )
    for drawn, kind in ((reference, "reference"), (row, "row")):
        for trained in drawn.trained if drawn else ():
            for split in _KEYS:
                if points := curve(trained, split):
                    parts.append(line(points, f"{kind} {split}"))
            if trained.problem is not None and trained.test_error is None:
                parts.append(
                    f'<text class="diverged" x="{min(x(trained.steps), _WIDTH - 12):.1f}" '
                    f'y="{_TOP + 14}" text-anchor="middle">✗</text>'
                )
    name, told = f"curves-{row.name}", escape(_told(row))
    return (
        f'<svg class="curves" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-text"><title id="{name}-title">'
        f"Learning curves of {escape(row.title)}</title>"
        f'<desc id="{name}-text">{told}</desc>{"".join(parts)}</svg>'
    )


def _told(row: RowResult) -> str:
    """The curves in words: where each begins and ends."""
    sentences = []
    for trained in row.trained:
        for split, (_, words) in _KEYS.items():
            if points := curve(trained, split):
                (start, first), (end, last) = points[0], points[-1]
                sentences.append(
                    f"Seed {trained.seed}: {words} from {first:.1f} % at step {start:.0f} to "
                    f"{last:.1f} % at step {end:.0f}."
                )
        if trained.test_error is None:
            sentences.append(f"Seed {trained.seed} diverged at step {trained.steps}.")
    return " ".join(sentences)
