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
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from components.example_gen import sources
from contract.config.vertex import VertexConfig
from contract.fields import ConfigError, to_dict
from contract.records import RUN_CONFIGURATION_FILE, run_of
from contract.run_facts import RunRecord
from pipeline.report import facts
from pipeline.resolve import resolve
from pipeline.vertex import hardware, parameters, rules
from pipeline.vertex.estimate import cost
from pipeline.vertex.overrides import assignment, decode

OVERRIDES, FIXED, TRAINING_JOBS = "overrides", "fixed", "training_jobs"
CONFIGURATION = "configuration"


class Executor(base_executor.BaseExecutor):
    """Resolves, checks, records and hands out."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the configuration and the values.

        Args:
            input_dict: Nothing.
            output_dict: `configuration`, and a value artifact per open parameter.
            exec_properties: `overrides`, `fixed` and `training_jobs`, JSON texts.

        Raises:
            contract.fields.ConfigError: The overrides cannot be used; one sentence.
            components.example_gen.errors.DataError: There are no such data.
        """
        began = time.time()
        self._log_startup(input_dict, output_dict, exec_properties)
        given = decode(exec_properties[OVERRIDES])
        fixed = json.loads(exec_properties[FIXED])
        resolved = resolve(
            [assignment(name, value) for name, value in {**fixed, **given}.items()],
            {},
            os.sep,
            rules,
        )
        config = resolved.config
        if config.vertex.budget_usd is not None:
            # An override may ask for more than was estimated when the run was submitted.
            cost.check_budget(config, cost.estimate(config))
        # Late: the DAG imports every component, this one too.
        from pipeline.dag import create_pipeline
        from pipeline.vertex.engine import Vertex

        pipeline = create_pipeline(
            config,
            sources.fingerprint(config.data),
            Vertex(config, json.loads(exec_properties[TRAINING_JOBS])),
        )
        values = {
            entry.key: entry.value for entry in parameters.open_parameters(pipeline)
        }
        other = values.keys() ^ (output_dict.keys() - {CONFIGURATION})
        if other:
            raise ConfigError(
                f"vertex.image_tag={config.vertex.image_tag}: the image's pipeline is not "
                f"the compiled one ({', '.join(sorted(other))}); compile it again with the "
                "release that the image holds"
            )
        configuration = artifact_utils.get_single_instance(output_dict[CONFIGURATION])
        for key in values:
            value = artifact_utils.get_single_instance(output_dict[key])
            fileio.makedirs(os.path.dirname(value.uri))
            value.value = values[key]
        gathered = facts.run_facts(to_dict(config), resolved.data_reason, began)
        record = RunRecord(
            run_id=run_of(configuration.uri),
            facts=dataclasses.replace(gathered, platform=_platform(config.vertex)),
            overrides=given,
            fixed=fixed,
        )
        fileio.makedirs(configuration.uri)
        path = os.path.join(configuration.uri, RUN_CONFIGURATION_FILE)
        with fileio.open(path, "w") as file:
            file.write(record.to_json(indent=2, sort_keys=True))


def _platform(vertex: VertexConfig) -> str:
    machine = hardware.of(vertex)
    accelerators = f" with {machine.accelerators}" if machine.accelerators else ""
    spot = ", spot" if vertex.spot else ""
    return (
        f"Vertex AI, {vertex.region}; Trainers on {machine.machine_type}"
        f"{accelerators}{spot}"
    )
