"""A study as a TFX pipeline: what a run has up to the answers, and a report in its place.

Shared ingestion and Transform; for each row and seed a Trainer and its Answers; one
StudyReport over all answers. Built for every engine, as pipeline/dag.py.
"""

from __future__ import annotations

from tfx.orchestration.pipeline import Pipeline

from components import numbered
from contract.contenders import title
from pipeline.dag import create_answers, create_trainer, prepare
from pipeline.stages import Engine
from studies.plan import Plan, asked
from studies.report.component import StudyReport


def create_study(plan: Plan, fingerprint: str, engine: Engine) -> Pipeline:
    """Builds the DAG.

    Args:
        plan: Which trainings.
        fingerprint: Of the data source, so that changed files are ingested again.
        engine: What carries it out.
    """
    config = plan.config
    data = prepare(config, fingerprint, engine)
    nodes, answers = [*data.nodes], []
    for each in plan.trainings:
        name = each.contender.name
        # That a row does not train is a result of the study.
        trainer = create_trainer(
            config, engine, data, each.contender, each.train, divergence="record"
        )
        answered = create_answers(
            config, data, name, model=trainer.outputs["model"]
        ).with_id(f"{title(name)}Answers")
        nodes += [trainer, answered]
        answers.append(answered.outputs["answers"])
    report = StudyReport(
        asked=asked(plan).to_json(sort_keys=True), **numbered.given("answers", answers)
    )
    return Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=f"{config.output_root}/artifacts",
        components=[*nodes, report],
        enable_cache=config.enable_cache,
        metadata_connection_config=engine.metadata(),
        beam_pipeline_args=[*engine.beam_arguments()],
    )
