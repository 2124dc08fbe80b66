"""Everything a run depends on: all sections in one value, the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from contract import paths
from contract.config.canary import CanaryConfig
from contract.config.data import DataConfig
from contract.config.drift import DriftConfig
from contract.config.evaluation import EvaluationConfig
from contract.config.model import ModelConfig
from contract.config.preprocessing import PreprocessingConfig
from contract.config.serving import ServingConfig
from contract.config.train import TrainConfig
from contract.config.vertex import VertexConfig
from contract.fields import setting


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything a run depends on."""

    preset: str = setting(
        "quick",
        "what is applied first: smoke (a minute), quick (minutes), resnet164 or "
        "resnet1001 (the papers' networks, for accelerators)",
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
    data: DataConfig = field(default_factory=DataConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    baseline: ModelConfig = field(
        default_factory=lambda: ModelConfig(network="resnet20")
    )
    candidate: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    vertex: VertexConfig = field(default_factory=VertexConfig)

    @property
    def serving_root(self) -> str:
        """Folder of model folders that TF Serving watches."""
        return self.serving.base_directory or f"{self.output_root}/serving"
