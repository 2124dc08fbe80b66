"""Work of VertexPush: registers, deploys, and writes down where the model is."""

from __future__ import annotations

from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.atomic_pusher import ledger
from contract import pushed_model as properties
from pipeline.vertex.steps.push.follow import follow
from pipeline.vertex.steps.push.patience import Patience
from pipeline.vertex.steps.push.settings import decode

SETTINGS = "settings"
PUSHED_MODEL, REGISTERED = "pushed_model", "registered"

_COPIED = (
    properties.DESTINATION,
    properties.VERSION,
    properties.NETWORK,
    properties.ROLE,
    properties.MODEL_URI,
)


class Executor(base_executor.BaseExecutor):
    """Follows a push with Model Registry and Endpoint."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Registers and deploys what was pushed, if anything was.

        Args:
            input_dict: `pushed_model`.
            output_dict: `registered`.
            exec_properties: `settings`, JSON of pipeline/vertex/steps/push/settings.py.

        Raises:
            PublishError: Vertex AI refused; what was pushed to the folder stays.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(input_dict[PUSHED_MODEL])
        registered = artifact_utils.get_single_instance(output_dict[REGISTERED])
        if not pushed.get_int_custom_property(properties.PUSHED):
            logging.warning("Nothing was pushed, so nothing is registered")
            registered.set_int_custom_property(properties.PUSHED, 0)
            return
        settings = decode(exec_properties[SETTINGS])
        uri, _, version = pushed.get_string_custom_property(
            properties.DESTINATION
        ).rpartition("/")
        outcome = follow(settings, ledger.open_folder(uri), int(version), Patience())
        for name in _COPIED:
            value = pushed.get_string_custom_property(name)
            if value:
                registered.set_string_custom_property(name, value)
        registered.set_int_custom_property(properties.PUSHED, 1)
        for name, value in outcome.items():
            if isinstance(value, int):
                registered.set_int_custom_property(name, value)
            else:
                registered.set_string_custom_property(name, value)
