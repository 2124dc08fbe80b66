"""A recorded run as Vertex AI would hand it to the Report's container.

The container's entry point is TFX's own; the artifacts are copied to another file system,
so that nothing can be read but what is handed over.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.container import (
    kubeflow_v2_entrypoint_utils as entrypoint,
)
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from contract.contenders import names_in
from contract.records import RUN_CONFIGURATION_FILE
from contract.run_facts import RunRecord
from pipeline import nodes
from pipeline.report import build
from pipeline.vertex.steps.report.component import Report


def run(
    found: build.Run,
    bucket: str,
    scratch: Path,
    experiment: str | None = None,
    **changed: Any,
) -> tuple[dict[str, Any], str]:
    """Runs the container's entry point.

    Args:
        found: A run, as ML Metadata tells it.
        bucket: Address to copy the artifacts to; the report's copy goes to its "report".
        scratch: Folder for what the engine itself keeps.
        experiment: The component's parameter.
        **changed: Input -> its metadata, or None to leave it out.

    Returns:
        Metadata of the artifact and its address.
    """
    inputs = {
        "run_configuration": _runtime_artifact("run_configuration", bucket, {}),
    }
    write(
        os.path.join(inputs["run_configuration"]["uri"], RUN_CONFIGURATION_FILE),
        RunRecord(run_id=found.id, facts=found.facts).to_json().encode(),
    )
    outputs = {(artifact.node, artifact.key): artifact for artifact in found.artifacts}
    for name, part in nodes.parts(names_in(found.facts.config)).items():
        artifact = outputs.get((part.node, part.output.key))
        if artifact is None or changed.get(name, {}) is None:
            continue
        metadata = changed.get(name) or _travelled(artifact, part.input)
        inputs[part.input] = _runtime_artifact(part.input, bucket, metadata)
        _copy(artifact.uri, inputs[part.input]["uri"])
    report = _runtime_artifact("report", bucket, {})
    output_file = scratch / "executor_output.json"
    parameters = {"directory": f"{bucket}/report"}
    if experiment is not None:
        parameters["experiment"] = experiment
    invocation = {
        "inputs": {
            "artifacts": {key: {"artifacts": [value]} for key, value in inputs.items()},
            "parameterValues": parameters,
        },
        "outputs": {
            "artifacts": {"report": {"artifacts": [report]}},
            "outputFile": str(output_file),
        },
    }
    specification = {
        "parameters": {name: {"parameterType": "STRING"} for name in parameters}
    }
    kubeflow_v2_run_executor.main(
        (
            argparse.Namespace(
                executor_class_path="pipeline.vertex.steps.report.executor.Executor",
                json_serialized_invocation_args=json.dumps(invocation),
                json_serialized_inputs_spec_args=json.dumps(specification),
            ),
            [],
        )
    )
    told = json.loads(output_file.read_text())["artifacts"]["report"]["artifacts"][0]
    return told["metadata"], told["uri"]


def _runtime_artifact(name: str, bucket: str, metadata: dict) -> dict[str, Any]:
    kind = (Report.SPEC_CLASS.INPUTS | Report.SPEC_CLASS.OUTPUTS)[name].type
    schema = compiler_utils.get_artifact_schema(kind)
    return {
        "name": f"projects/1/locations/here/metadataStores/default/artifacts/{name}",
        "uri": f"{bucket}/artifacts/1/job/{name}",
        "type": {
            "instanceSchema": schema if isinstance(schema, str) else schema.decode()
        },
        "metadata": metadata,
    }


def _travelled(artifact: build.Artifact, name: str) -> dict[str, Any]:
    """Custom properties as they come out of the container that made the artifact."""
    made = Report.SPEC_CLASS.INPUTS[name].type()
    for key, value in artifact.properties.items():
        if isinstance(value, str):
            made.set_string_custom_property(key, value)
        else:
            made.set_int_custom_property(key, value)
    (found,) = entrypoint.translate_executor_output({"x": [made]}, {})["x"].artifacts
    return json.loads(json_format.MessageToJson(found.metadata))


def _copy(source: str, target: str) -> None:
    for folder, _, names in os.walk(source):
        for name in names:
            path = Path(folder, name)
            write(f"{target}/{path.relative_to(source)}", path.read_bytes())


_make_folder = functools.cache(tf.io.gfile.makedirs)


def write(path: str, content: bytes) -> None:
    _make_folder(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)


def read(path: str) -> str:
    with tf.io.gfile.GFile(path) as file:
        return file.read()
