"""How large a picture is made before a square is cut out of it, by the papers' numbers.

Trainer and canary take them from here. Standard library and NumPy.

Source: He et al. 2016a, section 3.4: shorter side in [256, 480], crops of 224; scales of
the last testing.
"""

from __future__ import annotations

import numpy as np

CROP = 224  # of the papers; the sides are in proportion to it
EVALUATION_SIDE = 256  # of the shorter side
TRAINING_SIDES = (256, 480)
# By `evaluation.crops`, where more than the middle is looked at.
SEVERAL_SIDES = {
    "ten": (EVALUATION_SIDE,),
    "multi_scale": (224, 256, 384, 480, 640),
}


def side_of(side: int, crop: int) -> int:
    """A length of the papers, for another crop than theirs."""
    return round(side * crop / CROP)


def framed(images: np.ndarray) -> np.ndarray:
    """Pictures of which evaluation cuts these squares, with no pixel changed.

    Args:
        images: uint8 [n, crop, crop, channels].

    Returns:
        The same with a black frame: evaluation scales them by 1.
    """
    crop = images.shape[1]
    more = side_of(EVALUATION_SIDE, crop) - crop
    edge = (more // 2, more - more // 2)
    return np.pad(images, ((0, 0), edge, edge, (0, 0)))
