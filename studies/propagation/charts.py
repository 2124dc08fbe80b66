"""Line charts of signals along a network, as SVG text for the page.

Plain numbers in, SVG out. Colours are the page's CSS variables, which are the report's; what
is told by colour is told by the kind of line as well, and by words for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pipeline.report.looks import LOOKS, Look

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 36
# In this order: solid for the first, then ever other dashes.
ORDER: tuple[Look, ...] = tuple(LOOKS.values())

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """A scale: what its numbers mean, and whether it is logarithmic."""

    title: str
    logarithmic: bool = False


def chart(
    name: str,
    series: Mapping[str, Points],
    x: Axis,
    y: Axis,
    line_at: float | None = None,
) -> str:
    """One panel.

    Args:
        name: Title for screen readers; unique in the page.
        series: Name -> points; at most as many as there are looks.
        x: From the first to the last number.
        y: The same; a logarithmic one leaves out what is not above zero.
        line_at: A horizontal line at this height.
    """
    drawn = {
        label: [
            (_scaled(a, x), _scaled(b, y))
            for a, b in points
            if math.isfinite(b) and (b > 0 or not y.logarithmic)
        ]
        for label, points in series.items()
    }
    heights = [b for points in drawn.values() for _, b in points]
    if line_at is not None:
        heights.append(_scaled(line_at, y))
    widths = [a for points in drawn.values() for a, _ in points]
    y_ticks = _ticks(min(heights, default=0), max(heights, default=1), y)
    x_ticks = _ticks(min(widths, default=0), max(widths, default=1), x)
    low, high = min(y_ticks[0], *heights), max(y_ticks[-1], *heights)
    left, right = min(widths), max(widths)

    def across(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - left) / (right - left or 1)

    def up(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low or 1)

    parts = []
    for tick in y_ticks:
        at = up(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" '
            f'y2="{at:.1f}"/><text x="{_LEFT - 6}" y="{at + 4:.1f}" '
            f'text-anchor="end">{_label(tick, y)}</text>'
        )
    for tick in x_ticks:
        if left <= tick <= right:
            parts.append(
                f'<text x="{across(tick):.1f}" y="{_HEIGHT - 20}" '
                f'text-anchor="middle">{_label(tick, x)}</text>'
            )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" '
        f'text-anchor="middle">{escape(x.title)}</text>'
    )
    if line_at is not None:
        at = up(_scaled(line_at, y))
        parts.append(
            f'<line class="held" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" '
            f'y2="{at:.1f}"/>'
        )
    for look, points in zip(ORDER, drawn.values(), strict=False):
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        parts.append(
            f'<polyline points="{path}" stroke="var(--{look.name})"{_dashes(look)}/>'
        )
    words = escape(f"{name}. {_told(series)}", quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{words}">{"".join(parts)}</svg>'
    )


def keys(names: Sequence[str]) -> list[tuple[str, str]]:
    """A legend: each name with a piece of its line, as SVG."""
    return [
        (
            name,
            '<svg class="key" viewBox="0 0 40 10" aria-hidden="true"><line x1="0" x2="40" '
            f'y1="5" y2="5" stroke="var(--{look.name})"{_dashes(look)}/></svg>',
        )
        for name, look in zip(names, ORDER, strict=False)
    ]


def _dashes(look: Look) -> str:
    if not look.dashes:
        return ""
    return f' stroke-dasharray="{" ".join(f"{2 * dash:g}" for dash in look.dashes)}"'


def _scaled(value: float, axis: Axis) -> float:
    return math.log10(value) if axis.logarithmic else value


def _label(tick: float, axis: Axis) -> str:
    if axis.logarithmic:
        power = round(tick)
        return {0: "1", 1: "10"}.get(
            power, f'10<tspan dy="-4" font-size="8">{power}</tspan>'.replace("-4", "@")
            .replace("-", "−").replace("@", "-4"),
        )  # fmt: skip
    return f"{tick:.10g}"


def _ticks(low: float, high: float, axis: Axis) -> list[float]:
    """Some five round numbers that span the values."""
    if axis.logarithmic:
        first, last = math.floor(low), math.ceil(high)
        step = max(1, math.ceil((last - first) / 5))
        return [float(t) for t in range(first, last + step, step)]
    span = high - low or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= 6)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(t * step, 12) for t in range(first, last + 1)]


def _told(series: Mapping[str, Points]) -> str:
    return " ".join(
        f"{label}: from {points[0][1]:.3g} at {points[0][0]:.3g} to "
        f"{points[-1][1]:.3g} at {points[-1][0]:.3g}."
        for label, points in series.items()
        if points
    )
