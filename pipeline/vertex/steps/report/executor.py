"""Work of the Report: the run's artifacts in, the page and report.json out."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import Annotated, Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.types import standard_artifacts

from components import artifacts, numbered
from components.declaration import Output, executor_of
from contract import pushed_model
from contract.contenders import MOST_CONTENDERS, names_in
from contract.records import RUN_CONFIGURATION_FILE
from contract.run_facts import RunRecord
from pipeline import nodes
from pipeline.history import ledger, published
from pipeline.report import build, render
from pipeline.vertex.parameters import FIRST
from pipeline.vertex.steps.report import experiment as experiments


class NotRegistered(Exception):
    """Something was published, or measured, that Vertex AI did not take."""


def _inputs() -> dict[str, Any]:
    """Input -> class of the artifact, with None if the report can do without."""
    found: dict[str, Any] = {}
    for row in nodes.KINDS.values():
        for output in row.outputs:
            name = output.type
            kind = getattr(artifacts, name, None) or getattr(standard_artifacts, name)
            if row.per_contender:
                found |= numbered.inputs(output.key, kind, MOST_CONTENDERS)
            else:
                found[output.part] = kind if output.needed else kind | None
    return found


def write_report(
    *,
    run_configuration: artifacts.RunConfiguration,
    directory: str,
    experiment: str | None = None,
    report: Output[artifacts.Report],
    **parts: Annotated[types.Artifact, _inputs()],
) -> None:
    """Writes the page and report.json where there is no ML Metadata store to ask.

    Locally the command line writes them, from ML Metadata, when all components are done;
    on Vertex AI this is the last component, but for a BatchPredict. It runs as well when
    nothing was pushed, but not when an earlier component failed. A report that cannot be
    made fails nothing: the run has done its work.

    Args:
        run_configuration: Tells run and configuration.
        directory: Folder that gets a copy of both files, each whole.
        experiment: JSON of experiment.py's settings; None: no experiment.
        report: Gets report.html and report.json, and what they say in short as custom
            properties, see components/artifacts.py.
        **parts: By `Part.input` of pipeline/nodes.py; the needed ones, and what else
            the report is to show. Contenders' numbers are those of the configuration.

    Raises:
        NotRegistered: The report is written; but VertexPush, before it, or the experiment,
            was refused, and the run is to be seen to have failed.
    """
    for key, value in _short(parts).items():
        report.set_string_custom_property(key, value)
    problem = ""
    refused: list[str] = []
    try:
        content = build.build(_run(run_configuration, parts))
        files = render.files(content)
        for folder in (report.uri, directory):
            _write(files, folder)
        logging.info("%s The whole report: %s", render.lead(content), report.uri)
        refused += _recorded(experiment, content)
    except Exception as error:
        # Whatever was to be trained, chosen and pushed has been: a page that cannot
        # be drawn must not turn that into a failed run.
        logging.exception("There is no report of this run")
        problem = f"{type(error).__name__}: {error}"
    report.set_string_custom_property("problem", problem)
    registered = parts.get("registered")
    if registered is not None and (
        sentence := registered.get_string_custom_property(
            pushed_model.REGISTRATION_PROBLEM
        )
    ):
        refused.append(f"VertexPush: {sentence}")
    if refused:
        raise NotRegistered("; ".join(refused))


Executor = executor_of(write_report)


def _recorded(experiment: str | None, content: build.Report) -> list[str]:
    """Records the run in Vertex AI Experiments; what was refused, in a sentence."""
    if experiment is None:
        return []
    settings = experiments.decode(experiment)
    try:
        names = experiments.record(settings, content)
    except Exception as error:
        logging.exception("The run is not in experiment %s", settings.experiment)
        sentence = " ".join(str(error).split()) or type(error).__name__
        return [f"vertex.experiment={settings.experiment}: {sentence}"]
    logging.info("Experiment %s has %s", settings.experiment, ", ".join(names))
    return []


def _short(parts: Mapping[str, types.Artifact]) -> dict[str, str]:
    """The verdict in a few words, which the engine shows with the artifact."""
    decision, pushed = parts["decision"], parts["pushed_model"]
    return {
        "winner": decision.get_string_custom_property("winner"),
        "reason": decision.get_string_custom_property("reason"),
        pushed_model.VERSION: pushed.get_string_custom_property(pushed_model.VERSION),
    }


def _run(
    configuration: artifacts.RunConfiguration, parts: Mapping[str, types.Artifact]
) -> build.Run:
    """What collect.py finds in ML Metadata, from the inputs."""
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
        for part in nodes.parts(names_in(facts.config)).values()
        if (artifact := parts.get(part.input)) is not None
    ]
    done = [FIRST, *(artifact.node for artifact in found)]
    return build.Run(
        id=told.run_id or "",
        facts=dataclasses.replace(facts, seconds=time.time() - facts.started),
        # They came to their end, or this one would not run. How long they took, and what
        # came from the cache, only the engine knows.
        components=[
            {"id": node, "state": "complete", "seconds": None, "cached": None}
            for node in dict.fromkeys(done)
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
