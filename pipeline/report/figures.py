"""The report's figures, as SVG text to be put into the page.

Plain numbers in, SVG out; matplotlib is loaded when the first figure is drawn, so that
importing the report costs nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Colour-blind safe (Okabe and Ito).
COLOURS = {"baseline": "#0072B2", "candidate": "#D55E00", "in_service": "#009E73"}
_SPLIT_COLOURS = {"train": "#56B4E9", "eval": "#E69F00", "test": "#999999"}
_ROLES = ("baseline", "candidate", "in_service")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "svg.fonttype": "none",  # real text: searchable, and a tenth of the size
    "svg.hashsalt": "report",  # the same numbers give the same file
    "figure.constrained_layout.use": True,
}


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    networks: Mapping[str, str],
) -> str:
    """Loss and error over epochs, both networks, train (thin) and eval (thick).

    Args:
        histories: Role -> points as `trainer.fit.Outcome.history`.
        networks: Role -> network name, for the legend.
    """
    figure, (loss_axes, error_axes) = _figure((9.2, 3.2), columns=2)
    for role in histories:
        colour = COLOURS[role]
        train = [p for p in histories[role] if "loss" in p]
        evaluated = [p for p in histories[role] if "eval_loss" in p]
        label = networks[role]
        for axes, key, value in (
            (loss_axes, "loss", lambda p, k: p[k]),
            (error_axes, "accuracy", lambda p, k: 100 * (1 - p[k])),
        ):
            axes.plot(
                [p["epoch"] for p in train],
                [value(p, key) for p in train],
                color=colour,
                linewidth=0.9,
                alpha=0.55,
                label=f"{label}, train",
            )
            axes.plot(
                [p["epoch"] for p in evaluated],
                [value(p, f"eval_{key}") for p in evaluated],
                color=colour,
                linewidth=2,
                marker="o",
                markersize=3.5,
                label=f"{label}, eval",
            )
    loss_axes.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    error_axes.set(xlabel="epoch", ylabel="error, %", ylim=(0, None))
    for axes in (loss_axes, error_axes):
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.7)
    error_axes.legend(frameon=False, fontsize=8.5)
    return _svg(figure, "Learning curves")


def errors(models: Mapping[str, Any]) -> str:
    """Error rates with their 95 % intervals, eval and test, one row each."""
    roles = [role for role in _ROLES if models[role]]
    figure, axes = _figure((9.2, 0.8 + 0.6 * len(roles)))
    ticks, labels = [], []
    row = 0
    for split in ("eval", "test"):
        for role in roles:
            measured = models[role][split]
            if measured["error"] is None:
                continue
            error = 100 * measured["error"]
            low, high = (100 * bound for bound in measured["ci95"])
            axes.errorbar(
                error,
                -row,
                xerr=[[error - low], [high - error]],
                color=COLOURS[role],
                marker="o",
                capsize=4,
                linewidth=2,
            )
            ticks.append(-row)
            labels.append(f"{models[role]['network']}, {_words(role)}, {split}")
            row += 1
    axes.set_yticks(ticks, labels)
    axes.set(xlabel="error, % (95 % interval)", xlim=(0, None))
    axes.set_ylim(-row + 0.4, 0.6)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.7)
    return _svg(figure, "Error rates with confidence intervals")


def reliability(
    bins: Mapping[str, Sequence[Mapping[str, float]] | None],
    networks: Mapping[str, str],
) -> str:
    """Accuracy against confidence; on the diagonal a network is as good as it says.

    Args:
        bins: Role -> rows of `components.evaluator.calibration.reliability`, or None.
        networks: Role -> network name, for the legend.
    """
    figure, axes = _figure((4.8, 4.2))
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    for role, rows in bins.items():
        if not rows:
            continue
        most = max(row["examples"] for row in rows)
        axes.plot(
            [row["confidence"] for row in rows],
            [row["accuracy"] for row in rows],
            color=COLOURS[role],
            linewidth=1.3,
            clip_on=False,  # a network may always be right
            label=f"{networks[role]}, {_words(role)}",
        )
        axes.scatter(
            [row["confidence"] for row in rows],
            [row["accuracy"] for row in rows],
            s=[4 + 60 * row["examples"] / most for row in rows],
            color=COLOURS[role],
            linewidths=0,
            clip_on=False,
        )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.grid(color="#e5e5e5", linewidth=0.7)
    if any(bins.values()):
        axes.legend(frameon=False, fontsize=8.5)
    return _svg(figure, "Reliability diagram")


def class_balance(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> str:
    """Images per class in each split, as bars."""
    figure, axes = _figure((9.2, 2.6))
    width = 0.8 / len(counts)
    for position, (split, numbers) in enumerate(counts.items()):
        places = [i - 0.4 + width * (position + 0.5) for i in range(len(numbers))]
        axes.bar(places, numbers, width, color=_SPLIT_COLOURS[split], label=split)
    if len(classes) <= 20:
        axes.set_xticks(range(len(classes)), classes, **_slanted(classes, 30))
    else:
        axes.set_xlabel("class index")
    axes.set_ylabel("images")
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return _svg(figure, "Class balance")


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows: true class; columns: predicted class; colour: share of the row."""
    import numpy as np

    matrix = np.asarray(counts)
    classes = classes[: len(matrix)]  # the last ones may not occur at all
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= 20
    figure, axes = _figure((5.2, 4.6) if few else (6.4, 5.8))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.spines[:].set_visible(False)
    if few:
        axes.set_xticks(range(len(classes)), classes, **_slanted(classes, 45))
        axes.set_yticks(range(len(classes)), classes)
        for row, column in zip(*matrix.nonzero(), strict=True):
            axes.text(
                column,
                row,
                f"{matrix[row, column]}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if shares[row, column] > 0.5 else "#333333",
            )
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    return _svg(figure, "Confusion matrix")


def _words(role: str) -> str:
    """The model in service may have the network of a contender: the role is named too."""
    return role.replace("_", " ")


def _slanted(labels: Sequence[str], degrees: int) -> dict[str, Any]:
    """How to set labels below an axis: slanted only if they would overlap."""
    short = max(map(len, labels), default=0) <= 3
    return {} if short else {"rotation": degrees, "ha": "right"}


def _figure(size: tuple[float, float], columns: int = 1) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(_STYLE)
    figure = Figure(figsize=size)
    return figure, figure.subplots(1, columns)


def _svg(figure: Any, title: str) -> str:
    """The drawing without XML prologue, labelled for screen readers, of flexible size."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'<svg ([^>]*?)width="([\d.]+)pt" ([^>]*?)height="[\d.]+pt"|<svg ([^>]*?)'
        r'height="[\d.]+pt" ([^>]*?)width="([\d.]+)pt"',
        lambda m: (
            f'<svg role="img" aria-label="{title}" style="max-width: '
            f'{float(m[2] or m[6]) * 4 / 3:.0f}px" '
            f"{m[1] or m[4] or ''}{m[3] or m[5] or ''}"
        ),
        text,
        count=1,
    )
    # Identifiers must be unique in the page that holds several drawings.
    prefix = re.sub(r"\W+", "-", title.lower()) + "-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    return text.replace("url(#", f"url(#{prefix}")
