"""Artifact types that this project adds to TFX's own.

Vertex AI imports the class of an artifact by its type name, which may have one dot only:
components/__init__.py hands these classes out under that name.
"""

from __future__ import annotations

from tfx.types import artifact


class Answers(artifact.Artifact):
    """What one model answered to every image of eval and test.

    * File structure:
      - `{uri}/answers.json`, `{uri}/eval.npz`, `{uri}/test.npz`: see contract/answers.py;
        where no model is in service only the first.
      - `{uri}/history.json`: how the model was trained, see contract/model_run.py; not in
        those of earlier versions.
    """

    TYPE_NAME = "components.Answers"


class BatchPrediction(artifact.Artifact):
    """What a pushed version answered to a folder of images: where that lies.

    No files: the answers outlive the run, and stand in the output folder's `predictions`.

    * Custom properties:
      - `output`: path of the file, a JSON object per image; empty when nothing was pushed.
      - `pushed_version`: whose answers they are.
      - `files`: how many images, or files of records, there were.
    """

    TYPE_NAME = "components.BatchPrediction"


class Decision(artifact.Artifact):
    """Why which contender was chosen.

    * File structure:
      - `{uri}/decision.json`: see contract/comparison.py.

    * Custom properties:
      - `winner`: name of a contender, "in_service" when that stays, or "none".
      - `reason`: one sentence for people.
    """

    TYPE_NAME = "components.Decision"


class StudyReport(artifact.Artifact):
    """What a study has found.

    * File structure:
      - `{uri}/report.html`, `{uri}/report.md`, `{uri}/study.json`: see studies/report.
    """

    TYPE_NAME = "components.StudyReport"


class RunConfiguration(artifact.Artifact):
    """What a run was asked to do, where no command line keeps it (on Vertex AI).

    * File structure:
      - `{uri}/run.json`: see contract/run_facts.py.
    """

    TYPE_NAME = "components.RunConfiguration"


class Report(artifact.Artifact):
    """What a run did and why, where no command line writes it (on Vertex AI).

    * File structure:
      - `{uri}/report.html`, `{uri}/report.json`: as pipeline/report writes them.

    * Custom properties:
      - `winner`, `reason`: as of the Decision.
      - `pushed_version`: published by this run; empty when nothing was.
      - `problem`: why there is no report; empty when there is one.
    """

    TYPE_NAME = "components.Report"
