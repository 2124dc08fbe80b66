"""Where the attempts of one training keep their checkpoints: a folder each.

A machine that was taken away may only have been paused, and comes back while another one
already trains; no lease keeps such a second writer out of a bucket. So no two processes
write into one folder: each attempt makes one of its own below the training's folder, and
goes on from the newest whole checkpoint of any attempt. Checkpoints are numbered by their
step, so that those of several attempts can be compared.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterable

# Of all attempts; a checkpoint is whole once TensorFlow has written its index.
PATTERN = "*/ckpt-*.index"


def new(now: datetime.datetime | None = None) -> str:
    """Name of an attempt's folder that no other attempt has, e.g. 20270131T060000-3f9a…."""
    moment = now or datetime.datetime.now(datetime.UTC)
    return f"{moment.astimezone(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(8)}"


def newest_first(indices: Iterable[str]) -> list[str]:
    """Orders checkpoints for a restore.

    Args:
        indices: Paths of index files, `<training>/<attempt>/ckpt-<step>.index`; others are
            left out.

    Returns:
        Paths without `.index`, the highest step first; of one step, the latest attempt's.
    """
    found = [path.removesuffix(".index") for path in indices]
    return sorted(
        (path for path in found if path.rpartition("-")[2].isdigit()),
        key=lambda path: (step_of(path), path.rsplit("/", 2)[-2]),
        reverse=True,
    )


def step_of(checkpoint: str) -> int:
    """The step of a checkpoint, from its path."""
    return int(checkpoint.rpartition("-")[2])


def folder_of(checkpoint: str) -> str:
    """The attempt's folder that a checkpoint is in."""
    return checkpoint.rpartition("/")[0]
