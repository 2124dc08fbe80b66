"""What the Evaluator measures: both contenders on the same images, in one pass.

In: SavedModels whose signature `serialized_examples` takes tf.Examples as ingested.
Out: the `EvalConfig` for TFX's Evaluator, whose metrics the ModelChooser reads. Source:
tensorflow_model_analysis 0.52, proto/config.proto and metrics/.
"""

from __future__ import annotations

import tensorflow_model_analysis as tfma

from trainer import features

# Names under which TFMA stores the metrics of either model.
BASELINE, CANDIDATE = "baseline", "candidate"


def eval_config(classes: int, label_key: str) -> tfma.EvalConfig:
    """Describes the comparison of a candidate with a baseline.

    No threshold is set: with thresholds the Evaluator would bless the candidate or
    nothing, while here either contender may win. Choosing, and blessing what was
    chosen, is the ModelChooser's work; the Evaluator only measures, and its `blessing`
    output stays empty.

    Args:
        classes: Number of classes, at least 2.
        label_key: Feature with the true class, int64 in [0, classes).
    """
    if classes < 2:
        raise ValueError(f"classes={classes}: a comparison needs at least 2")
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                name=name,
                is_baseline=name == BASELINE,
                signature_name=features.SIGNATURE_EXAMPLES,
                prediction_key=features.PROBABILITIES,
                label_key=label_key,
            )
            for name in (CANDIDATE, BASELINE)
        ],
        metrics_specs=[
            tfma.MetricsSpec(
                model_names=[CANDIDATE, BASELINE],
                metrics=[
                    tfma.MetricConfig(class_name="ExampleCount"),
                    tfma.MetricConfig(class_name="SparseCategoricalAccuracy"),
                    tfma.MetricConfig(class_name="SparseCategoricalCrossentropy"),
                    # Exact counts of argmax against truth: with the one threshold 0
                    # every most probable class counts, however improbable.
                    tfma.MetricConfig(
                        class_name="MultiClassConfusionMatrixAtThresholds",
                        config='{"thresholds": [0.0]}',
                    ),
                ],
            )
        ],
        slicing_specs=[
            tfma.SlicingSpec(),
            tfma.SlicingSpec(feature_keys=[label_key]),
        ],
    )
