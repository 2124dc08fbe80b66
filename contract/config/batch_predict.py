"""Section `batch_predict`: what the new version is asked about at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass

from contract import paths
from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class BatchPredictConfig:
    """What the new version is asked about at the end of a run; nothing by default."""

    images: str | None = setting(
        None,
        "folder of pictures or TFRecords: the pushed version answers them all, into "
        "<output_root>/predictions (as `pipeline.py predict` does)",
        problem=paths.text_problem,
    )
