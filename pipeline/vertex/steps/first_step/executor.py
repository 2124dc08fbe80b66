"""Work of RunConfiguration: from overrides to the parameters of every node.

In: the pipeline's parameter `overrides` and what was fixed when compiling. Out: run.json
and one value per open parameter (pipeline/vertex/parameters.py). The configuration is
resolved and checked by the code that a local run uses, before anything reads data.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time

from tfx.dsl.io import fileio
from tfx.types.value_artifact import ValueArtifact

from components.artifacts import RunConfiguration
from components.declaration import Output, executor_of
from components.example_gen import sources
from contract.config.vertex import VertexConfig
from contract.fields import ConfigError, assignment, to_dict
from contract.records import RUN_CONFIGURATION_FILE, run_of
from contract.run_facts import RunRecord
from pipeline.dag import create_pipeline
from pipeline.report import facts
from pipeline.resolve import resolve
from pipeline.vertex import hardware, parameters, rules
from pipeline.vertex.engine import Vertex
from pipeline.vertex.estimate import cost
from pipeline.vertex.overrides import decode


def settle(
    *,
    overrides: str,
    fixed: str,
    training_jobs: str,
    configuration: Output[RunConfiguration],
    **values: Output[ValueArtifact],
) -> None:
    """Turns the parameter `overrides` of a run into the parameters of all other nodes.

    Nothing is read before it has accepted the overrides.

    Args:
        overrides: JSON of the run's own overrides, see pipeline/vertex/overrides.py.
        fixed: JSON of the fields that are fixed when compiling.
        training_jobs: JSON: contender's name -> CustomJob, see pipeline/vertex/jobs.py.
        configuration: Gets run.json.
        **values: For each parameter that a run may change, added when the specification
            is compiled (pipeline/vertex/compile.py).

    Raises:
        contract.fields.ConfigError: The overrides cannot be used; one sentence.
        components.example_gen.errors.DataError: There are no such data.
    """
    began = time.time()
    given, constant = decode(overrides), json.loads(fixed)
    resolved = resolve(
        [assignment(name, value) for name, value in {**constant, **given}.items()],
        {},
        os.sep,
        rules,
    )
    config = resolved.config
    # An override may ask for more than was estimated when the run was submitted.
    cost.check_budget(config, cost.estimate(config))
    pipeline = create_pipeline(
        config,
        sources.fingerprint(config.data),
        Vertex(config, json.loads(training_jobs)),
    )
    found = {entry.key: entry.value for entry in parameters.open_parameters(pipeline)}
    if other := found.keys() ^ values.keys():
        raise ConfigError(
            f"vertex.image_tag={config.vertex.image_tag}: the image's pipeline is not "
            f"the compiled one ({', '.join(sorted(other))}); compile it again with the "
            "release that the image holds"
        )
    for key, artifact in values.items():
        fileio.makedirs(os.path.dirname(artifact.uri))
        artifact.value = found[key]
    gathered = facts.run_facts(to_dict(config), resolved.data_reason, began)
    record = RunRecord(
        run_id=run_of(configuration.uri),
        facts=dataclasses.replace(gathered, platform=_platform(config.vertex)),
        overrides=given,
        fixed=constant,
    )
    fileio.makedirs(configuration.uri)
    path = os.path.join(configuration.uri, RUN_CONFIGURATION_FILE)
    with fileio.open(path, "w") as file:
        file.write(record.to_json(indent=2, sort_keys=True))


Executor = executor_of(settle)


def _platform(vertex: VertexConfig) -> str:
    machine = hardware.of(vertex)
    accelerators = f" with {machine.accelerators}" if machine.accelerators else ""
    how = "" if vertex.scheduling == "on_demand" else f", {vertex.scheduling}"
    return (
        f"Vertex AI, {vertex.region}; Trainers on {machine.machine}{accelerators}{how}"
    )
