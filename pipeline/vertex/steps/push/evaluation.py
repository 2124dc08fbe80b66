"""What was measured of a version, beside it in Model Registry.

In: the comparison of one split. Out: a ModelEvaluation of the version, by
ModelService.ImportModelEvaluation, with the fields of Google's schema for classification
("Evaluate models", google-cloud-pipeline-components' ImportModelEvaluation, November 2026).
Its display name is the split's: by it a repeated task finds what it has imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contract.comparison import Comparison, Measures
from pipeline.vertex.steps.push.patience import Patience, ensure, read

SCHEMA = (
    "gs://google-cloud-aiplatform/schema/modelevaluation/"
    "classification_metrics_1.0.0.yaml"
)
_CALL_SECONDS = 60.0


def import_evaluation(
    client: Any,
    model: str,
    comparison: Comparison,
    contender: str | None,
    run: str | None,
    patience: Patience,
) -> str | None:
    """Imports what was measured of a contender on one split, once.

    Args:
        client: aiplatform_v1.ModelServiceClient of the region.
        model: Resource name of the version, `.../models/<id>@<number>`.
        comparison: Of the split.
        contender: Whose model the version is; None: nobody knows.
        run: Id of the run, which the console links to; None: nobody knows.
        patience: How long to wait.

    Returns:
        Resource name of the evaluation; None if the contender was not measured.
    """
    from google.cloud import aiplatform_v1

    compared = comparison.models.get(contender or "")
    if compared is None or compared.measured is None:
        return None
    wanted = aiplatform_v1.ModelEvaluation(
        display_name=comparison.split,
        metrics_schema_uri=SCHEMA,
        metrics=metrics(compared.measured, comparison.class_names),
        metadata={"evaluation_dataset_type": comparison.split}
        | ({"pipeline_job_id": run} if run else {}),
    )

    def look() -> str | None:
        listed = read(client.list_model_evaluations, parent=model) or ()
        return next(
            (each.name for each in listed if each.display_name == comparison.split),
            None,
        )

    def make() -> None:
        client.import_model_evaluation(
            request={"parent": model, "model_evaluation": wanted},
            timeout=_CALL_SECONDS,
        )

    return ensure(look, make, patience)


def metrics(measured: Measures, class_names: Sequence[str]) -> dict[str, Any]:
    """The fields of Google's schema for classification that were measured.

    Each image gets one answer, whatever its probability: so precision and recall, micro
    averages, both are the share of right answers.
    """
    right = 1 - measured.error
    return {
        "logLoss": measured.cross_entropy,
        "confidenceMetrics": [
            {
                "confidenceThreshold": 0.0,
                "maxPredictions": 1,
                "recall": right,
                "precision": right,
                "f1Score": right,
            }
        ],
        # Rows by the true class, columns by the predicted one, as in the schema.
        "confusionMatrix": {
            "annotationSpecs": [
                {"id": str(number), "displayName": name}
                for number, name in enumerate(class_names)
            ],
            "rows": [list(row) for row in measured.confusion],
        },
    }
