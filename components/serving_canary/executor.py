"""Work of the ServingCanary: a model in, a verdict about serving it out."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.serving_canary import canary
from contract.config.canary import CanaryConfig
from contract.fields import from_json
from contract.records import CANARY_FILE

MODEL, MODEL_BLESSING, BLESSING = "model", "model_blessing", "blessing"
CONFIG, CLASS_NAMES, SOURCE = "config", "class_names", "source"

# As TFX's InfraValidator writes them, for whom a Pusher cannot tell the two apart. (Not
# imported from it: that loads the clients of Docker and Kubernetes.)
_BLESSED_PROPERTY = "blessed"
_MARKS = {True: "INFRA_BLESSED", False: "INFRA_NOT_BLESSED"}


class Executor(base_executor.BaseExecutor):
    """Tries the model, writes what was seen, blesses or not."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Tries the blessed model in a server.

        Args:
            input_dict: `model` and `model_blessing`, one artifact each.
            output_dict: `blessing`, one artifact.
            exec_properties: `config`, JSON of CanaryConfig; `class_names`, JSON list.

        Raises:
            components.serving_canary.server.ServerMissing: The configured server cannot
                be started on this machine, whatever the model.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = from_json(CanaryConfig, exec_properties[CONFIG])
        names = json.loads(exec_properties[CLASS_NAMES])
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        approved = artifact_utils.get_single_instance(input_dict[MODEL_BLESSING])
        if model_utils.is_model_blessed(approved):
            model = artifact_utils.get_single_instance(input_dict[MODEL])
            report = _check(model, names, config, blessing.uri)
        else:
            report = canary.nothing_to_check(config)
        for reason in report["reasons"]:
            logging.warning("The canary did not pass: %s", reason)
        io_utils.write_string_file(
            os.path.join(blessing.uri, CANARY_FILE),
            json.dumps(report, indent=2, allow_nan=False) + "\n",
        )
        blessing.set_string_custom_property("reasons", "; ".join(report["reasons"]))
        io_utils.write_string_file(
            os.path.join(blessing.uri, _MARKS[report["passed"]]), ""
        )
        blessing.set_int_custom_property(_BLESSED_PROPERTY, int(report["passed"]))


def _check(
    model: types.Artifact, names: list[str], config: CanaryConfig, output: str
) -> dict[str, Any]:
    source = path_utils.serving_model_path(
        model.uri, path_utils.is_old_model_artifact(model)
    )
    # A server reads local files, and so do the folders of artifacts on a local run.
    with tempfile.TemporaryDirectory(prefix="canary-files-") as folder:
        local, kept = Path(source), Path(folder, "kept")
        if "://" in source:
            local = Path(folder, "model")
            io_utils.copy_dir(source, str(local))
        kept.mkdir()
        report = canary.check(local, names, config, kept)
        for file in kept.iterdir():
            io_utils.copy_file(str(file), os.path.join(output, file.name))
    return report
