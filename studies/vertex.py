"""A study on Vertex AI: its specification, compiled without an account or a network.

From the same table as a local run. Unlike a run's (pipeline/vertex/compile.py) it has no
first step that takes overrides: what the study does, and the digests of the code, are
those of the moment when it was compiled.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from contract.fields import ConfigError, parse_assignments
from pipeline.vertex import jobs, rules
from pipeline.vertex.commands import EXAMPLES
from pipeline.vertex.estimate import cost
from pipeline.vertex.estimate.prices import PRICES, Prices
from studies import plan as plans
from studies.plan import Plan


def compile_study(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Writes the specification of a study; `study ... --engine vertex`."""
    given = parse_assignments(options.runtime_parameter)
    examples = {name: EXAMPLES[name] for name in EXAMPLES if name not in given}
    plan = plans.make(
        options.study,
        options.scale,
        seeds=options.seeds,
        rows=options.rows,
        assignments=[
            *(f"{name}={value}" for name, value in examples.items()),
            *options.runtime_parameter,
        ],
        environment=environment,
        directory=os.getcwd(),
        rules=rules,
    )
    path = options.output or f"{plan.study.name}.json"
    if os.path.isdir(path):
        raise ConfigError(f"--output={path}: is a folder; give a file's name")
    hours, usd = training_cost(plan)
    budget = plan.config.vertex.budget_usd
    if budget is not None and usd > budget:
        raise ConfigError(
            f"vertex.budget_usd={budget:g}: the trainings of this study are estimated at "
            f"{usd:.2f} USD ({hours:.1f} hours of their machines); raise the budget, or "
            "choose fewer --rows or --seeds"
        )
    from pipeline.vertex import compile as compiler

    try:
        compiler.write(job_of(plan), path)
    except OSError as error:
        raise ConfigError(
            f"--output={path}: cannot be written ({error.strerror})"
        ) from error
    lines = [
        f"{len(plan.trainings)} training jobs at the same time, as far as the quota goes: "
        f"about {hours:.1f} hours of their machines, {usd:.2f} USD at list prices; the other "
        "steps come on top",
        f"written   {path}",
    ]
    if examples:
        said = ", ".join(f"{name}={value}" for name, value in examples.items())
        lines.append(f"submit    not before these examples are your own: {said}")
    print("\n".join(lines))  # noqa: T201
    return 0


def job_of(plan: Plan) -> dict[str, Any]:
    """The compiled PipelineJob as JSON: of the same plan and code the same value."""
    from pipeline.vertex import compile as compiler
    from pipeline.vertex.engine import Vertex
    from studies.dag import create_study

    config = plan.config
    names = [each.contender.name for each in plan.trainings]
    training_jobs = {name: jobs.training_job(config, name) for name in names}
    # Of data that lie in a bucket, the address: what is behind it is read in the run.
    pipeline = create_study(plan, config.data.path or "", Vertex(config, training_jobs))
    for node in pipeline.components:
        # A digest of each file says locally what was edited; here it need only differ, and
        # a specification has a size.
        properties = node.spec.exec_properties
        if (source := properties.get("source")) is not None:
            properties["source"] = _short(source)
        if (settings := properties.get("custom_config")) is not None:
            found = json.loads(settings)
            found["source"] = _short(found["source"])
            properties["custom_config"] = json.dumps(found, sort_keys=True)
    job = compiler.compiled(pipeline, config)
    compiler.belong_to_account(job, config.vertex)
    return job


def _short(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def training_cost(plan: Plan) -> tuple[float, float]:
    """Hours of the training jobs' machines, and USD, as pipeline/vertex/estimate has them."""
    prices = Prices.load(PRICES, plan.config.vertex.region)
    hours = usd = 0.0
    for each in plan.trainings:
        config = replace(plan.config, train=each.train)
        line = cost.job_line(
            config, cost.training(config, each.contender, prices), prices
        )
        hours += line.hours
        usd += line.usd
    return hours, usd
