"""The report's figures, as SVG text to be put into the page.

Plain numbers in, SVG out; matplotlib is loaded when the first figure is drawn, so that
importing the report costs nothing.

A figure is one panel, narrow enough for a telephone; the page puts panels beside or below
each other. Colours are the page's CSS variables, so that figures follow its light and dark
schemes. What is told by colour is told by line, marker or words as well.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.comparison import Bin
from pipeline.report.looks import LOOKS, Look
from pipeline.report.words import signed_points, wrapped

_INK, _SOFT, _GRID = "#1f2328", "#59616a", "#d5dae0"
# CSS variable of the page -> colour in its light scheme, in which figures are drawn.
COLOURS = {name: look.light for name, look in LOOKS.items()} | {
    "ink": _INK,
    "soft": _SOFT,
    "grid": _GRID,
}
_WIDTH = (
    3.6  # inches: as wide as a telephone's screen, where letters are 11 pixels high
)
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # the first is matplotlib's own
    "font.size": 8.5,
    "text.color": _INK,
    "text.parse_math": False,  # a class may be called $5
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "svg.fonttype": "none",  # real text: searchable, and a tenth of the size
    "svg.hashsalt": "report",  # the same numbers give the same file
    "figure.constrained_layout.use": True,
}
_FEW, NAMED = 20, 10  # most classes whose names have room, beside bars, around a square
TOGETHER = 3  # most models whose lines can be followed where each has several
_LONGEST = 18  # characters of a label beside a figure


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A model that figures show."""

    network: str
    title: str  # which model it is: several may have one network
    look: Look
    short: bool = (
        False  # whether figures name it by its title, and a legend tells the rest
    )

    def __str__(self) -> str:
        return f"{self.network} ({self.title})"

    @property
    def label(self) -> str:
        """For the side of a figure, in lines that leave room for it."""
        names = [self.title] if self.short else [self.network, self.title]
        return "\n".join(line for name in names for line in wrapped(name, _LONGEST))


@dataclass(frozen=True)
class _Split:
    name: str
    prefix: str  # of its keys in a history
    width: float  # of its lines
    marked: bool


@dataclass(frozen=True)
class _Curve:
    title: str
    key: str  # in a history, behind the split's prefix
    scale: Callable[[float], float]
    unit: str = ""


_TRAIN, _EVAL = _Split("train", "", 0.9, False), _Split("eval", "eval_", 1.8, True)
_LOSS = _Curve("Cross-entropy", "loss", float)
_ERROR = _Curve("Error, %", "accuracy", lambda share: 100 * (1 - share), " %")


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    models: Mapping[str, Drawn],
) -> list[str]:
    """Loss and error over epochs: train (thin) and eval (thick).

    Of few models both splits stand in one panel; of more, each in a panel of its own.

    Args:
        histories: Name -> points as of contract.model_run.ModelRun.
        models: Those to draw, by name.
    """
    panels = [(_EVAL,), (_TRAIN,)] if len(histories) > TOGETHER else [(_TRAIN, _EVAL)]
    drawn = []
    for splits in panels:
        of = f", {splits[0].name}" if len(splits) == 1 else ""
        for curve in (_LOSS, _ERROR):
            figure, axes = _figure(2.6)
            told = [
                sentence
                for name, points in histories.items()
                for split in splits
                if (sentence := _line(axes, points, models[name], split, curve))
            ]
            axes.set(title=f"{curve.title}{of}", xlabel="epoch", ylim=(0, None))
            axes.grid(axis="y")
            name = f"Learning curves, {curve.title.split(',')[0].lower()}{of}"
            drawn.append(_svg(figure, name, told))
    return drawn


