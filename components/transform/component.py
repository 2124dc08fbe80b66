"""The node Transform."""

from __future__ import annotations

from tfx.components.transform import component as upstream
from tfx.dsl.components.base import executor_spec
from tfx.proto.transform_pb2 import SplitsConfig
from tfx.types import BaseChannel

from components.transform.executor import PREPROCESSING_FN, Executor
from contract.config.preprocessing import PreprocessingConfig
from contract.fields import to_json
from contract.provenance import source_digest


class Transform(upstream.Transform):
    """Mean and deviation over the split `analyzed`, as a graph.

    Nothing is materialised: the Trainers and the exported models apply the graph themselves,
    which is cheaper than reading float32 images back, and leaves one normalisation for
    training and serving.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        schema: BaseChannel,
        preprocessing: PreprocessingConfig,
        analyzed: str,
    ) -> None:
        super().__init__(
            examples=examples,
            schema=schema,
            preprocessing_fn=PREPROCESSING_FN,
            splits_config=SplitsConfig(analyze=[analyzed]),
            materialize=False,
            # StatisticsGen has them of what was ingested, and nobody reads those of each
            # number in the normalised images.
            disable_statistics=True,
            custom_config={
                "preprocessing": to_json(preprocessing),
                "source": source_digest(Executor.__module__.replace(".", "/") + ".py"),
            },
        )
