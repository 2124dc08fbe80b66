"""Work of the Trainer's step on Vertex AI: its job, from the first request to the end.

TFX's own executor only starts a job and asks for its state: when the step was stopped or
tried again, the job trained on, and a second one started on the same checkpoints.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from absl import logging
from tfx import types
from tfx.components.trainer import executor as tfx_trainer
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils, name_utils

from contract import signals
from contract.config.vertex import VertexConfig
from contract.records import run_of
from pipeline.vertex import place, remote
from pipeline.vertex.names import label
from pipeline.vertex.steps.train.attempts import Attempt
from pipeline.vertex.steps.train.follow import Follower, Stopped

# In a Trainer's custom_config: {"project", "region", "job": as pipeline/vertex/jobs.py has it}.
TRAINING_JOB = "training_job"

_Artifacts = dict[str, list[types.Artifact]]


class Executor(BaseExecutor):
    """Has TFX's Trainer run in a CustomJob; see follow.py for what happens to it."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains; the outputs' addresses become those of the attempt that did it.

        Args:
            input_dict: For TFX's Trainer.
            output_dict: For TFX's Trainer.
            exec_properties: For TFX's Trainer; its custom_config has TRAINING_JOB.

        Raises:
            VertexError: The job did not succeed.
            SystemExit: The step was told to end; so was its job.
        """
        settings = json_utils.loads(
            exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY]
        )
        wanted = settings[TRAINING_JOB]
        outputs = {key: artifact.uri for key, (artifact,) in output_dict.items()}
        run, node = _task(outputs)
        where = place.find(
            VertexConfig(project=wanted["project"], region=wanted["region"]), os.environ
        )
        record = FileRecord(
            os.path.join(settings["checkpoints"], f"{label(run)}-{label(node)}.json")
        )

        def describe(attempt: Attempt) -> dict[str, Any]:
            return _job(
                wanted["job"], input_dict, output_dict, exec_properties, attempt
            )

        told = threading.Event()
        with (
            signals.handled(lambda _: told.set()),
            remote.connect(where, logging.info) as jobs,
        ):
            follower = Follower(
                jobs,
                remote.of_node(run, node),
                record,
                remote.WallClock(),
                told.wait,
                logging.info,
            )
            work = _digest(wanted["job"], input_dict, exec_properties)
            try:
                attempt = follower.follow(work, outputs, describe)
            except Stopped:
                raise SystemExit(143) from None
        for key, (artifact,) in output_dict.items():
            artifact.uri = attempt.outputs[key]


def _task(outputs: Mapping[str, str]) -> tuple[str, str]:
    """Run and node, from where Vertex AI has the outputs written.

    That is <root>/<project number>/<run>/<node>_<number>/<output>.
    """
    uri = next(iter(outputs.values()))
    run = run_of(uri)
    task = uri.rstrip("/").split("/")[-2]
    if run is None or "_" not in task:
        raise ValueError(
            f"{uri}: must be <root>/<project number>/<run>/<node>_<number>/<output>, as "
            "Vertex AI has outputs written"
        )
    return run, task.rpartition("_")[0]


def _digest(job: Any, inputs: _Artifacts, properties: Mapping[str, Any]) -> str:
    """Of what a job does, wherever it writes."""
    what = [job, artifact_utils.jsonify_artifact_dict(inputs), dict(properties)]
    text = json.dumps(what, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _job(
    job: Mapping[str, Any],
    inputs: _Artifacts,
    outputs: _Artifacts,
    properties: Mapping[str, Any],
    attempt: Attempt,
) -> dict[str, Any]:
    """The CustomJob of an attempt: TFX's Trainer on the same inputs, outputs of its own."""
    own = copy.deepcopy(outputs)
    for key, (artifact,) in own.items():
        artifact.uri = attempt.outputs[key]
    command = [
        *("python", "-m", "tfx.scripts.run_executor"),
        "--executor_class_path",
        name_utils.get_full_name(tfx_trainer.GenericExecutor),
        "--inputs",
        artifact_utils.jsonify_artifact_dict(inputs),
        "--outputs",
        artifact_utils.jsonify_artifact_dict(own),
        "--exec-properties",
        json.dumps(dict(properties), sort_keys=True),
    ]
    described = copy.deepcopy(dict(job))
    for pool in described["job_spec"]["worker_pool_specs"]:
        pool["container_spec"]["command"] = command
    return described


@dataclass(frozen=True)
class FileRecord:
    """A JSON file in the bucket."""

    path: str

    def read(self) -> list[Attempt]:
        """See Record."""
        if not fileio.exists(self.path):
            return []
        with fileio.open(self.path, "r") as file:
            return [Attempt(**entry) for entry in json.loads(file.read())["attempts"]]

    def write(self, attempts: Sequence[Attempt]) -> None:
        """See Record; an object in a bucket appears whole, when it is closed."""
        entries = [asdict(attempt) for attempt in attempts]
        with fileio.open(self.path, "w") as file:
            file.write(json.dumps({"attempts": entries}, indent=2) + "\n")
