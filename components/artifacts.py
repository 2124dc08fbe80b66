"""Artifact types that this project adds to TFX's own."""

from __future__ import annotations

from tfx.types import artifact


class Decision(artifact.Artifact):
    """Why which contender was chosen.

    * File structure:
      - `{uri}/decision.json`: see components/model_chooser/choice.py.

    * Custom properties:
      - `winner`: "baseline", "candidate", "in_service" when that stays, or "none".
      - `reason`: one sentence for people.
    """

    TYPE_NAME = "Decision"
