"""Work of the AtomicPusher: reads the blessings, publishes, records what happened."""

from __future__ import annotations

import os
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.atomic_pusher import publish

MODEL, MODEL_BLESSING, INFRA_BLESSING = "model", "model_blessing", "infra_blessing"
DESTINATION = "destination"
PUSHED_MODEL = "pushed_model"


class Executor(base_executor.BaseExecutor):
    """Pushes when all blessings are there."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes the model, or says why not.

        Args:
            input_dict: `model`, `model_blessing` and, optionally, `infra_blessing`.
            output_dict: `pushed_model`.
            exec_properties: `destination`, the folder of version folders.

        Raises:
            PublishError: The blessed model could not be published.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed_model = artifact_utils.get_single_instance(output_dict[PUSHED_MODEL])
        obstacle = _missing_blessing(input_dict)
        if obstacle:
            logging.warning("Nothing is pushed: %s", obstacle)
            pushed_model.set_int_custom_property("pushed", 0)
            return
        model = artifact_utils.get_single_instance(input_dict[MODEL])
        source = path_utils.serving_model_path(
            model.uri, path_utils.is_old_model_artifact(model)
        )
        destination = exec_properties[DESTINATION]
        version = publish.publish(source, destination)
        path = os.path.join(os.path.abspath(destination), str(version))
        logging.info("Pushed version %d to %s", version, path)
        # As TFX's Pusher does: the artifact keeps what was pushed, whatever becomes of
        # the serving folder.
        io_utils.copy_dir(source, pushed_model.uri)
        pushed_model.set_int_custom_property("pushed", 1)
        pushed_model.set_string_custom_property("pushed_destination", path)
        pushed_model.set_string_custom_property("pushed_version", str(version))
        # Which training it came from, for the next run's Resolver and for the history.
        for key in ("network", "role"):
            pushed_model.set_string_custom_property(
                key, model.get_string_custom_property(key)
            )
        pushed_model.set_int_custom_property(
            "model_id", model.get_int_custom_property("model_id")
        )


def _missing_blessing(input_dict: dict[str, list[types.Artifact]]) -> str | None:
    """Which blessing is missing, in words; None if all are there."""
    blessing = artifact_utils.get_single_instance(input_dict[MODEL_BLESSING])
    if not model_utils.is_model_blessed(blessing):
        return f"no contender was blessed (see {blessing.uri})"
    if input_dict.get(INFRA_BLESSING):
        canary = artifact_utils.get_single_instance(input_dict[INFRA_BLESSING])
        if not model_utils.is_infra_validated(canary):
            return f"the model did not pass the serving check (see {canary.uri})"
    return None
