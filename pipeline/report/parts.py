"""What a report is made of: which node's output is which part of it, on every engine.

A leaf: standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """An output of a node."""

    node: str
    key: str
    kind: (
        str  # class of the artifact in TFX's standard_artifacts or components.artifacts
    )
    needed: bool = False  # else it is named in the lineage, if it is there at all


# In the order of the DAG.
PARTS = {
    "examples": Part("CifarExampleGen", "examples", "Examples", needed=True),
    "schema": Part("DatasetSchema", "schema", "Schema"),
    "statistics": Part("StatisticsGen", "statistics", "ExampleStatistics"),
    "invariants": Part("DataInvariants", "schema", "Schema"),
    "previous_statistics": Part(
        "PreviousStatistics", "previous_statistics", "ExampleStatistics"
    ),
    "anomalies": Part("ExampleValidator", "anomalies", "ExampleAnomalies"),
    "transform_graph": Part("Transform", "transform_graph", "TransformGraph"),
    "baseline": Part("BaselineTrainer", "model", "Model"),
    "baseline_run": Part("BaselineTrainer", "model_run", "ModelRun", needed=True),
    "candidate": Part("CandidateTrainer", "model", "Model"),
    "candidate_run": Part("CandidateTrainer", "model_run", "ModelRun", needed=True),
    "in_service": Part("ModelInService", "pushed", "PushedModel"),
    "evaluation": Part("Evaluator", "evaluation", "ModelEvaluation", needed=True),
    "test_evaluation": Part(
        "TestEvaluator", "evaluation", "ModelEvaluation", needed=True
    ),
    "model": Part("ModelChooser", "model", "Model"),
    "blessing": Part("ModelChooser", "blessing", "ModelBlessing"),
    "decision": Part("ModelChooser", "decision", "Decision", needed=True),
    "infra_blessing": Part("ServingCanary", "blessing", "InfraBlessing", needed=True),
    "pushed_model": Part("AtomicPusher", "pushed_model", "PushedModel", needed=True),
    "registered": Part("VertexPush", "registered", "PushedModel"),
}
