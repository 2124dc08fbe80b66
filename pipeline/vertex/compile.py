"""From the DAG to a pipeline job of Vertex AI, without an account or a network.

TFX's Kubeflow V2 compiler does the work; what it cannot say is said afterwards in the
JSON: which parameters are open until the run, what may be cached, what is retried.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2 import compiler_utils, kubeflow_v2_dag_runner
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Integer, String

from contract.config.run import RunConfig
from contract.config.vertex import VertexConfig
from pipeline.dag import create_pipeline
from pipeline.nodes import kind_of
from pipeline.vertex import images, jobs, overrides, parameters
from pipeline.vertex.engine import Vertex
from pipeline.vertex.steps.first_step.component import RunConfiguration

Json = dict[str, Any]

_ResourceSpec = (
    pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
)

# A job on spot capacity that Vertex AI has given up restarting is started once more, and
# goes on from its checkpoint. Other steps fail for a reason.
_SPOT_RETRY = {"maxRetryCount": 2, "backoffDuration": "300s", "backoffFactor": 2.0}

_ON_DATAFLOW = ("python", "-m", "pipeline.vertex.steps.on_dataflow")

_VALUE_TYPES = {
    str: (String, "STRING"),
    int: (Integer, "NUMBER_INTEGER"),
}


def compile_job(config: RunConfig, assignments: Mapping[str, str]) -> Json:
    """Compiles a run.

    Args:
        config: Complete and checked by pipeline/resolve.py with pipeline/vertex/rules.py.
        assignments: What it was resolved from, dotted name -> text; those that a run may
            change become the default of the pipeline's parameter.

    Returns:
        A PipelineJob as JSON: the same arguments give the same value.

    Raises:
        contract.fields.ConfigError: As `overrides.encode`.
    """
    training_jobs = {
        each.name: jobs.training_job(config, each.name)
        for each in config.all_contenders
    }
    # Nothing of this machine goes into the specification: the fingerprint of the data and
    # the digests of the code are open parameters.
    first = first_step(config, training_jobs)
    pipeline = create_pipeline(config, "", Vertex(config, training_jobs, first))
    _, free = overrides.split(assignments)
    default = overrides.encode(free)
    job = compiled(pipeline, config, {overrides.PARAMETER: default})
    specification = job["pipelineSpec"]
    root = specification["root"]["inputDefinitions"]["parameters"]
    root[overrides.PARAMETER] |= {"defaultValue": default, "isOptional": True}
    _leave_open(specification, parameters.open_parameters(pipeline))
    return job


def compiled(
    pipeline: Pipeline,
    config: RunConfig,
    values: dict[str, Any] | None = None,
) -> Json:
    """Compiles any DAG whose nodes pipeline/nodes.py knows.

    Args:
        pipeline: Built for the engine of Vertex AI.
        config: Complete and checked.
        values: Of the pipeline's parameters.
    """
    for node in pipeline.components:
        needed = kind_of(node.id).resources
        node.platform_config = _ResourceSpec(
            cpu_limit=needed.cpu, memory_limit=needed.memory_gb
        )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            display_name=config.pipeline_name,
            default_image=images.image(config.vertex, "pipeline"),
            use_pipeline_spec_2_1=True,
        )
    )
    job = runner.run(pipeline, parameter_values=values, write_out=False)
    specification = job["pipelineSpec"]
    _drop_beam_arguments(specification, pipeline)
    if config.vertex.beam == "dataflow":
        _take_jobs_along(specification)
    for name, task in specification["root"]["dag"]["tasks"].items():
        kind = kind_of(name)
        cached = config.enable_cache and kind.cached
        task["cachingOptions"] = {"enableCache": True} if cached else {}
        if config.vertex.scheduling == "spot" and kind.work == "training":
            task["retryPolicy"] = dict(_SPOT_RETRY)
    # After a failure no task is started any more. Those that run go on to their end, the
    # other Trainer with its job as well: `cancel` stops them.
    job["runtimeConfig"]["failurePolicy"] = "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    return job


def belong_to_account(job: Json, vertex: VertexConfig) -> None:
    """Adds what belongs to a run as a whole, and is no part of the DAG."""
    if vertex.service_account:
        job.setdefault("serviceAccount", vertex.service_account)
    if vertex.network:
        job.setdefault("network", vertex.network)
    if vertex.network_attachment:
        attachment = {"networkAttachment": vertex.network_attachment}
        job.setdefault("pscInterfaceConfig", attachment)
    if vertex.kms_key:
        job.setdefault("encryptionSpec", {"kmsKeyName": vertex.kms_key})


def first_step(config: RunConfig, training_jobs: Mapping[str, Any]) -> BaseNode:
    """The node that settles what a run does: reads the pipeline's parameter `overrides`."""
    return RunConfiguration(
        overrides=RuntimeParameter(name=overrides.PARAMETER, ptype=str),
        fixed=overrides.dumps(overrides.fixed(config)),
        training_jobs=overrides.dumps(training_jobs),
    )


def dumps(job: Json) -> str:
    """The text of a compiled job; the same job gives the same bytes."""
    return json.dumps(job, indent=2, sort_keys=True) + "\n"


def write(job: Json, path: str) -> None:
    """Writes a compiled job, whole or not at all; into a pipe or device as it is."""
    target = Path(path)
    if target.exists() and not target.is_file():
        target.write_text(dumps(job), encoding="utf-8")
        return
    target = target.resolve()  # a link stays one
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(dumps(job), encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _leave_open(specification: Json, entries: Iterable[parameters.Open]) -> None:
    """Lets tasks take parameters from RunConfiguration instead of holding them."""
    tasks = specification["root"]["dag"]["tasks"]
    first = specification["components"][parameters.FIRST]["outputDefinitions"]
    for entry in entries:
        kind, parameter_type = _VALUE_TYPES[type(entry.value)]
        # TFX's container writes an output parameter from the value artifact of its name.
        first["artifacts"][entry.key] = {
            "artifactType": {
                "instanceSchema": _text(compiler_utils.get_artifact_schema(kind))
            }
        }
        first.setdefault("parameters", {})[entry.key] = {
            "parameterType": parameter_type
        }
        task = tasks[entry.node]
        task["inputs"]["parameters"][entry.name] = {
            "taskOutputParameter": {
                "producerTask": parameters.FIRST,
                "outputParameterKey": entry.key,
            }
        }
        task["dependentTasks"] = sorted(
            {*task.get("dependentTasks", ()), parameters.FIRST}
        )


def _drop_beam_arguments(specification: Json, pipeline: Pipeline) -> None:
    """Takes Beam's options from steps that use no Beam; TFX gives them to all."""
    count = len(pipeline.beam_pipeline_args)
    executors = specification["deploymentSpec"]["executors"]
    for node in pipeline.components:
        if not isinstance(node.executor_spec, executor_spec.BeamExecutorSpec):
            arguments = executors[f"{node.id}_executor"]["container"]["args"]
            del arguments[len(arguments) - count :]


def _take_jobs_along(specification: Json) -> None:
    """Has the steps whose Beam is on Dataflow started by pipeline/vertex/steps/on_dataflow."""
    for name, executor in specification["deploymentSpec"]["executors"].items():
        if kind_of(name.removesuffix("_executor")).work == "beam":
            executor["container"]["command"] = [*_ON_DATAFLOW]


def _text(schema: str | bytes) -> str:
    return schema.decode() if isinstance(schema, bytes) else schema
