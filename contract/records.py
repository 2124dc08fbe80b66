"""Names of the files that one room leaves for another: in artifacts, models and reports.

Each name stands here once, with the module that knows what is in the file.
"""

from __future__ import annotations

# In the ModelEvaluation, beside TFMA's files.
COMPARISON_FILE = "comparison.json"  # contract.comparison.Comparison
PREDICTIONS_FILE = "predictions.npz"  # contract.predictions.Predictions

DATASET_FILE = "dataset.json"  # contract.datasets.Dataset; in the Examples
# In the Answers: contract.answers.Answers, and contract.predictions.Predictions of a split.
ANSWERS_FILE = "answers.json"
DECISION_FILE = "decision.json"  # contract.comparison.Decision; in the Decision
CANARY_FILE = "canary.json"  # contract.canary.CanaryResult; in the InfraBlessing
CANARY_LOG_FILE = "server.log"  # beside it, if the model did not pass
HISTORY_FILE = "history.json"  # contract.model_run.ModelRun; in the ModelRun
RUN_CONFIGURATION_FILE = (
    "run.json"  # contract.run_facts.RunRecord; in the RunConfiguration
)
SCHEMA_FILE = "schema.pbtxt"  # under which TFX's components look for it

# In a SavedModel. What is under assets.extra TensorFlow Serving leaves alone, but for the
# warm-up requests; those, the batching parameters and saved_model.pb it knows by name.
MODEL_FILE = "saved_model.pb"
EXTRA_ASSETS = "assets.extra"
MODEL_RUN_FILE = f"{EXTRA_ASSETS}/run.json"  # contract.model_run.ModelRun
# Eval images with the answers of the training path, against which the canary holds a
# server's. Nothing pickled: `images` uint8 [n, height, width, channels], `probabilities`
# float32 [n, classes], `class_names` text [classes].
EXPECTED_ANSWERS_FILE = f"{EXTRA_ASSETS}/expected_answers.npz"
# What live requests are compared with: contract.baseline.Baseline. The push adds it, so that
# it is in no Model, and no part of what makes two models the same.
BASELINE_FILE = f"{EXTRA_ASSETS}/baseline.json"
WARMUP_FILE = f"{EXTRA_ASSETS}/tf_serving_warmup_requests"
BATCHING_FILE = "batching_params.pbtxt"

# In <output_root>/report, and in the Report on Vertex AI.
REPORT_FOLDER = "report"
PAGE_FILE, REPORT_FILE = "report.html", "report.json"
# In <output_root>/studies/<study>, and in the StudyReport.
STUDY_FILES = ("report.html", "report.md", "study.json")
PICTURES_FOLDER = "images"  # a test image of each class, to try a server with


def run_of(uri: str) -> str | None:
    """The id of the run that wrote an artifact, from where Vertex AI has it written.

    That is <root>/<project number>/<run>/<task>_<number>/<output>.
    """
    parts = uri.removeprefix("gs://").rstrip("/").split("/")
    return parts[-3] if len(parts) >= 5 else None
