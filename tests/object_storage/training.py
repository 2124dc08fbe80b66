"""TFX's Trainer with everything in a bucket: python -m tests.object_storage.training ROOT

`ROOT`, a gs:// address, holds examples/ and transform/ and gets model/ and model_run/.
"""

from __future__ import annotations

import sys
from typing import Any

from contract import features
from contract.config.model import ModelConfig
from contract.config.preprocessing import PreprocessingConfig
from contract.config.train import TrainConfig
from contract.datasets import DATASETS
from contract.fields import to_json

STEPS = 8
NETWORK = "resnet8"
CLASSES = DATASETS["digits"].class_names


def artifact(kind: str, uri: str) -> Any:
    from tfx.types import artifact_utils, standard_artifacts

    made = getattr(standard_artifacts, kind)()
    made.uri = uri
    if kind == "Examples":
        made.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        made.set_string_custom_property("file_format", "tfrecords_gzip")
        made.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    return made


def train(root: str) -> None:
    """Runs the executor, as on any engine."""
    from tfx.components.trainer.executor import GenericExecutor
    from tfx.utils import json_utils

    config = TrainConfig(
        steps=STEPS, global_batch_size=64, learning_rate=0.05, checkpoint_seconds=0.0
    )
    settings = {
        "role": "baseline",
        "model": to_json(ModelConfig(network=NETWORK)),
        "train": to_json(config),
        "preprocessing": to_json(PreprocessingConfig()),
        "checkpoints": f"{root}/checkpoints",
        "source": "",
    }
    context = GenericExecutor.Context(tmp_dir=f"{root}/tmp", unique_id="1")
    GenericExecutor(context).Do(
        {
            "examples": [artifact("Examples", f"{root}/examples")],
            "transform_graph": [artifact("TransformGraph", f"{root}/transform")],
        },
        {
            "model": [artifact("Model", f"{root}/model")],
            "model_run": [artifact("ModelRun", f"{root}/model_run")],
        },
        {
            "run_fn": "trainer.run.run_fn",
            "train_args": '{"splits": ["train"]}',
            "eval_args": '{"splits": ["eval"]}',
            "custom_config": json_utils.dumps(settings),
        },
    )


if __name__ == "__main__":
    train(sys.argv[1])
