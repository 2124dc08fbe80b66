"""The report's figures, as SVG text to be put into the page.

Plain numbers in, SVG out; matplotlib is loaded when the first figure is drawn, so that
importing the report costs nothing.

A figure is one panel, narrow enough for a telephone; the page puts panels beside or below
each other. Colours are the page's CSS variables, so that figures follow its light and dark
schemes. What is told by colour is told by line, marker or words as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from contract.comparison import Bin
from contract.contenders import in_order

# CSS variable of the page -> colour in its light scheme, in which figures are drawn. Those
# of the networks are colour-blind safe (Okabe and Ito).
_INK, _SOFT, _GRID = "#1f2328", "#59616a", "#d5dae0"
_COLOURS = {"baseline": "#0072b2", "candidate": "#d55e00", "in_service": "#009e73"}
COLOURS = {**_COLOURS, "ink": _INK, "soft": _SOFT, "grid": _GRID}
# The same for eyes that do not tell these colours apart, for grey printers, and for the
# page's legend: dashes (on and off, in line widths) and marker.
LINES = {"baseline": (), "candidate": (4, 2), "in_service": (1.2, 1.2)}
MARKERS = {"baseline": "o", "candidate": "s", "in_service": "^"}
_WIDTH = (
    3.6  # inches: as wide as a telephone's screen, where letters are 11 pixels high
)
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # the first is matplotlib's own
    "font.size": 8.5,
    "text.color": _INK,
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


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    networks: Mapping[str, str],
) -> list[str]:
    """Loss and error over epochs, both networks, train (thin) and eval (thick).

    Args:
        histories: Role -> points as of contract.model_run.ModelRun.
        networks: Role -> network name.
    """
    drawn = []
    for title, key, unit, value in (
        ("Cross-entropy", "loss", "", float),
        ("Error, %", "accuracy", " %", lambda accuracy: 100 * (1 - accuracy)),
    ):
        figure, axes = _figure(2.6)
        told = []
        for role, points in histories.items():
            for split, name, width, marker in (
                ("train", key, 0.9, None),
                ("eval", f"eval_{key}", 1.8, MARKERS[role]),
            ):
                there = [point for point in points if name in point]
                values = [value(point[name]) for point in there]
                axes.plot(
                    [point["epoch"] for point in there],
                    values,
                    color=COLOURS[role],
                    linewidth=width,
                    dashes=LINES[role],
                    marker=marker,
                    markersize=4,
                    markevery=max(1, len(there) // 12),
                )
                if values:
                    told.append(
                        f"{networks[role]} ({_words(role)}) on {split} from "
                        f"{values[0]:.3g} to {values[-1]:.3g}{unit}"
                    )
        axes.set(title=title, xlabel="epoch", ylim=(0, None))
        axes.grid(axis="y")
        drawn.append(
            _svg(figure, f"Learning curves, {title.split(',')[0].lower()}", told)
        )
    return drawn


def errors(models: Mapping[str, Any]) -> list[str]:
    """Error rates with their 95 % intervals, a panel for eval and one for test."""
    measured = {
        split: [
            role
            for role in in_order([*models])
            if models[role] and models[role][split]["error"] is not None
        ]
        for split in ("eval", "test")
    }
    most = max(
        (
            models[role][split]["ci95"][1]
            for split, roles in measured.items()
            for role in roles
        ),
        default=1,
    )
    drawn = []
    for split, roles in measured.items():
        if not roles:
            continue
        figure, axes = _figure(0.7 + 0.5 * len(roles))
        told = []
        for row, role in enumerate(roles):
            error = 100 * models[role][split]["error"]
            low, high = (100 * bound for bound in models[role][split]["ci95"])
            axes.errorbar(
                error,
                -row,
                xerr=[[error - low], [high - error]],
                color=COLOURS[role],
                marker=MARKERS[role],
                markersize=6,
                capsize=4,
                linewidth=2,
            )
            axes.annotate(
                f"{error:.2f} %",
                (error, -row),
                (0, 6),
                textcoords="offset points",
                ha="left" if error < 50 * most else "right",
            )
            told.append(
                f"{models[role]['network']} ({_words(role)}) {error:.2f} %, interval "
                f"{low:.1f} to {high:.1f} %"
            )
        names = [f"{models[role]['network']}\n{_words(role)}" for role in roles]
        axes.set_yticks([-row for row in range(len(roles))], names)
        axes.set(title=f"Error on {split}, %", xlim=(0, 100 * most * 1.05))
        axes.set_ylim(0.4 - len(roles), 0.6)
        axes.grid(axis="x")
        drawn.append(_svg(figure, f"Error on {split} with 95 % intervals", told))
    return drawn


def reliability(
    bins: Mapping[str, Sequence[Bin] | None],
    networks: Mapping[str, str],
) -> str:
    """Accuracy against confidence; on the diagonal a network is as good as it says.

    Args:
        bins: Role -> as of contract.comparison.Measures, or None.
        networks: Role -> network name.
    """
    figure, axes = _figure(3.4)
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.8)
    told = []
    for role, rows in bins.items():
        if not rows:
            continue
        most = max(row.examples for row in rows)
        confidence = [row.confidence for row in rows]
        accuracy = [row.accuracy for row in rows]
        # A network may always be right: nothing is clipped.
        axes.plot(
            confidence,
            accuracy,
            color=COLOURS[role],
            linewidth=1.3,
            dashes=LINES[role],
            clip_on=False,
        )
        axes.scatter(
            confidence,
            accuracy,
            s=[8 + 50 * row.examples / most for row in rows],
            color=COLOURS[role],
            marker=MARKERS[role],
            linewidths=0,
            clip_on=False,
        )
        fullest = max(rows, key=lambda row: row.examples)
        told.append(
            f"{networks[role]} ({_words(role)}): of most images it is "
            f"{100 * fullest.confidence:.0f} % sure and right in "
            f"{100 * fullest.accuracy:.0f} %"
        )
    axes.set(
        title="Calibration",
        xlabel="confidence",
        ylabel="accuracy",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.grid()
    return _svg(figure, "Reliability diagram", told)


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


def _words(role: str) -> str:
    """The model in service may have the network of a contender: the role is named too."""
    return role.replace("_", " ")


def _figure(height: float) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(_STYLE)
    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots()


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
