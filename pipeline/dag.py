"""The whole flow, top to bottom, one node per paragraph."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent

from components.atomic_pusher.component import AtomicPusher
from components.dataset_schema.component import DatasetSchema
from components.dataset_schema.text import schema_text
from components.example_gen.component import CifarExampleGen
from components.example_validator.component import BlockingExampleValidator
from components.model_chooser.component import ModelChooser
from pipeline.config import ModelConfig, RunConfig, to_json
from pipeline.evaluation import eval_config
from trainer import features

_PROJECT = Path(__file__).parents[1]


def create_pipeline(config: RunConfig, fingerprint: str) -> tfx.dsl.Pipeline:
    """Builds the DAG for every engine.

    Args:
        config: Complete and checked (pipeline/resolve.py); `data.name` is not "auto".
        fingerprint: Of the data source, so that changed files are ingested again.
    """
    classes = features.class_names(config.data.name, config.data.label)
    label_key = features.label_key(config.data.label)

    # Archive, tensorflow-datasets or bundled digits -> tf.Examples in train, eval, test.
    example_gen = CifarExampleGen(data=to_json(config.data), fingerprint=fingerprint)

    # What the data look like, and whether they look as they must; if not, the run stops.
    # The schema tells the statistics that images are bytes, not text.
    schema = DatasetSchema(schema=schema_text(config.data.name))
    statistics_gen = tfx.components.StatisticsGen(
        examples=example_gen.outputs["examples"], schema=schema.outputs["schema"]
    )
    validator = BlockingExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema.outputs["schema"]
    ).with_id("ExampleValidator")

    # Mean and deviation over train alone. Nothing is materialised: the Trainers and the
    # exported models apply the graph themselves, which is cheaper than reading float32
    # images back, and leaves one normalisation for training and serving.
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="trainer.preprocessing.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(analyze=[features.TRAIN]),
        materialize=False,
        custom_config={
            "preprocessing": to_json(config.preprocessing),
            "source": source_digest("trainer/preprocessing.py"),
        },
    )
    transform.add_upstream_node(validator)

    # Two networks, one recipe, one run_fn.
    def create_trainer(role: str, model: ModelConfig) -> BaseComponent:
        return tfx.components.Trainer(
            run_fn="trainer.run.run_fn",
            examples=example_gen.outputs["examples"],
            transform_graph=transform.outputs["transform_graph"],
            schema=schema.outputs["schema"],
            train_args=tfx.proto.TrainArgs(splits=[features.TRAIN]),
            eval_args=tfx.proto.EvalArgs(splits=[features.EVAL]),
            custom_config={
                "role": role,
                "model": to_json(model),
                "train": to_json(config.train),
                "preprocessing": to_json(config.preprocessing),
                "class_names": list(classes),
                "label_key": label_key,
                "checkpoints": f"{config.output_root}/checkpoints",
                "source": source_digest("trainer"),
            },
        ).with_id(f"{role.capitalize()}Trainer")

    baseline = create_trainer("baseline", config.baseline)
    candidate = create_trainer("candidate", config.candidate)

    # Both on the same eval images, which decide; and on test, which only reports.
    def create_evaluator(split: str) -> BaseComponent:
        return tfx.components.Evaluator(
            examples=example_gen.outputs["examples"],
            model=candidate.outputs["model"],
            baseline_model=baseline.outputs["model"],
            eval_config=eval_config(len(classes), label_key),
            example_splits=[split],
        )

    evaluator = create_evaluator(features.EVAL)
    test_evaluator = create_evaluator(features.TEST).with_id("TestEvaluator")

    # The better one, with the reason.
    chooser = ModelChooser(
        evaluation=evaluator.outputs["evaluation"],
        baseline=baseline.outputs["model"],
        candidate=candidate.outputs["model"],
        policy=config.evaluation.policy,
        baseline_network=config.baseline.network,
        candidate_network=config.candidate.network,
    )

    # A new version in the folder that TF Serving watches; whole or not at all.
    pusher = AtomicPusher(
        model=chooser.outputs["model"],
        model_blessing=chooser.outputs["blessing"],
        destination=f"{config.serving_root}/{config.serving.model_name}",
    )

    return tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=f"{config.output_root}/artifacts",
        components=[
            example_gen,
            schema,
            statistics_gen,
            validator,
            transform,
            baseline,
            candidate,
            evaluator,
            test_evaluator,
            chooser,
            pusher,
        ],
        enable_cache=config.enable_cache,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            f"{config.output_root}/metadata.sqlite"
        ),
        # In this process; Beam's default would try to download a runner.
        beam_pipeline_args=["--runner=FnApiRunner"],
    )


def source_digest(path: str) -> str:
    """Digest of our own source below `path`: edited code is never served from the cache."""
    root = _PROJECT / path
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(_PROJECT).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
