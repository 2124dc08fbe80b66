"""Everything a run depends on: all sections in one value, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract import paths
from contract.config.batch_predict import BatchPredictConfig
from contract.config.canary import CanaryConfig
from contract.config.data import DataConfig
from contract.config.drift import DriftConfig
from contract.config.evaluation import EvaluationConfig
from contract.config.model import ModelConfig
from contract.config.preprocessing import PreprocessingConfig
from contract.config.serving import ServingConfig
from contract.config.train import TrainConfig
from contract.config.vertex import VertexConfig
from contract.contenders import (
    BASELINE,
    CANDIDATE,
    Contender,
    in_order,
    name_problem,
)
from contract.fields import entries, setting


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything a run depends on."""

    preset: str = setting(
        "quick",
        "what is applied first: quick (ResNet-164 of both kinds for a hundred steps, "
        "minutes), fast (ResNet-20, a minute on digits), smoke (ResNet-8, for trials), "
        "resnet164 or resnet1001 (the papers' trainings, for accelerators)",
    )
    pipeline_name: str = setting(
        "cifar-resnet", "lower case, digits, dashes (Vertex AI's rule)"
    )
    output_root: str = setting(
        "output",
        "folder for everything that a run writes",
        problem=paths.pattern_problem,
    )
    enable_cache: bool = setting(
        True, "reuse what an earlier run made of the same inputs"
    )
    report_pictures: bool = setting(
        True,
        "the report shows images of the data, and keeps some beside it; false: numbers and "
        "figures alone",
    )
    data: DataConfig = field(default_factory=DataConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    baseline: ModelConfig = field(
        default_factory=lambda: ModelConfig(network="resnet20")
    )
    candidate: ModelConfig = field(default_factory=ModelConfig)
    contenders: Mapping[str, str] = entries(
        "more networks in the run, such as contenders.wide=preact_resnet110; each is "
        "compared with the baseline",
        problem=name_problem,
    )
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    batch_predict: BatchPredictConfig = field(default_factory=BatchPredictConfig)
    vertex: VertexConfig = field(default_factory=VertexConfig)

    @property
    def serving_root(self) -> str:
        """Folder of model folders that TF Serving watches."""
        return self.serving.base_directory or f"{self.output_root}/serving"

    @property
    def all_contenders(self) -> tuple[Contender, ...]:
        """Everyone in the run: the baseline first, then by name."""
        networks = {
            BASELINE: self.baseline.network,
            CANDIDATE: self.candidate.network,
            **self.contenders,
        }
        weights = {
            BASELINE: self.baseline.initial_weights,
            CANDIDATE: self.candidate.initial_weights,
        }
        return tuple(
            Contender(
                name=name,
                network=networks[name],
                seed=self.train.seed,
                initial_weights=weights.get(name),
            )
            for name in in_order([*networks])
        )