def _line(
    axes: Any,
    points: Sequence[Mapping[str, float]],
    model: Drawn,
    split: _Split,
    curve: _Curve,
) -> str | None:
    """Draws a line and tells its ends; None if there is none."""
    key = split.prefix + curve.key
    there = [point for point in points if key in point]
    values = [curve.scale(point[key]) for point in there]
    axes.plot(
        [point["epoch"] for point in there],
        values,
        color=model.look.light,
        linewidth=split.width,
        dashes=model.look.dashes,
        marker=model.look.marker if split.marked else None,
        markersize=4,
        markevery=max(1, len(there) // 12),
    )
    if not values:
        return None
    unit = curve.unit
    last = f"{values[-1]:.3g}{unit}" if math.isfinite(values[-1]) else "no number"
    return f"{model} on {split.name} from {values[0]:.3g} to {last}"


def errors(
    measured: Mapping[str, Mapping[str, Any]], models: Mapping[str, Drawn]
) -> list[str]:
    """Error rates with their 95 % intervals, a panel for eval and one for test.

    Args:
        measured: Name -> "eval" and "test" -> error and ci95, None if not measured.
        models: Those to draw, by name.
    """
    splits = {
        split: {
            name: (100 * rate["error"], [100 * bound for bound in rate["ci95"]])
            for name in models
            if (rate := measured[name][split])["error"] is not None
        }
        for split in ("eval", "test")
    }
    most = max(
        (high for rates in splits.values() for _, (_, high) in rates.values()),
        default=100,
    )
    drawn = []
    for split, rates in splits.items():
        if not rates:
            continue
        figure, axes = _intervals(
            rates,
            models,
            lambda error: f"{error:.2f} %",
            lambda error: "left" if error < most / 2 else "right",
        )
        axes.set(title=f"Error on {split}, %", xlim=(0, most * 1.05))
        told = [
            f"{models[name]} {error:.2f} %, interval {low:.1f} to {high:.1f} %"
            for name, (error, (low, high)) in rates.items()
        ]
        drawn.append(_svg(figure, f"Error on {split} with 95 % intervals", told))
    return drawn


def differences(
    found: Mapping[str, tuple[float, Sequence[float]]],
    models: Mapping[str, Drawn],
    to: str,
) -> str:
    """Differences of error rates with their intervals, and where there is none.

    Args:
        found: Name -> difference and the ends of its interval, fractions.
        models: Those to draw, by name.
        to: What they are differences to, in words.
    """
    rows = {
        name: (100 * difference, [100 * bound for bound in ends])
        for name, (difference, ends) in found.items()
        if name in models
    }
    reach = max((abs(end) for _, ends in rows.values() for end in ends), default=1)
    figure, axes = _intervals(
        rows,
        models,
        _signed,
        lambda points: "left" if points < 0 else "right",
    )
    axes.axvline(0, color=_SOFT, linewidth=0.8, zorder=0)
    axes.set(title=f"Minus {to}, points", xlim=(-1.08 * reach, 1.08 * reach))
    told = [
        f"{models[name]} {_signed(points)}, interval {_signed(low)} to {_signed(high)}"
        for name, (points, (low, high)) in rows.items()
    ]
    return _svg(figure, f"Differences to {to} in points of error", told)


def _signed(points: float) -> str:
    return signed_points(points / 100)


def _intervals(
    rows: Mapping[str, tuple[float, Sequence[float]]],
    models: Mapping[str, Drawn],
    words: Callable[[float], str],
    side: Callable[[float], str],
) -> tuple[Any, Any]:
    """A row for each: its value with its interval, and its value in words on one side."""
    figure, axes = _figure(0.7 + 0.5 * len(rows))
    for row, (name, (value, (low, high))) in enumerate(rows.items()):
        look = models[name].look
        axes.errorbar(
            value,
            -row,
            xerr=[[value - low], [high - value]],
            color=look.light,
            marker=look.marker,
            markersize=6,
            capsize=4,
            linewidth=2,
        )
        axes.annotate(
            words(value),
            (value, -row),
            (0, 6),
            textcoords="offset points",
            ha=side(value),
        )
    axes.set_yticks(
        [-row for row in range(len(rows))], [models[name].label for name in rows]
    )
    axes.set_ylim(0.4 - len(rows), 0.6)
    axes.grid(axis="x")
    return figure, axes


def reliability(
    bins: Mapping[str, Sequence[Bin] | None], models: Mapping[str, Drawn]
) -> str:
    """Accuracy against confidence; on the diagonal a network is as good as it says.

    Of few models all stand in one panel; of more, each in a small one of its own.

    Args:
        bins: Name -> as of contract.comparison.Measures, or None.
        models: Those to draw, by name.
    """
    found = {name: rows for name in models if (rows := bins[name])}
    if len(models) <= TOGETHER:
        figure, axes = _figure(3.4)
        panels = dict.fromkeys(found, axes)
        axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy")
        _square(axes)
    else:
        lines = max(1, -(-len(found) // 2))
        figure, grid = _figure(
            0.3 + 1.75 * lines, rows=lines, columns=2, sharex=True, sharey=True
        )
        panels = dict(zip(found, grid.flat, strict=False))
        for axes in list(grid.flat)[len(found) :]:
            axes.set_visible(False)
        for name, axes in panels.items():
            axes.set_title(models[name].label, fontsize=8)
            axes.tick_params(labelleft=True, labelbottom=True)
            _square(axes)
        figure.supxlabel("confidence", fontsize=8.5, color=_SOFT)
        figure.supylabel("accuracy", fontsize=8.5, color=_SOFT)
    told = []
    for name, rows in found.items():
        _bins(panels[name], rows, models[name].look)
        fullest = max(rows, key=lambda row: row.examples)
        told.append(
            f"{models[name]}: of most images it is {100 * fullest.confidence:.0f} % sure "
            f"and right in {100 * fullest.accuracy:.0f} %"
        )
    return _svg(figure, "Reliability diagram", told)


def _square(axes: Any) -> None:
    """Two shares, and where they are equal."""
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.grid()


def _bins(axes: Any, rows: Sequence[Bin], look: Look) -> None:
    most = max(row.examples for row in rows)
    confidence = [row.confidence for row in rows]
    accuracy = [row.accuracy for row in rows]
    # A network may always be right: nothing is clipped.
    axes.plot(
        confidence,
        accuracy,
        color=look.light,
        linewidth=1.3,
        dashes=look.dashes,
        clip_on=False,
    )
    axes.scatter(
        confidence,
        accuracy,
        s=[8 + 50 * row.examples / most for row in rows],
        color=look.light,
        marker=look.marker,
        linewidths=0,
        clip_on=False,
    )


def class_balance(
    counts: Mapping[str, Sequence[int]], classes: Sequence[str]
) -> list[str]:
    """Images per class as bars, a panel for each split."""
    drawn = []
    for split, numbers in counts.items():
        places = range(len(numbers))
        if len(classes) <= _FEW:
            figure, axes = _figure(0.5 + 0.2 * len(classes))
            bars = axes.barh(places, numbers, 0.7, color=_SOFT)
            axes.bar_label(bars, [f"{number:,}" for number in numbers], padding=2)
            axes.set_yticks(places, classes)
            axes.invert_yaxis()
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, labelbottom=False)
            axes.set_xlim(0, 1.2 * max(*numbers, 1))
        else:
            figure, axes = _figure(2.2)
            axes.bar(places, numbers, 0.8, color=_SOFT)
            axes.set_xlabel("class, by its number")
            axes.grid(axis="y")
        axes.set_title(f"{split}: {sum(numbers):,} images")
        told = [
            f"{min(numbers):,} to {max(numbers):,} images in each of "
            f"{len(numbers)} classes"
        ]
        drawn.append(_svg(figure, f"Images of {split} by class", told))
    return drawn


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows: true class; columns: predicted class; depth of colour: share of the row."""
    import numpy as np

    matrix = np.asarray(counts)
    classes = classes[: len(matrix)]  # the last ones may not occur at all
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= NAMED
    figure, axes = _figure(3.4)
    # One colour, ever less transparent: right on light and dark, and never so deep that
    # the numbers on it are hard to read.
    colour = np.zeros((*matrix.shape, 4))
    colour[..., :3] = np.array([0x00, 0x72, 0xB2]) / 255
    colour[..., 3] = 0.75 * shares
    axes.imshow(colour, interpolation="nearest")
    axes.spines[:].set_visible(False)
    if few:
        short = max(map(len, classes), default=0) <= 3
        slant = {} if short else {"rotation": 45, "ha": "right"}
        axes.set_xticks(range(len(classes)), classes, **slant)
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(length=0)
        for row, column in zip(*matrix.nonzero(), strict=True):
            axes.text(
                column,
                row,
                f"{matrix[row, column]}",
                ha="center",
                va="center",
                fontsize=7.5,
            )
    else:
        axes.locator_params(integer=True)
    by = "" if few else ", by its number"
    axes.set(title="Confusion", xlabel=f"predicted class{by}", ylabel=f"true class{by}")
    told = [
        f"{count:,} of {classes[row]} taken for {classes[column]}"
        for row, column, count in most_confused(counts)
    ]
    return _svg(figure, "Confusion matrix, most frequent mistakes", told)


def most_confused(
    counts: Sequence[Sequence[int]], most: int = 5
) -> list[tuple[int, int, int]]:
    """The commonest mistakes: true class, predicted class, how often."""
    mistakes = [
        (row, column, count)
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if count and row != column
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:most]


def _figure(
    height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(_STYLE)
    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots(rows, columns, **options)


def _svg(figure: Any, title: str, told: Sequence[str]) -> str:
    """The drawing as part of a page: of flexible size, in its colours, told in words."""
    from markupsafe import escape

    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
    )
    text = buffer.getvalue()
    head, _, body = text[text.index("<svg") :].partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    for name, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    # Identifiers must be unique in the page that holds several drawings.
    prefix = re.sub(r"\W+", "-", title.lower()) + "-"
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'href="#', f'href="#{prefix}', body)
    body = body.replace("url(#", f"url(#{prefix}")
    words = escape(f"{title}: {'; '.join(told)}" if told else title)
    return (
        f'<svg role="img" aria-label="{words}" {box[0]} '
        'xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )
