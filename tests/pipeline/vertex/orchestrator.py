"""A stand-in for Vertex AI Pipelines: carries out a compiled job on this machine.

It does what the service does as far as a compiled specification can tell: tasks in the
order of their dependencies, an ExecutorInput per task made of what earlier tasks said in
their executor_output.json, the service's layout of folders, a cache by value, and refusal
of what does not fit together. Artifacts travel as JSON only, as there: whole numbers come
back as floating-point numbers.

What a container would run is given to a function, so that a test may run all of them in
one process (TensorFlow is imported once) or each in its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.io import fileio

PROJECT_NUMBER = "123456789012"
Json = dict[str, Any]

# JSON's types, by the names of ParameterType.
_TYPES = {
    "STRING": str,
    "NUMBER_INTEGER": float,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": bool,
}


class TaskFailed(Exception):
    """A container ended with an error; no later task was started."""

    def __init__(self, task: str, cause: BaseException) -> None:
        super().__init__(f"{task}: {cause}")
        self.task = task
        self.cause = cause


@dataclass(frozen=True)
class Container:
    """What a task runs."""

    task: str
    image: str
    command: list[str]
    args: list[str]


@dataclass
class Outcome:
    """What a task left."""

    artifacts: dict[str, Json]  # RuntimeArtifact by output key
    parameters: dict[str, Any]
    cached: bool = False


@dataclass
class Run:
    """A pipeline job that has ended."""

    id: str
    tasks: dict[str, Outcome] = field(default_factory=dict)  # in the order they ended
    executor_inputs: dict[str, Json] = field(default_factory=dict)

    @property
    def ran(self) -> list[str]:
        """The tasks whose containers ran."""
        return [name for name, outcome in self.tasks.items() if not outcome.cached]

    def uri(self, task: str, key: str) -> str:
        """Address of an artifact."""
        return self.tasks[task].artifacts[key]["uri"]


class Orchestrator:
    """Runs jobs; remembers results, as the service's cache does."""

    def __init__(self, start: Callable[[Container], None]) -> None:
        """Keeps how a container is run: returns when it has succeeded, else raises."""
        self._start = start
        self._cache: dict[str, Outcome] = {}
        self._numbers = itertools.count(1)

    def run(self, job: Json, parameters: Mapping[str, str] | None = None) -> Run:
        """Carries out a job.

        Args:
            job: PipelineJob as JSON.
            parameters: Values for this run, instead of those in the job.

        Raises:
            TaskFailed: A task did not succeed.
            ValueError: The specification does not fit together.
        """
        specification = job["pipelineSpec"]
        tasks = specification["root"]["dag"]["tasks"]
        values = self._pipeline_parameters(job, parameters or {})
        run = Run(f"{specification['pipelineInfo']['name']}-{next(self._numbers):014d}")
        root = job["runtimeConfig"]["gcsOutputDirectory"]
        for name in _order(tasks):
            task = tasks[name]
            component = specification["components"][task["componentRef"]["name"]]
            label = component["executorLabel"]
            executor = specification["deploymentSpec"]["executors"][label]["container"]
            folder = (
                f"{root}/{PROJECT_NUMBER}/{run.id}/{name}_{next(self._numbers):019d}"
            )
            inputs = _inputs(name, task, component, values, run)
            key = _cache_key(component, executor, inputs)
            cached = task.get("cachingOptions", {}).get("enableCache", False)
            if cached and key in self._cache:
                earlier = self._cache[key]
                run.tasks[name] = Outcome(earlier.artifacts, earlier.parameters, True)
                continue
            planned = self._outputs(component, folder)
            executor_input = {"inputs": inputs, "outputs": planned}
            run.executor_inputs[name] = executor_input
            _check_message(executor_input, pipeline_spec_pb2.ExecutorInput())
            container = Container(
                name,
                executor["image"],
                list(executor["command"]),
                [
                    arg.replace("{{$}}", json.dumps(executor_input))
                    for arg in executor["args"]
                ],
            )
            try:
                self._start(container)
            except Exception as error:
                raise TaskFailed(name, error) from error
            run.tasks[name] = _outcome(name, component, planned)
            self._cache[key] = run.tasks[name]
        return run

    def _pipeline_parameters(self, job: Json, given: Mapping[str, str]) -> Json:
        declared = job["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]
        unknown = given.keys() - declared.keys()
        if unknown:
            raise ValueError(f"no such pipeline parameter: {sorted(unknown)}")
        defaults = {
            name: definition["defaultValue"]
            for name, definition in declared.items()
            if "defaultValue" in definition
        }
        values = {
            **defaults,
            **job["runtimeConfig"].get("parameterValues", {}),
            **given,
        }
        missing = declared.keys() - values.keys()
        if missing:
            raise ValueError(f"pipeline parameters without value: {sorted(missing)}")
        return values

    def _outputs(self, component: Json, folder: str) -> Json:
        declared = component.get("outputDefinitions", {})
        artifacts = {
            key: {
                "artifacts": [
                    {
                        "name": f"projects/{PROJECT_NUMBER}/locations/us-central1/"
                        f"metadataStores/default/artifacts/{next(self._numbers)}",
                        "uri": f"{folder}/{key}",
                        "type": definition["artifactType"],
                        "metadata": definition.get("metadata", {}),
                    }
                ]
            }
            for key, definition in declared.get("artifacts", {}).items()
        }
        parameters = {
            key: {"outputFile": f"{folder}/{key}.parameter"}
            for key in declared.get("parameters", {})
        }
        return {
            "artifacts": artifacts,
            "parameters": parameters,
            "outputFile": f"{folder}/executor_output.json",
        }


def _order(tasks: Mapping[str, Json]) -> list[str]:
    """Names of the tasks, every one after those that it depends on."""
    waiting = {
        name: set(task.get("dependentTasks", ())) for name, task in tasks.items()
    }
    order: list[str] = []
    while waiting:
        ready = sorted(name for name, needs in waiting.items() if needs <= set(order))
        if not ready:
            raise ValueError(f"tasks depend on each other or on nothing: {waiting}")
        order.append(ready[0])
        del waiting[ready[0]]
    return order


def _inputs(
    name: str, task: Json, component: Json, values: Mapping[str, Any], run: Run
) -> Json:
    """What a task is given; refuses what the service would refuse."""
    declared = component.get("inputDefinitions", {})
    asked = task.get("inputs", {})
    _same_names(f"{name}: artifacts", declared, asked, "artifacts")
    _same_names(f"{name}: parameters", declared, asked, "parameters")
    parameters = {}
    for key, source in asked.get("parameters", {}).items():
        if "taskOutputParameter" in source:
            place = source["taskOutputParameter"]
            producer = place["producerTask"]
            _needs(name, task, producer)
            value = run.tasks[producer].parameters[place["outputParameterKey"]]
        elif "componentInputParameter" in source:
            value = values[source["componentInputParameter"]]
        else:
            value = source["runtimeValue"]["constant"]
        kind = declared["parameters"][key]["parameterType"]
        if not isinstance(
            value, int | float if _TYPES[kind] is float else _TYPES[kind]
        ):
            raise ValueError(f"{name}: parameter {key}={value!r} is no {kind}")
        parameters[key] = value
    artifacts = {}
    for key, source in asked.get("artifacts", {}).items():
        place = source["taskOutputArtifact"]
        producer = place["producerTask"]
        _needs(name, task, producer)
        artifact = run.tasks[producer].artifacts[place["outputArtifactKey"]]
        wanted = declared["artifacts"][key]["artifactType"]
        if artifact["type"] != wanted:
            raise ValueError(f"{name}: {key} is {artifact['type']}, not {wanted}")
        artifacts[key] = {"artifacts": [artifact]}
    return {"parameterValues": parameters, "artifacts": artifacts}


def _same_names(what: str, declared: Json, asked: Json, kind: str) -> None:
    left, right = set(declared.get(kind, {})), set(asked.get(kind, {}))
    if left != right:
        raise ValueError(f"{what}: declared and given differ: {sorted(left ^ right)}")


def _needs(name: str, task: Json, producer: str) -> None:
    if producer not in task.get("dependentTasks", ()):
        raise ValueError(f"{name}: takes from {producer} without depending on it")


def _outcome(name: str, component: Json, planned: Json) -> Outcome:
    """Reads what the container said, as the service does."""
    with fileio.open(planned["outputFile"], "r") as file:
        said = json.loads(file.read())
    _check_message(said, pipeline_spec_pb2.ExecutorOutput())
    artifacts = {}
    for key, entry in planned["artifacts"].items():
        (before,) = entry["artifacts"]
        (after,) = said.get("artifacts", {}).get(key, {"artifacts": [{}]})["artifacts"]
        artifacts[key] = {
            **before,
            "uri": after.get("uri", before["uri"]),
            "metadata": {**before["metadata"], **after.get("metadata", {})},
        }
    parameters = {}
    for key, definition in (
        component.get("outputDefinitions", {}).get("parameters", {}).items()
    ):
        if key not in said.get("parameterValues", {}):
            raise ValueError(f"{name}: output parameter {key} was not written")
        value = said["parameterValues"][key]
        if not isinstance(value, _TYPES[definition["parameterType"]]):
            raise ValueError(f"{name}: output parameter {key}={value!r}: wrong type")
        parameters[key] = value
    return Outcome(artifacts, parameters)


def _cache_key(component: Json, executor: Json, inputs: Json) -> str:
    """Equal for tasks that the service takes from its cache."""
    text = json.dumps([component, executor, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_message(value: Json, message: Any) -> None:
    """Refuses fields that the message has not."""
    json_format.ParseDict(value, message)
