"""The whole flow, top to bottom, one node per paragraph.

`prepare`, `create_trainer` and `create_answers` are the parts of it that a study shares
(studies/dag.py); `create_pipeline` is a run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.trainer_pb2 import EvalArgs, TrainArgs
from tfx.types import BaseChannel

from components import numbered
from components.answers.component import Answers
from components.atomic_pusher.component import AtomicPusher
from components.batch_predict import plan as predictions
from components.batch_predict.component import BatchPredict
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
from contract.config.train import TrainConfig
from contract.contenders import BASELINE, IN_SERVICE, Contender, title
from contract.fields import to_json
from contract.provenance import source_digest
from pipeline.stages import Engine
from trainer import initial_weights


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The images of a run, checked, and what Transform learnt of them."""

    nodes: tuple[BaseNode, ...]
    examples: BaseChannel
    schema: BaseChannel
    transform_graph: BaseChannel


def prepare(config: RunConfig, fingerprint: str, engine: Engine) -> Prepared:
    """The nodes before the first training; arguments as of `create_pipeline`."""
    # Archive, tensorflow-datasets or bundled digits -> tf.Examples in train, eval, test.
    example_gen = CifarExampleGen(data=config.data, fingerprint=fingerprint)

    # What the data look like, and whether they look as they must; if not, the run stops.
    # The schema tells the statistics that images are bytes, not text.
    schema = DatasetSchema(examples=example_gen.outputs["examples"])
    statistics_gen = StatisticsGen(
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
    return Prepared(
        nodes=(
            example_gen,
            schema,
            statistics_gen,
            invariants,
            previous,
            validator,
            transform,
        ),
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        transform_graph=transform.outputs["transform_graph"],
    )


def create_trainer(
    config: RunConfig,
    engine: Engine,
    data: Prepared,
    contender: Contender,
    train: TrainConfig,
    **settings: Any,
) -> BaseComponent:
    """The node that trains a contender: one run_fn for all, whatever their networks.

    Args:
        config: Of the run.
        engine: That trains.
        data: What is trained on.
        contender: Who is trained.
        train: How.
        **settings: More of what run_fn reads in custom_config.
    """
    if contender.initial_weights is not None and engine.run_configuration() is None:
        # Weights are known by their contents; of a folder of versions, the newest is meant.
        # What is compiled for Vertex AI leaves both to the first step of each run.
        field = f"{contender.name}.initial_weights"
        found = initial_weights.find(contender.initial_weights, field)
        contender = replace(contender, initial_weights=found.path)
        settings["initial_weights_digest"] = initial_weights.digest(found)
    return engine.trainer(
        run_fn="trainer.run.run_fn",
        examples=data.examples,
        transform_graph=data.transform_graph,
        schema=data.schema,
        train_args=TrainArgs(splits=[features.TRAIN]),
        eval_args=EvalArgs(splits=[features.EVAL]),
        custom_config={
            "role": contender.name,
            "model": to_json(
                ModelConfig(
                    network=contender.network,
                    initial_weights=contender.initial_weights,
                )
            ),
            "train": to_json(replace(train, seed=contender.seed)),
            "preprocessing": to_json(config.preprocessing),
            "checkpoints": f"{config.output_root}/checkpoints",
            "source": source_digest("trainer/run.py"),
            **settings,
            **engine.training_settings(contender.name),
        },
    ).with_id(f"{title(contender.name)}Trainer")


def create_answers(
    config: RunConfig, data: Prepared, contender: str, **model: BaseChannel
) -> BaseComponent:
    """The node that asks one model about eval, which decides, and test, which reports.

    Args:
        config: Of the run.
        data: What is asked about.
        contender: Whose model it is.
        **model: The model, or what is in service, as components/answers takes it.
    """
    return Answers(
        examples=data.examples,
        transform_graph=data.transform_graph,
        contender=contender,
        batch_size=config.evaluation.batch_size,
        crops=config.evaluation.crops,
        **model,
    )


def create_pipeline(config: RunConfig, fingerprint: str, engine: Engine) -> Pipeline:
    """Builds the DAG for every engine.

    Args:
        config: Complete and checked (pipeline/resolve.py); `data.name` is not "auto".
        fingerprint: Of the data source, so that changed files are ingested again.
        engine: What carries it out, for the few nodes that depend on it.
    """
    # Where no command line has settled what the run does, the first step settles it.
    configuration = engine.run_configuration()

    # Images, their schema and statistics, the verdict on them, and Transform's graph.
    data = prepare(config, fingerprint, engine)

    # One recipe, one run_fn, as many networks as are configured: the baseline comes first.
    trainers = {
        each.name: create_trainer(config, engine, data, each, config.train)
        for each in config.all_contenders
    }
    models = {name: each.outputs["model"] for name, each in trainers.items()}

    # The model in service, if there is one: what was pushed last.
    destination = f"{config.serving_root}/{config.serving.model_name}"
    in_service = engine.model_in_service(
        destination=destination, models=[*models.values()]
    )

    # What each of them answers, a node for each: one more model costs one more.
    answers = [
        create_answers(config, data, name, model=model).with_id(f"{title(name)}Answers")
        for name, model in models.items()
    ]
    served = in_service.outputs["pushed"]
    answers.append(
        create_answers(config, data, IN_SERVICE, pushed=served).with_id(
            "InServiceAnswers"
        )
    )

    # All of them held against each other, image by image.
    evaluator = Evaluator(
        **numbered.given("answers", [each.outputs["answers"] for each in answers])
    )

    # The best one, with the reason; test has no part in it.
    chooser = ModelChooser(
        evaluation=evaluator.outputs["evaluation"],
        rule=config.evaluation,
        **numbered.given("model", models.values()),
    )

    # It must load, answer as it did in training, and be quick, in a server of its own;
    # not much slower than what it may replace.
    canary = ServingCanary(
        model=chooser.outputs["model"],
        model_blessing=chooser.outputs["blessing"],
        baseline=models[BASELINE],
        in_service=served,
        examples=data.examples,
        config=config.canary,
    )

    # A new version in the folder that TF Serving watches; whole or not at all. Inside it,
    # what it was trained on and what it answered, in numbers: live requests are compared
    # with them.
    pusher = AtomicPusher(
        model=chooser.outputs["model"],
        model_blessing=chooser.outputs["blessing"],
        infra_blessing=canary.outputs["blessing"],
        decision=chooser.outputs["decision"],
        examples=data.examples,
        evaluation=evaluator.outputs["evaluation"],
        configuration=configuration and configuration.outputs["configuration"],
        destination=destination,
    )

    nodes = [
        *data.nodes,
        *trainers.values(),
        in_service,
        *answers,
        evaluator,
        chooser,
        canary,
        pusher,
    ]
    if configuration is not None:
        nodes.insert(0, configuration)
    # What else follows the push; locally the command line writes the report.
    followers = engine.after_push({node.id: node for node in nodes})
    nodes += followers

    # If asked for, what the new version answers to every image of a folder. Last, so that
    # the report is there whatever becomes of it.
    if (images := config.batch_predict.images) is not None:
        predictor = BatchPredict(
            pushed_model=pusher.outputs["pushed_model"],
            images=images,
            fingerprint=engine.fingerprint(images),
            output=f"{config.output_root}/{predictions.FOLDER}",
        )
        for node in followers:
            predictor.add_upstream_node(node)
        nodes.append(predictor)

    return Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=f"{config.output_root}/artifacts",
        components=nodes,
        enable_cache=config.enable_cache,
        metadata_connection_config=engine.metadata(),
        beam_pipeline_args=[*engine.beam_arguments()],
    )
