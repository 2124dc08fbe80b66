"""Work of the Report: the run's artifacts in, the page and report.json out."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from contract import pushed_model
from contract.records import RUN_CONFIGURATION_FILE
from contract.run_facts import RunRecord
from pipeline.history import ledger, published
from pipeline.nodes import PARTS
from pipeline.report import build, render
from pipeline.vertex.parameters import FIRST

RUN_CONFIGURATION = "run_configuration"  # input, beside the parts
DIRECTORY = "directory"
REPORT = "report"


class Executor(base_executor.BaseExecutor):
    """Builds, writes, copies; and lets no run fail for its report."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the report.

        Args:
            input_dict: `run_configuration`, and parts by their names in
                pipeline/nodes.py.
            output_dict: `report`.
            exec_properties: `directory`, which gets a copy.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        output = artifact_utils.get_single_instance(output_dict[REPORT])
        for key, value in _short(input_dict).items():
            output.set_string_custom_property(key, value)
        problem = ""
        try:
            report = build.build(_run(input_dict))
            files = render.files(report)
            for folder in (output.uri, exec_properties[DIRECTORY]):
                _write(files, folder)
            logging.info("%s The whole report: %s", render.lead(report), output.uri)
        except Exception as error:
            # Whatever was to be trained, chosen and pushed has been: a page that cannot
            # be drawn must not turn that into a failed run.
            logging.exception("There is no report of this run")
            problem = f"{type(error).__name__}: {error}"
        output.set_string_custom_property("problem", problem)


def _short(input_dict: Mapping[str, list[types.Artifact]]) -> dict[str, str]:
    """The verdict in a few words, which the engine shows with the artifact."""
    decision = artifact_utils.get_single_instance(input_dict["decision"])
    pushed = artifact_utils.get_single_instance(input_dict["pushed_model"])
    return {
        "winner": decision.get_string_custom_property("winner"),
        "reason": decision.get_string_custom_property("reason"),
        pushed_model.VERSION: pushed.get_string_custom_property(pushed_model.VERSION),
    }


def _run(input_dict: Mapping[str, list[types.Artifact]]) -> build.Run:
    """What collect.py finds in ML Metadata, from the inputs."""
    configuration = artifact_utils.get_single_instance(input_dict[RUN_CONFIGURATION])
    path = os.path.join(configuration.uri, RUN_CONFIGURATION_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        told = RunRecord.read(file, path)
    facts = told.facts
    found = [
        build.Artifact(
            node=part.node,
            key=part.output.key,
            id=None,  # TFX makes a number of Vertex AI's name, which nobody can look up
            type=artifact.type_name,
            uri=artifact.uri,
            properties={
                key: artifact.get_custom_property(key)
                for key in artifact.mlmd_artifact.custom_properties
            },
        )
        for name, part in PARTS.items()
        for artifact in input_dict.get(name) or []
    ]
    nodes = [FIRST, *(artifact.node for artifact in found)]
    return build.Run(
        id=told.run_id or "",
        facts=dataclasses.replace(facts, seconds=time.time() - facts.started),
        # They came to their end, or this one would not run. How long they took, and what
        # came from the cache, only the engine knows.
        components=[
            {"id": node, "state": "complete", "seconds": None, "cached": None}
            for node in dict.fromkeys(nodes)
        ],
        artifacts=found,
        in_service=_in_service(facts.config),
    )


def _in_service(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the ledger names; None as well where it cannot be read."""
    where = published.places_of_run(config, config["output_root"])
    if not where.remote:
        return None
    try:
        return published.in_service(ledger.read(where), where)
    except published.HistoryError:
        logging.exception("The report cannot say what is in service")
        return None


def _write(texts: Mapping[str, str], folder: str) -> None:
    """Each file in the order given; an object appears, whole, when it is closed."""
    tf.io.gfile.makedirs(folder)
    for name, text in texts.items():
        with tf.io.gfile.GFile(os.path.join(folder, name), "w") as file:
            file.write(text)
