"""The whole flow, top to bottom, one node per paragraph."""

from __future__ import annotations

from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent

from components.atomic_pusher.component import AtomicPusher
from components.dataset_schema.component import DatasetSchema
from components.evaluator.component import Evaluator
from components.example_gen.component import CifarExampleGen
from components.example_validator.component import BlockingExampleValidator
from components.model_chooser.component import ModelChooser
from components.serving_canary.component import ServingCanary
from components.transform.component import Transform
from contract import features
from contract.config.model import ModelConfig
from contract.config.run import RunConfig
from contract.datasets import class_names
from contract.fields import to_json
from contract.provenance import source_digest
from pipeline.stages import Engine


def create_pipeline(
    config: RunConfig, fingerprint: str, engine: Engine
) -> tfx.dsl.Pipeline:
    """Builds the DAG for every engine.

    Args:
        config: Complete and checked (pipeline/resolve.py); `data.name` is not "auto".
        fingerprint: Of the data source, so that changed files are ingested again.
        engine: What carries it out, for the few nodes that depend on it.
    """
    classes = class_names(config.data.name, config.data.label)
    label_key = features.label_key(config.data.label)

    # Where no command line has settled what the run does, the first step settles it.
    configuration = engine.run_configuration()

    # Archive, tensorflow-datasets or bundled digits -> tf.Examples in train, eval, test.
    example_gen = CifarExampleGen(data=config.data, fingerprint=fingerprint)

    # What the data look like, and whether they look as they must; if not, the run stops.
    # The schema tells the statistics that images are bytes, not text.
    schema = DatasetSchema(examples=example_gen.outputs["examples"])
    statistics_gen = tfx.components.StatisticsGen(
        examples=example_gen.outputs["examples"], schema=schema.outputs["schema"]
    )
    # Nor may they differ from the last accepted run's, or eval and test from train.
    invariants = DatasetSchema(
        examples=example_gen.outputs["examples"], drift=config.drift
    ).with_id("DataInvariants")
    previous = engine.previous_statistics(
        examples=example_gen.outputs["examples"],
        invariants=invariants.outputs["schema"],
    )
    validator = BlockingExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema.outputs["schema"],
        examples=example_gen.outputs["examples"],
        invariants=invariants.outputs["schema"],
        previous_statistics=previous.outputs["previous_statistics"],
        records=engine.records(),
    ).with_id("ExampleValidator")

    # Mean and deviation over train alone, as the graph that Trainers and models apply.
    transform = Transform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing=config.preprocessing,
        analyzed=features.TRAIN,
    )
    transform.add_upstream_node(validator)

    # Two networks, one recipe, one run_fn.
    def create_trainer(role: str, model: ModelConfig) -> BaseComponent:
        return engine.trainer(
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
                "checkpoints": f"{config.output_root}/checkpoints",
                "source": source_digest("trainer/run.py"),
                **engine.training_settings(role),
            },
        ).with_id(f"{role.capitalize()}Trainer")

    baseline = create_trainer("baseline", config.baseline)
    candidate = create_trainer("candidate", config.candidate)

    # The model in service, if there is one: what was pushed last.
    destination = f"{config.serving_root}/{config.serving.model_name}"
    in_service = engine.model_in_service(
        destination=destination,
        baseline=baseline.outputs["model"],
        candidate=candidate.outputs["model"],
    )

    # All three on the same eval images, which decide; and on test, which only reports.
    def create_evaluator(split: str) -> BaseComponent:
        return Evaluator(
            examples=example_gen.outputs["examples"],
            transform_graph=transform.outputs["transform_graph"],
            baseline=baseline.outputs["model"],
            candidate=candidate.outputs["model"],
            in_service=in_service.outputs["pushed"],
            split=split,
            class_names=classes,
            label_key=label_key,
            batch_size=config.evaluation.batch_size,
            baseline_network=config.baseline.network,
            candidate_network=config.candidate.network,
        )

    evaluator = create_evaluator(features.EVAL)
    test_evaluator = create_evaluator(features.TEST).with_id("TestEvaluator")

    # The better one, with the reason.
    chooser = ModelChooser(
        evaluation=evaluator.outputs["evaluation"],
        baseline=baseline.outputs["model"],
        candidate=candidate.outputs["model"],
        rule=config.evaluation,
    )

    # It must load, answer as it did in training, and be quick, in a server of its own.
    canary = ServingCanary(
        model=chooser.outputs["model"],
        model_blessing=chooser.outputs["blessing"],
        examples=example_gen.outputs["examples"],
        config=config.canary,
    )

    # A new version in the folder that TF Serving watches; whole or not at all.
    pusher = AtomicPusher(
        model=chooser.outputs["model"],
        model_blessing=chooser.outputs["blessing"],
        infra_blessing=canary.outputs["blessing"],
        decision=chooser.outputs["decision"],
        configuration=configuration and configuration.outputs["configuration"],
        destination=destination,
    )

    nodes = [
        example_gen,
        schema,
        statistics_gen,
        invariants,
        previous,
        validator,
        transform,
        baseline,
        candidate,
        in_service,
        evaluator,
        test_evaluator,
        chooser,
        canary,
        pusher,
    ]
    if configuration is not None:
        nodes.insert(0, configuration)
    # What else follows the push; locally the command line writes the report.
    nodes += engine.after_push({node.id: node for node in nodes})

    return tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=f"{config.output_root}/artifacts",
        components=nodes,
        enable_cache=config.enable_cache,
        metadata_connection_config=engine.metadata(),
        beam_pipeline_args=[*engine.beam_arguments()],
    )
