"""The most unusual images of a window: what a person looks at first after an alarm."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.drift.baseline import NUMBERS
from contract.baseline import Baseline
from contract.typed_json import Record, Size
from monitoring.traffic import Answer

_MOST = 12
_SIDE = 96  # pixels of a picture on the page


@dataclass(frozen=True, kw_only=True)
class Unusual(Record):
    """One image."""

    id: str
    name: str  # class that was answered
    confidence: float | None
    number: str  # by which it is unusual
    words: str  # "blurrier"
    distance: Size  # from the training images' median, in their interquartile ranges


def most_unusual(
    answers: Sequence[Answer], live: Mapping[str, np.ndarray], baseline: Baseline
) -> list[tuple[Unusual, str]]:
    """Those farthest from the training images in any number, farthest first.

    Args:
        answers: Of a window.
        live: Their columns.
        baseline: Of the version.

    Returns:
        Each with its picture, a PNG as a data URL.
    """
    names = [name for name in NUMBERS if name in live and name in baseline.numbers]
    if not names:
        return []
    signed = np.stack([_distances(live[name], baseline, name) for name in names])
    farthest = np.nan_to_num(np.abs(signed)).max(axis=0)
    found = []
    for n in np.argsort(-farthest, kind="stable")[:_MOST]:
        answer = answers[n]
        if answer.image is None:
            continue
        worst = int(np.nanargmax(np.abs(signed[:, n])))
        known = not np.isnan(answer.confidence)
        unusual = Unusual(
            id=answer.id,
            name=answer.name,
            confidence=answer.confidence if known else None,
            number=names[worst],
            words=NUMBERS[names[worst]][bool(signed[worst, n] > 0)],
            distance=round(float(farthest[n]), 3),
        )
        found.append((unusual, _picture(answer.image)))
    return found


def _distances(values: np.ndarray, baseline: Baseline, name: str) -> np.ndarray:
    """Signed, in interquartile ranges; of a number that is always the same, in units."""
    low, middle, high = np.quantile(baseline.numbers[name].quantiles, (0.25, 0.5, 0.75))
    return (values - middle) / ((high - low) or 1.0)


def _picture(image: np.ndarray) -> str:
    from PIL import Image

    pixels = image[..., 0] if image.shape[2] == 1 else image
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
