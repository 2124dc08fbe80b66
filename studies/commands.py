"""`python pipeline.py study ...`: run a study, list them, tidy up behind them."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contract.fields import ConfigError, parse_assignments
from contract.records import STUDY_FILES
from pipeline.local import database, rules, session
from pipeline.local.exclusive import exclusive
from pipeline.resolve import absolute
from studies import plan as plans
from studies.plan import FOLDER, Plan
from studies.report.result import StudyResult
from studies.tables import STUDIES

_LIST, _PRUNE = "list", "prune"


def add_parser(
    commands: Any, add_overrides: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Adds `study` to the command line."""
    meaning = "run a table of the papers as one pipeline, and compare it with the published one"
    parser = commands.add_parser("study", help=meaning, description=meaning)
    parser.add_argument(
        "study",
        nargs="?",
        default=_LIST,
        choices=[*STUDIES, _LIST, _PRUNE],
        metavar="STUDY",
        help=f"{', '.join(STUDIES)}; {_LIST} (the default) shows them, {_PRUNE} removes "
        "models whose answers are there",
    )
    parser.add_argument(
        "--scale",
        choices=["small", "paper"],
        default="small",
        help="paper: the published training, for accelerators; small (the default): the "
        "published depths on small images, in few steps",
    )
    parser.add_argument(
        "--seeds", metavar="N|A-B", help="5 for seeds 1 to 5, or 6-10 (default: 5)"
    )
    parser.add_argument(
        "--rows", metavar="NAME,...", help="those rows alone; default: the scale's"
    )
    parser.add_argument(
        *("--keep_models", "--keep-models"),
        action="store_true",
        help="keep the exported models; else only answers and records of training stay",
    )
    parser.add_argument(
        "--engine",
        choices=["local", "vertex"],
        default="local",
        help="this machine (the default), or a specification for Vertex AI, in --output",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="with --engine vertex; default: <STUDY>.json"
    )
    add_overrides(parser)
    parser.set_defaults(command=_study)


def _study(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if options.study == _LIST:
        return _list()
    if options.study == _PRUNE:
        return _prune(options)
    if options.engine == "vertex":
        from studies import vertex

        return vertex.compile_study(options, environment)
    if options.output:
        raise ConfigError(
            "--output: goes with --engine vertex; add that, or leave it out"
        )
    return _run(options, environment)


def _list() -> int:
    for study in STUDIES.values():
        small, paper = (study.scales[scale] for scale in ("small", "paper"))
        counts = [len(study.rows) - len(scale.without) for scale in (small, paper)]
        print(  # noqa: T201
            f"{study.name:<13} {study.title} ({study.source}); {counts[0]} rows small, "
            f"{counts[1]} as published, {small.seeds} seeds"
        )
    return 0


def _run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    plan = plans.make(
        options.study,
        options.scale,
        seeds=options.seeds,
        rows=options.rows,
        assignments=options.runtime_parameter,
        environment=environment,
        directory=os.getcwd(),
        rules=rules,
    )
    fingerprint = rules.fingerprint(plan.config)
    return session.carry_out(
        plan.config,
        _heading(plan),
        lambda out: _run_study(out, plan, fingerprint, options.keep_models),
    )


def _heading(plan: Plan) -> dict[str, str]:
    config = plan.config
    size = config.data.image_size
    form = f" at {size} x {size} pixels" if size else ""
    return {
        "study": f"{plan.study.name}, {plan.scale} scale: {plan.study.title} "
        f"({plan.study.source})",
        "data": f"{config.data.name}{form} ({plan.resolved.data_reason})",
        "rows": f"{len(plan.rows)} with {len(plan.seeds)} seed"
        f"{'s' if len(plan.seeds) > 1 else ''}: {len(plan.trainings)} trainings",
        "output": config.output_root,
    }


def _run_study(out: Any, plan: Plan, fingerprint: str, keep_models: bool) -> None:
    from pipeline import console, loading

    config = plan.config
    said = "loading TensorFlow and TFX"
    with console.RunDisplay(out, width=len(said)) as display:
        display.start(said)
        with loading.tfx():
            from components.example_gen import sources
            from pipeline.local.engine import Local
            from studies.dag import create_study
            from studies.runner import StudyRunner
            from trainer.strategy import prepare_devices

        prepare_devices(config.train)
        fingerprint = sources.fingerprint(config.data, fingerprint)
        pipeline = create_study(plan, fingerprint, Local(config))
        display.end("done")
        runner = StudyRunner(plan, display, keep_models=keep_models)
        runner.run(pipeline)
    folder = _publish(plan, runner.report)
    with open(os.path.join(folder, STUDY_FILES[-1]), "rb") as file:
        result = StudyResult.read(file, folder)
    out.print()
    console.print_lines(out, {claim.verdict: claim.text for claim in result.claims})
    console.print_lines(out, {"report": os.path.join(folder, STUDY_FILES[0])})


def _publish(plan: Plan, source: str) -> str:
    """Copies a run's report to where people look; returns the folder."""
    folder = Path(plan.config.output_root, plan.study.name)
    folder.mkdir(parents=True, exist_ok=True)
    for name in STUDY_FILES:
        temporary = folder / f".{name}.{os.getpid()}"
        try:
            shutil.copyfile(Path(source, name), temporary)
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
    return str(folder)


def _prune(options: argparse.Namespace) -> int:
    given = parse_assignments(options.runtime_parameter)
    unknown = given.keys() - {"output_root"}
    if unknown:
        raise ConfigError(f"{min(unknown)}: study prune takes output_root alone")
    project = Path(__file__).parents[1]
    start = os.getcwd() if "output_root" in given else str(project)
    root = os.path.join(absolute(given.get("output_root", "output"), start), FOLDER)
    if not os.path.isfile(database.path(root)):
        raise ConfigError(f"output_root={root}: no study has been run there")
    with exclusive(root):
        database.check(root)
        from ml_metadata.metadata_store import metadata_store
        from ml_metadata.proto import metadata_store_pb2

        from studies import kept

        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = database.path(root)
        modes = metadata_store_pb2.SqliteMetadataSourceConfig
        config.sqlite.connection_mode = modes.READONLY
        models, size = kept.prune(metadata_store.MetadataStore(config))
    print(f"removed {models} models, {size / 1e6:,.0f} MB")  # noqa: T201
    return 0
