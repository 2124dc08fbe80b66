"""The Trainer of Vertex AI: TFX's component with an executor that lets no job go astray."""

from tfx.components.trainer.component import Trainer as TfxTrainer
from tfx.dsl.components.base import executor_spec

from pipeline.vertex.steps.train.executor import Executor


class Trainer(TfxTrainer):
    """TFX's Trainer; `run_fn` runs in a CustomJob, see pipeline/vertex/steps/train/."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
